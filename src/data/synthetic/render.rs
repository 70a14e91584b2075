//! From a scene to pixels: backdrop, then every object with its shadow, shading and soft outline.

use super::colour::{Rgb, lit, mix, smooth};
use super::scene::{Backdrop, Ground, Object, Scene, Speck, Surface};
use crate::data::picture::Picture;

/// Depth of an object's bevelled rim, in its radii.
const RIM: f32 = 0.16;
/// Darkness of a shadow in its middle.
const SHADOW: f32 = 0.5;

/// A rendered scene.
pub struct Rendered {
    /// The picture.
    pub picture: Picture,
    /// Class of every pixel, row-major; 0 = background.
    pub segmentation: Vec<u8>,
}

/// Colours and classes under construction, `[side, side]`.
struct Canvas {
    side: usize,
    colours: Vec<Rgb>,
    classes: Vec<u8>,
}

/// Renders a scene as a square picture.
pub fn render(scene: &Scene, side: usize) -> Rendered {
    let mut canvas = Canvas { side, colours: backdrop(scene, side), classes: vec![0; side * side] };
    for speck in &scene.clutter {
        canvas.speck(speck);
    }
    for object in &scene.objects {
        canvas.shadow(object, scene.light);
        canvas.object(object, scene.light);
    }
    let rgb = canvas.colours.iter().flatten().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect();
    Rendered { picture: Picture { width: side, height: side, rgb }, segmentation: canvas.classes }
}

fn backdrop(scene: &Scene, side: usize) -> Vec<Rgb> {
    let pixel = 1.0 / side as f32;
    let mut colours = Vec::with_capacity(side * side);
    for row in 0..side {
        for column in 0..side {
            let (x, y) = ((column as f32 + 0.5) * pixel, (row as f32 + 0.5) * pixel);
            let colour = backdrop_at(&scene.backdrop, x, y, pixel);
            // It is a little brighter on the side of the light.
            let towards = (x - 0.5) * scene.light[0] + (y - 0.5) * scene.light[1];
            colours.push(lit(colour, 0.95 + 0.22 * towards));
        }
    }
    colours
}

fn backdrop_at(backdrop: &Backdrop, x: f32, y: f32, pixel: f32) -> Rgb {
    let Some(ground) = &backdrop.near else { return plane(&backdrop.far, x, y, pixel) };
    let below = y - horizon(ground, x);
    let share = (below / pixel + 0.5).clamp(0.0, 1.0);
    let far = if share < 1.0 { plane(&backdrop.far, x, y, pixel) } else { [0.0; 3] };
    let near = if share > 0.0 { perspective(ground, x, below.max(0.0), pixel) } else { [0.0; 3] };
    mix(far, near, share)
}

fn horizon(ground: &Ground, x: f32) -> f32 {
    ground.horizon + ground.hills * ((x * 7.0 + ground.phase).sin() + 0.5 * (x * 13.0 - ground.phase).sin())
}

/// A plane at a right angle to the view; textures are centred.
fn plane(surface: &Surface, x: f32, y: f32, pixel: f32) -> Rgb {
    let share = surface.texture.at(2.0 * (x - 0.5) * 0.5, 2.0 * (y - 0.5) * 0.5, pixel);
    mix(surface.base, surface.accent, share)
}

/// The ground `below` the horizon: the nearer to it, the farther away and the finer its texture.
fn perspective(ground: &Ground, x: f32, below: f32, pixel: f32) -> Rgb {
    let depth = 0.36 / (below + 0.14);
    let footprint = pixel * depth * (1.0 + depth);
    let share = ground.surface.texture.at((x - 0.5) * depth, depth * 1.2, footprint);
    let colour = mix(ground.surface.base, ground.surface.accent, share);
    lit(colour, 0.82 + 0.25 * smooth(0.0, 0.4, below))
}

