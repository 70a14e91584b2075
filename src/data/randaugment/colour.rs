//! Operations on colours, with Pillow's 8-bit arithmetic.

use crate::data::jitter::{blend, grey, mean_grey};
use crate::data::picture::Picture;

/// Every sample through a function.
pub fn map(picture: &Picture, f: impl Fn(u8) -> u8) -> Picture {
    Picture { rgb: picture.rgb.iter().map(|&v| f(v)).collect(), ..*picture }
}

/// Every sample through the table of its channel.
fn map_channels(picture: &Picture, tables: [[u8; 256]; 3]) -> Picture {
    let through = |(i, &v): (usize, &u8)| tables[i % 3][usize::from(v)];
    Picture { rgb: picture.rgb.iter().enumerate().map(through).collect(), ..*picture }
}

fn histograms(picture: &Picture) -> [[u64; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for (i, &v) in picture.rgb.iter().enumerate() {
        counts[i % 3][usize::from(v)] += 1;
    }
    counts
}

const SAME: [u8; 256] = {
    let mut table = [0; 256];
    let mut v = 0;
    while v < 256 {
        table[v] = v as u8;
        v += 1;
    }
    table
};

/// Stretches the range of each channel to 0..255.
pub fn auto_contrast(picture: &Picture) -> Picture {
    map_channels(
        picture,
        histograms(picture).map(|counts| {
            let low = counts.iter().position(|&c| c > 0).unwrap_or(0);
            let high = counts.iter().rposition(|&c| c > 0).unwrap_or(0);
            if high <= low {
                return SAME;
            }
            let scale = 255.0 / (high - low) as f64;
            let offset = -(low as f64) * scale;
            std::array::from_fn(|v| (v as f64 * scale + offset) as u8)
        }),
    )
}

/// Flattens the histogram of each channel.
pub fn equalize(picture: &Picture) -> Picture {
    map_channels(
        picture,
        histograms(picture).map(|counts| {
            let used = counts.iter().filter(|&&c| c > 0).count();
            let last = counts.iter().rev().find(|&&c| c > 0).copied().unwrap_or(0);
            let step = (counts.iter().sum::<u64>() - last) / 255;
            if used <= 1 || step == 0 {
                return SAME;
            }
            let mut sum = step / 2;
            std::array::from_fn(|v| {
                let value = (sum / step).min(255) as u8;
                sum += counts[v];
                value
            })
        }),
    )
}

/// Blends with black.
pub fn brightness(picture: &Picture, factor: f32) -> Picture {
    map(picture, |v| blend(0.0, v, factor))
}

/// Blends with the rounded mean grey.
pub fn contrast(picture: &Picture, factor: f32) -> Picture {
    let mean = mean_grey(picture);
    map(picture, |v| blend(mean, v, factor))
}

/// Blends with the grey of each pixel.
pub fn saturation(picture: &Picture, factor: f32) -> Picture {
    let mut rgb = picture.rgb.clone();
    for pixel in rgb.chunks_exact_mut(3) {
        let base = f32::from(grey(pixel));
        pixel.iter_mut().for_each(|v| *v = blend(base, *v, factor));
    }
    Picture { rgb, ..*picture }
}

/// Blends with a copy smoothed by a 3 × 3 window (centre 5, others 1, of 13); the outermost pixels stay.
pub fn sharpness(picture: &Picture, factor: f32) -> Picture {
    let (w, h) = (picture.width, picture.height);
    let mut rgb = picture.rgb.clone();
    for y in 1..h.saturating_sub(1) {
        for x in 1..w.saturating_sub(1) {
            for channel in 0..3 {
                let at = |dy: usize, dx: usize| {
                    u32::from(picture.rgb[((y + dy - 1) * w + x + dx - 1) * 3 + channel])
                };
                let window: u32 = (0..9).map(|i| at(i / 3, i % 3)).sum();
                let smooth = (f64::from(window + 4 * at(1, 1)) / 13.0 + 0.5).floor();
                let i = (y * w + x) * 3 + channel;
                rgb[i] = blend(smooth as f32, picture.rgb[i], factor);
            }
        }
    }
    Picture { rgb, ..*picture }
}
