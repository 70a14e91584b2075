//! Affine movements of a picture with Pillow's bicubic sampling.

use crate::data::picture::Picture;

/// `x' = a·x + b·y + c`, `y' = d·x + e·y + f`: where in the source an output pixel is taken from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine(pub [f64; 6]);

impl Affine {
    /// Counter-clockwise by `degrees` about the middle of a picture.
    pub fn rotation(degrees: f64, width: f64, height: f64) -> Affine {
        let (sin, cos) = (-degrees.to_radians()).sin_cos();
        let (x, y) = (width / 2.0, height / 2.0);
        Affine([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
    }
}

/// Samples a picture of the same size; what lies outside gets the `fill` colour.
pub fn transform(picture: &Picture, map: Affine, fill: [u8; 3]) -> Picture {
    let Affine([a, b, c, d, e, f]) = map;
    let (w, h) = (picture.width, picture.height);
    let mut rgb = Vec::with_capacity(picture.rgb.len());
    for row in 0..h {
        for column in 0..w {
            let (x, y) = (column as f64 + 0.5, row as f64 + 0.5);
            let (sx, sy) = (a * x + b * y + c, d * x + e * y + f);
            let inside = sx >= 0.0 && sy >= 0.0 && sx < w as f64 && sy < h as f64;
            rgb.extend(if inside { sample(picture, sx - 0.5, sy - 0.5) } else { fill });
        }
    }
    Picture { width: w, height: h, rgb }
}

/// Cubic interpolation of a 4 × 4 neighbourhood; edges are repeated.
fn sample(picture: &Picture, x: f64, y: f64) -> [u8; 3] {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let at = |first: f64, i: i64, size: usize| (first as i64 + i).clamp(0, size as i64 - 1) as usize;
    let columns = [-1, 0, 1, 2].map(|i| at(left, i, picture.width));
    let rows = [-1, 0, 1, 2].map(|i| at(top, i, picture.height));
    [0, 1, 2].map(|channel| {
        let value = |r: usize, c: usize| {
            f64::from(picture.rgb.get((r * picture.width + c) * 3 + channel).copied().unwrap_or(0))
        };
        let lines = rows.map(|r| cubic(columns.map(|c| value(r, c)), dx));
        // truncated like Pillow's; the cast saturates
        cubic(lines, dy) as u8
    })
}

/// Cubic convolution with slope −1, the one of Pillow's geometric transforms (its resizing uses −0.5).
fn cubic([v1, v2, v3, v4]: [f64; 4], d: f64) -> f64 {
    let (p2, p3, p4) = (v3 - v1, 2.0 * (v1 - v2) + v3 - v4, v2 - v1 + v4 - v3);
    v2 + d * (p2 + d * (p3 + d * p4))
}
