//! The drawing of lots for a scene: light, backdrop, palette, and two to six objects from back to front.
//!
//! Lengths are in units of the picture's side, y down; sizes in pixels enter only when it is rendered.

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use super::colour::{Rgb, hsv};
use super::shape::{SHAPES, Shape};
use super::texture::Texture;
use crate::rng::{Draws, Key};

/// Everything that determines a picture.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Unit vector towards the light; its y is negative (from above).
    pub light: [f32; 2],
    /// What stands behind the objects.
    pub backdrop: Backdrop,
    /// Objects from back to front.
    pub objects: Vec<Object>,
    /// Small things strewn about that belong to the background.
    pub clutter: Vec<Speck>,
}

/// The far plane, and the near one below the horizon where there is one.
#[derive(Debug, Clone)]
pub struct Backdrop {
    /// Wall or sky.
    pub far: Surface,
    /// Floor or ground.
    pub near: Option<Ground>,
}

/// A plane seen in perspective below a horizon.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Height of the horizon, from the top.
    pub horizon: f32,
    /// Amplitude of hills along it; 0 = straight.
    pub hills: f32,
    /// Phase of the hills.
    pub phase: f32,
    /// Its surface.
    pub surface: Surface,
}

/// Two colours and what lies between them.
#[derive(Debug, Clone, Copy)]
pub struct Surface {
    /// First colour.
    pub base: Rgb,
    /// Second colour.
    pub accent: Rgb,
    /// The pattern of the two.
    pub texture: Texture,
}

/// One object.
#[derive(Debug, Clone, Copy)]
pub struct Object {
    /// Outline and class.
    pub shape: Shape,
    /// Centre.
    pub centre: [f32; 2],
    /// Radius of the circle around it.
    pub radius: f32,
    /// Rotation.
    pub angle: f32,
    /// Height by width.
    pub stretch: f32,
    /// Its surface, in its own coordinates.
    pub surface: Surface,
}

/// A small disc.
#[derive(Debug, Clone, Copy)]
pub struct Speck {
    /// Centre.
    pub centre: [f32; 2],
    /// Radius.
    pub radius: f32,
    /// Colour.
    pub colour: Rgb,
}

/// Draws with the number type of this module.
struct Lots(Draws);

impl Lots {
    fn range(&mut self, low: f32, high: f32) -> f32 {
        self.0.range(f64::from(low), f64::from(high)) as f32
    }
    fn below(&mut self, n: usize) -> usize {
        self.0.below(n)
    }
    fn chance(&mut self, p: f64) -> bool {
        self.0.chance(p)
    }
}

impl Scene {
    /// The scene of a key.
    pub fn draw(key: Key) -> Scene {
        let mut lots = Lots(key.draws());
        let from = lots.range(-0.85 * PI, -0.15 * PI);
        let hue = lots.range(0.0, 1.0);
        let backdrop = backdrop(&mut lots, hue);
        let mut objects = objects(&mut lots, &backdrop, hue);
        // What stands lower in the picture is nearer.
        objects.sort_by(|a, b| (a.centre[1] + a.radius).total_cmp(&(b.centre[1] + b.radius)));
        let clutter = clutter(&mut lots, &backdrop);
        Scene { light: [from.cos(), from.sin()], backdrop, objects, clutter }
    }
}

fn backdrop(lots: &mut Lots, hue: f32) -> Backdrop {
    match lots.below(5) {
        0 => outdoors(lots, hue),
        1 | 2 => indoors(lots, hue),
        _ => Backdrop { far: wall(lots, hue), near: None },
    }
}

/// Sky over hilly or flat ground.
fn outdoors(lots: &mut Lots, hue: f32) -> Backdrop {
    let sky = if lots.chance(0.7) { lots.range(0.52, 0.64) } else { hue };
    let (strength, high) = (lots.range(0.35, 0.75), lots.range(0.75, 0.95));
    let texture = match lots.chance(0.5) {
        true => Texture::Gradient { angle: FRAC_PI_2 },
        false => Texture::Clouds { frequency: lots.range(1.5, 3.0), seed: lots.below(1 << 30) as u32 },
    };
    let far = Surface { base: hsv(sky, strength, high), accent: hsv(sky, strength * 0.3, 0.97), texture };
    let ground = if lots.chance(0.6) { lots.range(0.07, 0.38) } else { hue };
    let surface = two_tones(lots, ground, 0.5, 0.55, 0.25);
    let near = Ground {
        horizon: lots.range(0.4, 0.68),
        hills: if lots.chance(0.6) { lots.range(0.02, 0.08) } else { 0.0 },
        phase: lots.range(0.0, TAU),
        surface,
    };
    Backdrop { far, near: Some(near) }
}

