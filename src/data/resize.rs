//! Resampling that agrees with Pillow to the last bit.
//!
//! Separable, horizontal pass first; filters are stretched when shrinking (antialiasing), cut at the edges and
//! normalised again. Weights are rounded to 22 fractional bits and each pass rounds to 8 bits and clips; a pass
//! that keeps the size is a copy. The clipping between the passes is visible in contrasty pictures, so an
//! implementation in floating point alone would give other training data than the published recipe.

use std::f64::consts::PI;

use super::picture::{Crop, Picture};

/// Fractional bits of a weight: 8 bits of sample and 2 bits for overshoot leave 22 of 32.
const FRACTION: u32 = 22;
/// One half in the fixed-point scale of a sum.
const HALF: i32 = 1 << (FRACTION - 1);

/// The kernel of a resampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Mean over the area of the output pixel.
    Box,
    /// Triangle.
    Bilinear,
    /// Cubic with a = -1/2.
    Bicubic,
    /// Sinc with three lobes.
    Lanczos,
}

impl Filter {
    /// Half the width of the kernel in input pixels when the size is kept.
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let a = x.abs();
        match self {
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - a).max(0.0),
            Filter::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
            Filter::Bicubic if a < 2.0 => (((a - 5.0) * a + 8.0) * a - 4.0) * -0.5,
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Which inputs make up each output along one axis.
struct Taps {
    /// First input and number of inputs of every output.
    spans: Vec<(usize, usize)>,
    /// Weights of all outputs one after the other, in units of 2^-22.
    weights: Vec<i32>,
}

impl Taps {
    fn new(input: usize, output: usize, filter: Filter) -> Taps {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let mut taps = Taps { spans: Vec::with_capacity(output), weights: Vec::new() };
        let mut row = Vec::new();
        for out in 0..output {
            let centre = (out as f64 + 0.5) * scale;
            // Casting truncates towards 0 and a negative number becomes 0, which is the cut at the left edge.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(input);
            row.clear();
            row.extend((first..end).map(|i| filter.weight((i as f64 - centre + 0.5) * (1.0 / stretch))));
            let sum: f64 = row.iter().sum();
            let norm = if sum == 0.0 { 1.0 } else { sum };
            taps.weights.extend(row.iter().map(|w| fixed(w / norm)));
            taps.spans.push((first, row.len()));
        }
        taps
    }

    /// Every output with the position of its first input and its weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut rest = self.weights.as_slice();
        self.spans.iter().map(move |&(first, n)| {
            let (weights, tail) = rest.split_at(n.min(rest.len()));
            rest = tail;
            (first, weights)
        })
    }
}

/// Rounds to fixed point, halves away from zero.
fn fixed(weight: f64) -> i32 {
    (weight * f64::from(1u32 << FRACTION)).round() as i32
}

fn clip(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

/// Cuts `crop` out of the picture and resamples it to `out_w` x `out_h`; nothing outside of the crop enters.
///
/// A crop that reaches over the edge is cut to the picture; an empty one gives a black picture.
pub fn resize(picture: &Picture, crop: Crop, out_w: usize, out_h: usize, filter: Filter) -> Picture {
    let crop = crop.inside(picture);
    if crop.width == 0 || crop.height == 0 || out_w == 0 || out_h == 0 {
        return Picture::flat(out_w, out_h, [0; 3]);
    }
    let wide = horizontal(picture, crop, out_w, filter);
    if out_h == crop.height { wide } else { vertical(&wide, out_h, filter) }
}

fn horizontal(picture: &Picture, crop: Crop, out_w: usize, filter: Filter) -> Picture {
    if out_w == crop.width {
        return picture.cut(crop);
    }
    let taps = Taps::new(crop.width, out_w, filter);
    let mut rgb = Vec::with_capacity(out_w * crop.height * 3);
    for y in 0..crop.height {
        let row = picture.row(crop, y);
        for (first, weights) in taps.iter() {
            let samples = row.get(first * 3..).unwrap_or(&[]);
            let mut sum = [HALF; 3];
            for (pixel, &w) in samples.chunks_exact(3).zip(weights) {
                for (s, &v) in sum.iter_mut().zip(pixel) {
                    *s = s.wrapping_add(i32::from(v).wrapping_mul(w));
                }
            }
            rgb.extend(sum.map(clip));
        }
    }
    Picture { width: out_w, height: crop.height, rgb }
}

fn vertical(picture: &Picture, out_h: usize, filter: Filter) -> Picture {
    let taps = Taps::new(picture.height, out_h, filter);
    let stride = picture.width * 3;
    let mut rgb = Vec::with_capacity(stride * out_h);
    let mut sums = vec![0i32; stride];
    for (first, weights) in taps.iter() {
        sums.fill(HALF);
        let rows = picture.rgb.get(first * stride..).unwrap_or(&[]);
        for (row, &w) in rows.chunks_exact(stride).zip(weights) {
            for (s, &v) in sums.iter_mut().zip(row) {
                *s = s.wrapping_add(i32::from(v).wrapping_mul(w));
            }
        }
        rgb.extend(sums.iter().map(|&s| clip(s)));
    }
    Picture { width: picture.width, height: out_h, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Picture {
        let rgb = (0..width * height * 3).map(|i| (i * 37 % 256) as u8).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn same_size_is_a_copy() {
        let picture = ramp(7, 5);
        for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            assert_eq!(resize(&picture, picture.whole(), 7, 5, filter), picture);
        }
    }

    #[test]
    fn flat_stays_flat() {
        let flat = Picture::flat(13, 29, [3, 128, 255]);
        for filter in [Filter::Box, Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (w, h) in [(1, 1), (5, 40), (26, 7), (224, 224)] {
                assert_eq!(resize(&flat, flat.whole(), w, h, filter), Picture::flat(w, h, [3, 128, 255]));
            }
        }
    }

    #[test]
    fn box_halves_to_means() {
        let picture = Picture { width: 2, height: 2, rgb: vec![0, 0, 0, 2, 2, 2, 4, 4, 4, 6, 6, 6] };
        assert_eq!(resize(&picture, picture.whole(), 1, 1, Filter::Box).rgb, [3, 3, 3]);
    }

    #[test]
    fn crop_first_then_resize() {
        let picture = ramp(20, 16);
        let crop = Crop { left: 3, top: 2, width: 11, height: 9 };
        let cut = picture.cut(crop);
        assert_eq!(
            resize(&picture, crop, 8, 8, Filter::Lanczos),
            resize(&cut, cut.whole(), 8, 8, Filter::Lanczos)
        );
    }

    #[test]
    fn odd_requests_do_not_panic() {
        let picture = ramp(3, 3);
        let outside = Crop { left: 9, top: 1, width: 4, height: 4 };
        assert_eq!(resize(&picture, outside, 2, 2, Filter::Bicubic), Picture::flat(2, 2, [0; 3]));
        assert_eq!(resize(&picture, picture.whole(), 0, 5, Filter::Bicubic).rgb.len(), 0);
        assert_eq!(resize(&ramp(1, 1), ramp(1, 1).whole(), 9, 9, Filter::Lanczos).rgb.len(), 243);
    }
}
