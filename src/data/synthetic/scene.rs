//! The drawing of lots for a scene: light, backdrop, palette, and one to six objects from back to front.
//!
//! Lengths are in units of the picture's side, y down; how fine they may be follows from the side in pixels
//! ([`Detail`]).

use std::f32::consts::{FRAC_PI_2, PI, TAU};

use super::colour::{Rgb, hsv};
use super::detail::Detail;
use super::shape::{SHAPES, Shape};
use super::texture::Texture;
use crate::rng::{Draws, Key};

/// Hues in the box that objects are painted from, as a child's are: what matters of an object is its shape, and the ids
/// of a small vocabulary are not spent on shades.
const PAINTS: f32 = 8.0;

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
    /// The scene of a key, with as much detail as a picture of a side holds.
    pub fn draw(key: Key, detail: Detail) -> Scene {
        let mut lots = Lots(key.draws());
        let from = lots.range(-0.85 * PI, -0.15 * PI);
        let hue = lots.range(0.0, 1.0);
        let backdrop = backdrop(&mut lots, hue, detail);
        let mut objects = objects(&mut lots, &backdrop, hue, detail);
        // What stands lower in the picture is nearer.
        objects.sort_by(|a, b| (a.centre[1] + a.radius).total_cmp(&(b.centre[1] + b.radius)));
        let clutter = clutter(&mut lots, &backdrop, detail);
        Scene { light: [from.cos(), from.sin()], backdrop, objects, clutter }
    }
}

fn backdrop(lots: &mut Lots, hue: f32, detail: Detail) -> Backdrop {
    match lots.below(5) {
        0 => outdoors(lots, hue, detail),
        1 | 2 => indoors(lots, hue, detail),
        _ => Backdrop { far: wall(lots, hue, detail), near: None },
    }
}

/// Sky over hilly or flat ground.
fn outdoors(lots: &mut Lots, hue: f32, detail: Detail) -> Backdrop {
    let sky = if lots.chance(0.7) { lots.range(0.52, 0.64) } else { hue };
    let (strength, high) = (lots.range(0.3, 0.55), lots.range(0.8, 0.95));
    let texture = match lots.chance(0.5) {
        true => Texture::Gradient { angle: FRAC_PI_2 },
        false => clouds(lots, detail, 1.5, 3.0),
    };
    let far = Surface { base: hsv(sky, strength, high), accent: hsv(sky, strength * 0.3, 0.97), texture };
    let ground = if lots.chance(0.6) { lots.range(0.07, 0.38) } else { hue };
    let surface = two_tones(lots, detail, ground, 0.4, 0.55, 0.22);
    let near = Ground {
        horizon: lots.range(0.4, 0.68),
        hills: if lots.chance(0.6) { lots.range(0.02, 0.08) } else { 0.0 },
        phase: lots.range(0.0, TAU),
        surface,
    };
    Backdrop { far, near: Some(near) }
}

/// A wall over a floor.
fn indoors(lots: &mut Lots, hue: f32, detail: Detail) -> Backdrop {
    let far = wall(lots, hue, detail);
    let floor_hue = hue + lots.range(-0.15, 0.15);
    let floor = two_tones(lots, detail, floor_hue, 0.28, 0.5, 0.22);
    let near = Ground { horizon: lots.range(0.55, 0.78), hills: 0.0, phase: 0.0, surface: floor };
    Backdrop { far, near: Some(near) }
}

fn wall(lots: &mut Lots, hue: f32, detail: Detail) -> Surface {
    let contrast = lots.range(0.08, 0.22);
    two_tones(lots, detail, hue, 0.28, 0.78, contrast)
}

/// A quiet surface of one hue in two brightnesses: what stands before it is to stand out.
fn two_tones(
    lots: &mut Lots,
    detail: Detail,
    hue: f32,
    saturation: f32,
    value: f32,
    contrast: f32,
) -> Surface {
    let s = (saturation + lots.range(-0.2, 0.2)).clamp(0.0, 1.0);
    let v = value + lots.range(-0.15, 0.15);
    let texture = match lots.chance(detail.plain) {
        true => Texture::Gradient { angle: lots.range(0.0, TAU) },
        false => background_texture(lots, detail),
    };
    let accent = hsv(hue + lots.range(-0.03, 0.03), s, (v - contrast).max(0.1));
    Surface { base: hsv(hue, s, v), accent, texture }
}