/// A wall over a floor.
fn indoors(lots: &mut Lots, hue: f32) -> Backdrop {
    let far = wall(lots, hue);
    let floor_hue = hue + lots.range(-0.15, 0.15);
    let floor = two_tones(lots, floor_hue, 0.35, 0.6, 0.3);
    let near = Ground { horizon: lots.range(0.55, 0.78), hills: 0.0, phase: 0.0, surface: floor };
    Backdrop { far, near: Some(near) }
}

fn wall(lots: &mut Lots, hue: f32) -> Surface {
    let contrast = lots.range(0.08, 0.3);
    let mut surface = two_tones(lots, hue, 0.4, 0.72, contrast);
    if lots.chance(0.35) {
        surface.texture = Texture::Gradient { angle: lots.range(0.0, TAU) };
    }
    surface
}

/// A textured surface of one hue in two brightnesses.
fn two_tones(lots: &mut Lots, hue: f32, saturation: f32, value: f32, contrast: f32) -> Surface {
    let s = (saturation + lots.range(-0.2, 0.3)).clamp(0.0, 1.0);
    let v = (value + lots.range(-0.2, 0.2)).clamp(0.15, 1.0);
    let darker = (v - contrast).max(0.08);
    let texture = background_texture(lots);
    Surface { base: hsv(hue, s, v), accent: hsv(hue + lots.range(-0.05, 0.05), s, darker), texture }
}

fn background_texture(lots: &mut Lots) -> Texture {
    let angle = [0.0, FRAC_PI_2, PI * 0.25, PI * 0.75][lots.below(4) % 4];
    match lots.below(7) {
        0 => Texture::Gradient { angle: lots.range(0.0, TAU) },
        1 => Texture::Stripes { angle, frequency: lots.range(2.5, 6.0) },
        2 => Texture::Checks { angle, frequency: lots.range(2.0, 4.5) },
        3 => Texture::Dots { frequency: lots.range(3.5, 7.0), size: lots.range(0.45, 0.7) },
        4 => Texture::Bricks { frequency: lots.range(5.0, 9.0) },
        _ => Texture::Clouds { frequency: lots.range(2.0, 5.0), seed: lots.below(1 << 30) as u32 },
    }
}

/// Two to six objects; the first is the largest and near the middle.
fn objects(lots: &mut Lots, backdrop: &Backdrop, hue: f32) -> Vec<Object> {
    let count = 2 + lots.below(5);
    let mut all: Vec<Object> = Vec::with_capacity(count);
    for i in 0..count {
        let shape = SHAPES[lots.below(SHAPES.len()) % SHAPES.len()];
        let radius = if i == 0 { lots.range(0.22, 0.34) } else { lots.range(0.1, 0.2) };
        let centre = free_place(lots, backdrop, &all, radius);
        // Opposite hues stand out; a third of a turn on either side is left to them.
        let own = hue + lots.range(0.2, 0.8);
        let angle = match shape {
            Shape::Tent | Shape::Heart => lots.range(-0.2, 0.2),
            _ => lots.range(-PI, PI),
        };
        let stretch = lots.range(0.85, 1.15);
        all.push(Object { shape, centre, radius, angle, stretch, surface: object_surface(lots, shape, own) });
    }
    all
}

