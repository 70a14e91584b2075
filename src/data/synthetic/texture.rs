//! Textures: how far a point lies between the two colours of a surface, 0..1.
//!
//! Edges inside of a texture are softened over one pixel, whose size in texture coordinates is `pixel`.

use std::f32::consts::TAU;

use super::colour::smooth;
use crate::rng::pcg4d;

/// A pattern over the plane; frequencies are cycles per unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Texture {
    /// One colour passing into the other from -1 to 1.
    Gradient { angle: f32 },
    /// Bands across a direction.
    Stripes { angle: f32, frequency: f32 },
    /// Squares.
    Checks { angle: f32, frequency: f32 },
    /// Discs on a square lattice.
    Dots { frequency: f32, size: f32 },
    /// Bricks with thin joints.
    Bricks { frequency: f32 },
    /// Sectors around the centre.
    Sectors { count: f32, turn: f32 },
    /// Circles around the centre.
    Circles { frequency: f32 },
    /// Soft noise of three octaves.
    Clouds { frequency: f32, seed: u32 },
    /// A disc in the middle.
    Core { radius: f32 },
}

impl Texture {
    /// The share of the second colour at a point.
    pub fn at(self, x: f32, y: f32, pixel: f32) -> f32 {
        match self {
            Texture::Gradient { angle } => smooth(-1.0, 1.0, x * angle.cos() + y * angle.sin()),
            Texture::Stripes { angle, frequency } => {
                wave((x * angle.cos() + y * angle.sin()) * frequency, pixel * frequency)
            }
            Texture::Checks { angle, frequency: f } => {
                let (sin, cos) = angle.sin_cos();
                let a = wave((x * cos + y * sin) * f, pixel * f);
                let b = wave((y * cos - x * sin) * f, pixel * f);
                a + b - 2.0 * a * b
            }
            Texture::Dots { frequency: f, size } => {
                let (u, v) = ((x * f).rem_euclid(1.0) - 0.5, (y * f).rem_euclid(1.0) - 0.5);
                edge(size * 0.5 - u.hypot(v), pixel * f)
            }
            Texture::Bricks { frequency: f } => bricks(x * f, y * f, pixel * f),
            Texture::Sectors { count, turn } => {
                let cycles = y.atan2(x) / TAU * count + turn;
                wave(cycles, pixel * count / (TAU * x.hypot(y).max(pixel)))
            }
            Texture::Circles { frequency } => wave(x.hypot(y) * frequency + 0.25, pixel * frequency),
            Texture::Clouds { frequency, seed } => clouds(x * frequency, y * frequency, seed),
            Texture::Core { radius } => edge(radius - x.hypot(y), pixel),
        }
    }

    /// With its frequency, if it has one, changed by a function; clouds and sectors keep theirs.
    pub fn slower(self, change: impl Fn(f32) -> f32) -> Texture {
        match self {
            Texture::Stripes { angle, frequency } => Texture::Stripes { angle, frequency: change(frequency) },
            Texture::Checks { angle, frequency } => Texture::Checks { angle, frequency: change(frequency) },
            Texture::Dots { frequency, size } => Texture::Dots { frequency: change(frequency), size },
            Texture::Bricks { frequency } => Texture::Bricks { frequency: change(frequency) },
            Texture::Circles { frequency } => Texture::Circles { frequency: change(frequency) },
            Texture::Clouds { frequency, seed } => Texture::Clouds { frequency: change(frequency), seed },
            other => other,
        }
    }
}

/// 0 outside, 1 inside, over one pixel.
fn edge(inside: f32, pixel: f32) -> f32 {
    (inside / pixel + 0.5).clamp(0.0, 1.0)
}

/// A square wave of period 1 with soft edges; fades to grey where it is finer than the pixels.
fn wave(cycles: f32, pixel: f32) -> f32 {
    let distance = 0.25 - (cycles.rem_euclid(1.0) - 0.5).abs();
    let sharp = edge(distance, pixel.max(1e-4));
    let fade = smooth(0.35, 0.7, pixel);
    sharp + (0.5 - sharp) * fade
}

/// Bricks twice as long as high, every second row shifted; 1 in the joints.
fn bricks(x: f32, y: f32, pixel: f32) -> f32 {
    let shift = if y.floor().rem_euclid(2.0) < 1.0 { 0.0 } else { 0.5 };
    let across = 0.5 - (y.rem_euclid(1.0) - 0.5).abs();
    let along = (0.5 - ((x * 0.5 + shift).rem_euclid(1.0) - 0.5).abs()) * 2.0;
    edge(0.09 - across.min(along), pixel.max(1e-4))
}

/// Sum of three octaves of value noise.
fn clouds(x: f32, y: f32, seed: u32) -> f32 {
    let octave = |scale: f32, weight: f32, salt: u32| weight * noise(x * scale, y * scale, seed ^ salt);
    smooth(0.15, 0.85, octave(1.0, 0.55, 0) + octave(2.0, 0.3, 0x51) + octave(4.0, 0.15, 0xa2))
}

/// Random numbers on the integer lattice, smoothly interpolated.
pub fn noise(x: f32, y: f32, seed: u32) -> f32 {
    let (fx, fy) = (x.floor(), y.floor());
    let (tx, ty) = (smooth(0.0, 1.0, x - fx), smooth(0.0, 1.0, y - fy));
    // One hash gives a cell's corner and its right, lower and lower right neighbour would need three more;
    // hashing each corner keeps neighbours equal.
    let corner = |dx: i32, dy: i32| {
        let word =
            pcg4d([(fx as i32).wrapping_add(dx) as u32, (fy as i32).wrapping_add(dy) as u32, seed, 77])[0];
        (word >> 8) as f32 / 16_777_216.0
    };
    let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * tx;
    let bottom = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * tx;
    top + (bottom - top) * ty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_between_the_colours() {
        let all = [
            Texture::Gradient { angle: 1.0 },
            Texture::Stripes { angle: 0.3, frequency: 3.0 },
            Texture::Checks { angle: 0.3, frequency: 3.0 },
            Texture::Dots { frequency: 4.0, size: 0.6 },
            Texture::Bricks { frequency: 5.0 },
            Texture::Sectors { count: 6.0, turn: 0.1 },
            Texture::Circles { frequency: 2.0 },
            Texture::Clouds { frequency: 3.0, seed: 9 },
            Texture::Core { radius: 0.3 },
        ];
        for texture in all {
            for i in 0..60 {
                for j in 0..60 {
                    let share = texture.at(i as f32 / 30.0 - 1.0, j as f32 / 30.0 - 1.0, 0.05);
                    assert!((0.0..=1.0).contains(&share), "{texture:?}: {share}");
                }
            }
        }
    }
}