fn background_texture(lots: &mut Lots, detail: Detail) -> Texture {
    let angle = [0.0, FRAC_PI_2, PI * 0.25, PI * 0.75][lots.below(4) % 4];
    let kind = lots.below(7);
    let mut frequency = |low, high| detail.frequency(lots.range(low, high), 1.0);
    match kind {
        0 => Texture::Gradient { angle: lots.range(0.0, TAU) },
        1 => Texture::Stripes { angle, frequency: frequency(2.5, 6.0) },
        2 => Texture::Checks { angle, frequency: frequency(2.0, 4.5) },
        3 => Texture::Dots { frequency: frequency(3.5, 7.0), size: lots.range(0.45, 0.7) },
        4 => Texture::Bricks { frequency: frequency(5.0, 9.0) },
        _ => clouds(lots, detail, 2.0, 5.0),
    }
}

/// Clouds hold detail at a quarter of their period, but little of it.
fn clouds(lots: &mut Lots, detail: Detail, low: f32, high: f32) -> Texture {
    let frequency = 0.5 * detail.frequency(2.0 * lots.range(low, high), 1.0);
    Texture::Clouds { frequency, seed: lots.below(1 << 30) as u32 }
}

/// One to six objects; the first is the largest and near the middle.
fn objects(lots: &mut Lots, backdrop: &Backdrop, hue: f32, detail: Detail) -> Vec<Object> {
    let count = detail.objects.0 + lots.below(detail.objects.1 - detail.objects.0 + 1);
    let mut all: Vec<Object> = Vec::with_capacity(count);
    for i in 0..count {
        let shape = SHAPES[lots.below(SHAPES.len()) % SHAPES.len()];
        let (low, high) = if i == 0 { detail.first_radius } else { detail.other_radius };
        let radius = lots.range(low, high);
        let centre = free_place(lots, backdrop, &all, radius);
        // Hues near that of the backdrop are left out.
        let own = paint(hue + lots.range(0.15, 0.85));
        let angle = match shape {
            Shape::Tent | Shape::Heart => lots.range(-0.2, 0.2),
            _ => lots.range(-PI, PI),
        };
        let stretch = lots.range(0.85, 1.15);
        let surface = object_surface(lots, shape, own, radius, detail);
        all.push(Object { shape, centre, radius, angle, stretch, surface });
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

/// The nearest hue in the box.
fn paint(hue: f32) -> f32 {
    (hue * PAINTS).round() / PAINTS
}

/// The paint, and a neighbour, a tint or a shade of it; the texture is the typical one of the class in four of five cases.
fn object_surface(lots: &mut Lots, shape: Shape, hue: f32, radius: f32, detail: Detail) -> Surface {
    let base = hsv(hue, 0.85, 0.95);
    let accent = match lots.below(3) {
        0 => hsv(hue + 2.0 / PAINTS, 0.85, 0.95),
        1 => hsv(hue, 0.15, 0.97),
        _ => hsv(hue, 0.9, 0.4),
    };
    let texture = if lots.chance(0.8) { typical_texture(lots, shape) } else { any_texture(lots) };
    Surface { base, accent, texture: texture.slower(|f| detail.frequency(f, radius)) }
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

/// The patterns of backdrops on an object, which measures two units across instead of one.
fn any_texture(lots: &mut Lots) -> Texture {
    background_texture(lots, Detail::UNLIMITED).slower(|f| 0.4 * f)
}

/// Pebbles on the ground, or specks anywhere; in most scenes none.
fn clutter(lots: &mut Lots, backdrop: &Backdrop, detail: Detail) -> Vec<Speck> {
    if !lots.chance(detail.cluttered) {
        return Vec::new();
    }
    let (top, surface) = match &backdrop.near {
        Some(ground) => (ground.horizon + 0.06, ground.surface),
        None => (0.02, backdrop.far),
    };
    let count = 1 + lots.below(detail.specks);
    let (low, high) = detail.speck_radius;
    let mut speck = || {
        let colour = if lots.chance(0.5) {
            surface.accent.map(|v| v * 0.75)
        } else {
            surface.base.map(|v| 0.4 + 0.6 * v)
        };
        let centre = [lots.range(0.0, 1.0), lots.range(top, 1.0)];
        Speck { centre, radius: lots.range(low, high), colour }
    };
    (0..count).map(|_| speck()).collect()
}
