//! The outlines of the objects as signed distances: negative inside, in units of the object's radius.

use std::f32::consts::{FRAC_1_SQRT_2, PI, TAU};

/// What an object is; the number is its class in the segmentation map (0 is the background).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Shape {
    Ball = 1,
    Box,
    Tent,
    Ring,
    Star,
    Cross,
    Heart,
    Flower,
    Pill,
    Moon,
}

/// All shapes in the order of their classes.
pub const SHAPES: [Shape; 10] = [
    Shape::Ball,
    Shape::Box,
    Shape::Tent,
    Shape::Ring,
    Shape::Star,
    Shape::Cross,
    Shape::Heart,
    Shape::Flower,
    Shape::Pill,
    Shape::Moon,
];

impl Shape {
    /// Name of the class.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Ball => "ball",
            Shape::Box => "box",
            Shape::Tent => "tent",
            Shape::Ring => "ring",
            Shape::Star => "star",
            Shape::Cross => "cross",
            Shape::Heart => "heart",
            Shape::Flower => "flower",
            Shape::Pill => "pill",
            Shape::Moon => "moon",
        }
    }

    /// Signed distance of a point to the outline; y points down.
    pub fn distance(self, x: f32, y: f32) -> f32 {
        match self {
            Shape::Ball => x.hypot(y) - 0.95,
            Shape::Box => slab(x, y, 0.72, 0.72) - 0.1,
            Shape::Tent => tent(x, y),
            Shape::Ring => (x.hypot(y) - 0.68).abs() - 0.27,
            Shape::Star => star(x, y),
            Shape::Cross => slab(x, y, 0.86, 0.26).min(slab(x, y, 0.26, 0.86)) - 0.06,
            Shape::Heart => heart(x, y + 0.1),
            Shape::Flower => (x.hypot(y) - 0.74 - 0.22 * (5.0 * y.atan2(x)).cos()) * 0.8,
            Shape::Pill => slab(x, y, 0.55, 0.0) - 0.42,
            Shape::Moon => (x.hypot(y) - 0.95).max(0.8 - (x - 0.5).hypot(y + 0.15)),
        }
    }

    /// True for solids that are shaded like a ball rather than like a thick plate.
    pub fn is_round(self) -> bool {
        matches!(self, Shape::Ball | Shape::Moon)
    }
}

/// Distance to a rectangle of these half sides.
fn slab(x: f32, y: f32, w: f32, h: f32) -> f32 {
    let (dx, dy) = (x.abs() - w, y.abs() - h);
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0)
}

/// A triangle with its tip up.
fn tent(x: f32, y: f32) -> f32 {
    let side = x.abs() * 0.89 + (y + 0.9) * -0.456;
    side.max(y - 0.75) - 0.04
}

/// Five points; folded into one half point, whose edge is a line.
fn star(x: f32, y: f32) -> f32 {
    let sector = TAU / 5.0;
    let angle = x.atan2(-y); // 0 at the top
    let folded = (angle - sector * (angle / sector).round()).abs();
    let (radius, inner) = (x.hypot(y), 0.46);
    let (px, py) = (radius * folded.sin(), radius * folded.cos());
    let (ix, iy) = (inner * (PI / 5.0).sin(), inner * (PI / 5.0).cos());
    // The line from the tip (0, 1) to the inner corner, with its normal pointing outwards.
    let (nx, ny) = (1.0 - iy, ix);
    (px * nx + (py - 1.0) * ny) / nx.hypot(ny)
}

/// A square on its corner with a disc on each upper side.
fn heart(x: f32, y: f32) -> f32 {
    let half = 0.47;
    let (u, v) = ((x.abs() + y) * FRAC_1_SQRT_2, (y - x.abs()) * FRAC_1_SQRT_2);
    let disc = (x.abs() - half * FRAC_1_SQRT_2).hypot(y + half * FRAC_1_SQRT_2) - half * 1.04;
    slab(u, v, half, half).min(disc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outlines_lie_within_the_unit_circle_and_are_not_thin() {
        for shape in SHAPES {
            let mut inside = 0;
            for i in 0..100 {
                for j in 0..100 {
                    let (x, y) = (i as f32 / 40.0 - 1.25, j as f32 / 40.0 - 1.25);
                    let covered = shape.distance(x, y) < 0.0;
                    assert!(!covered || x.hypot(y) < 1.2, "{shape:?} at {x} {y}");
                    inside += usize::from(covered);
                }
            }
            assert!(inside > 600, "{shape:?} covers {inside} of 5027 cells of the disc");
        }
    }
}