/// A centre that leaves the earlier objects partly visible, after a few tries.
fn free_place(lots: &mut Lots, backdrop: &Backdrop, others: &[Object], radius: f32) -> [f32; 2] {
    let spread = if others.is_empty() { 0.17 } else { 0.42 };
    let low = backdrop.near.as_ref().map_or(0.5, |g| g.horizon.max(0.5) - 0.3 * radius);
    let mut centre = [0.5; 2];
    for _ in 0..8 {
        centre = [0.5 + lots.range(-spread, spread), low + lots.range(-spread, spread)];
        centre[1] = centre[1].min(1.0 - 0.6 * radius);
        let clear = |o: &Object| {
            let distance = (o.centre[0] - centre[0]).hypot(o.centre[1] - centre[1]);
            distance > 0.75 * (o.radius + radius)
        };
        if others.iter().all(clear) {
            break;
        }
    }
    centre
}

/// Saturated colours; the texture is the typical one of the class in four of five cases.
fn object_surface(lots: &mut Lots, shape: Shape, hue: f32) -> Surface {
    let base = hsv(hue, lots.range(0.6, 0.95), lots.range(0.65, 1.0));
    let accent = match lots.below(3) {
        0 => hsv(hue + lots.range(0.1, 0.2), lots.range(0.6, 0.95), lots.range(0.7, 1.0)),
        1 => hsv(hue, lots.range(0.05, 0.3), lots.range(0.88, 1.0)),
        _ => hsv(hue, lots.range(0.7, 1.0), lots.range(0.25, 0.45)),
    };
    let texture =
        if lots.chance(0.8) { typical_texture(lots, shape) } else { background_texture(lots).coarser() };
    Surface { base, accent, texture }
}

fn typical_texture(lots: &mut Lots, shape: Shape) -> Texture {
    match shape {
        Shape::Ball => Texture::Stripes { angle: lots.range(0.0, PI), frequency: lots.range(0.8, 1.4) },
        Shape::Box => Texture::Checks { angle: 0.0, frequency: lots.range(0.9, 1.5) },
        Shape::Tent => Texture::Stripes { angle: 0.0, frequency: lots.range(1.2, 2.0) },
        Shape::Ring => Texture::Sectors { count: (3 + lots.below(4)) as f32, turn: lots.range(0.0, 1.0) },
        Shape::Star => Texture::Circles { frequency: lots.range(0.8, 1.4) },
        Shape::Cross => Texture::Gradient { angle: lots.range(0.0, TAU) },
        Shape::Heart => Texture::Dots { frequency: lots.range(1.8, 2.6), size: lots.range(0.45, 0.65) },
        Shape::Flower => Texture::Core { radius: lots.range(0.28, 0.4) },
        Shape::Pill => Texture::Stripes { angle: 0.0, frequency: 0.5 },
        Shape::Moon => Texture::Clouds { frequency: lots.range(1.5, 2.5), seed: lots.below(1 << 30) as u32 },
    }
}

impl Texture {
    /// A background pattern on an object, which measures two units across instead of one.
    fn coarser(self) -> Texture {
        match self {
            Texture::Stripes { angle, frequency } => Texture::Stripes { angle, frequency: frequency * 0.3 },
            Texture::Checks { angle, frequency } => Texture::Checks { angle, frequency: frequency * 0.35 },
            Texture::Dots { frequency, size } => Texture::Dots { frequency: frequency * 0.4, size },
            Texture::Bricks { frequency } => Texture::Bricks { frequency: frequency * 0.4 },
            Texture::Clouds { frequency, seed } => Texture::Clouds { frequency: frequency * 0.5, seed },
            other => other,
        }
    }
}

/// Pebbles on the ground, or specks anywhere; in half of the scenes none.
fn clutter(lots: &mut Lots, backdrop: &Backdrop) -> Vec<Speck> {
    if lots.chance(0.5) {
        return Vec::new();
    }
    let (top, surface) = match &backdrop.near {
        Some(ground) => (ground.horizon + 0.06, ground.surface),
        None => (0.02, backdrop.far),
    };
    let count = 4 + lots.below(10);
    let mut speck = || {
        let colour = if lots.chance(0.5) {
            surface.accent.map(|v| v * 0.75)
        } else {
            surface.base.map(|v| 0.4 + 0.6 * v)
        };
        let centre = [lots.range(0.0, 1.0), lots.range(top, 1.0)];
        Speck { centre, radius: lots.range(0.012, 0.03), colour }
    };
    (0..count).map(|_| speck()).collect()
}