impl Canvas {
    /// Calls `paint` for the pixels in a square around `centre`, with their coordinates.
    fn around(&mut self, centre: [f32; 2], reach: f32, mut paint: impl FnMut(f32, f32, &mut Rgb, &mut u8)) {
        let side = self.side;
        let pixel = 1.0 / side as f32;
        let span = |c: f32| {
            let low = ((c - reach) * side as f32).floor().max(0.0) as usize;
            let high = ((c + reach) * side as f32).ceil().max(0.0) as usize;
            low.min(side)..high.min(side)
        };
        let (columns, rows) = (span(centre[0]), span(centre[1]));
        for row in rows {
            let place = row * side + columns.start..row * side + columns.end;
            let colours = self.colours.get_mut(place.clone()).unwrap_or(&mut []);
            let classes = self.classes.get_mut(place).unwrap_or(&mut []);
            let y = (row as f32 + 0.5) * pixel;
            for ((column, colour), class) in columns.clone().zip(colours).zip(classes) {
                paint((column as f32 + 0.5) * pixel, y, colour, class);
            }
        }
    }

    fn speck(&mut self, speck: &Speck) {
        let pixel = 1.0 / self.side as f32;
        self.around(speck.centre, speck.radius + pixel, |x, y, colour, _| {
            let distance = (x - speck.centre[0]).hypot((y - speck.centre[1]) * 1.3) - speck.radius;
            *colour = mix(*colour, speck.colour, (0.5 - distance / pixel).clamp(0.0, 1.0));
        });
    }

    /// A soft copy of the outline, moved away from the light.
    fn shadow(&mut self, object: &Object, light: [f32; 2]) {
        let throw = 0.28 * object.radius;
        let centre = [object.centre[0] - light[0] * throw, object.centre[1] - light[1] * throw];
        let cast = Object { centre, ..*object };
        self.around(centre, object.radius * 1.5, |x, y, colour, _| {
            let (u, v) = cast.local(x, y);
            let dark = SHADOW * (1.0 - smooth(-0.25, 0.25, object.shape.distance(u, v)));
            *colour = colour.map(|c| c * (1.0 - dark));
        });
    }

    fn object(&mut self, object: &Object, light: [f32; 2]) {
        // Size of a pixel in the object's coordinates.
        let pixel = 1.0 / (self.side as f32 * object.radius);
        self.around(object.centre, object.radius * 1.3, |x, y, colour, class| {
            let (u, v) = object.local(x, y);
            let distance = object.shape.distance(u, v);
            let cover = (0.5 - distance / pixel).clamp(0.0, 1.0);
            if cover > 0.0 {
                *colour = mix(*colour, object.colour_at((u, v), distance, pixel, light), cover);
            }
            if distance < 0.0 {
                *class = object.shape as u8;
            }
        });
    }
}

impl Object {
    /// Picture coordinates to the object's own, in radii.
    fn local(&self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = ((x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius);
        let (sin, cos) = self.angle.sin_cos();
        (dx * cos + dy * sin, (dy * cos - dx * sin) / self.stretch)
    }

    fn colour_at(&self, (u, v): (f32, f32), distance: f32, pixel: f32, light: [f32; 2]) -> Rgb {
        let share = self.surface.texture.at(u, v, pixel);
        let colour = mix(self.surface.base, self.surface.accent, share);
        // The light turned into the object's coordinates.
        let (sin, cos) = self.angle.sin_cos();
        let l = [light[0] * cos + light[1] * sin, light[1] * cos - light[0] * sin];
        lit(
            colour,
            if self.shape.is_round() { ball_light(u, v, l) } else { self.plate_light(u, v, distance, l) },
        )
    }

    /// A plate: bright and dark rims, and a slow change across.
    fn plate_light(&self, u: f32, v: f32, distance: f32, l: [f32; 2]) -> f32 {
        let slope = 0.94 + 0.16 * (u * l[0] + v * l[1]);
        if distance < -RIM {
            return slope;
        }
        // The outline's normal by differences.
        let step = 0.03;
        let across = self.shape.distance(u + step, v) - self.shape.distance(u - step, v);
        let along = self.shape.distance(u, v + step) - self.shape.distance(u, v - step);
        let facing = (across * l[0] + along * l[1]) / (across.hypot(along) + 1e-6);
        slope + 0.32 * facing * smooth(-RIM, 0.0, distance)
    }
}

/// A ball: diffuse light on its round front and a small highlight.
fn ball_light(u: f32, v: f32, l: [f32; 2]) -> f32 {
    let height = (1.0 - u * u - v * v).max(0.0).sqrt();
    let facing = 0.62 * (u * l[0] + v * l[1]) + 0.78 * height;
    let glint = smooth(0.93, 1.0, facing);
    0.38 + 0.66 * facing.max(0.0) + 0.45 * glint
}
