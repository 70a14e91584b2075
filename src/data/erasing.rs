//! Random erasing (beit-spec §6.4): one box of a normalised picture is filled with noise.

use crate::rng::Key;

/// Tries to place the box.
const ATTEMPTS: usize = 10;

/// With `probability` fills one box of `pixels[side, side, 3]` with standard normal noise: its area is uniform in 0.02
/// to 1/3 of the picture, its aspect log-uniform in 0.3 to 1/0.3.
pub fn erase(pixels: &mut [f32], side: usize, probability: f64, key: Key) {
    let mut draws = key.draws();
    if probability <= 0.0 || !draws.chance(probability) {
        return;
    }
    let area = (side * side) as f64;
    for _ in 0..ATTEMPTS {
        let part = area * draws.range(0.02, 1.0 / 3.0);
        let aspect = draws.range(0.3f64.ln(), -(0.3f64.ln())).exp();
        let h = (part * aspect).sqrt().round_ties_even() as usize;
        let w = (part / aspect).sqrt().round_ties_even() as usize;
        if h >= side || w >= side || h == 0 || w == 0 {
            continue;
        }
        let (top, left) = (draws.below(side - h + 1), draws.below(side - w + 1));
        for y in top..top + h {
            for x in left..left + w {
                let at = 3 * (y * side + x);
                if let Some(pixel) = pixels.get_mut(at..at + 3) {
                    pixel.iter_mut().for_each(|v| *v = draws.normal() as f32);
                }
            }
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn boxes_have_the_right_size_and_rate() {
        let (side, mut erased, mut smallest, mut largest) = (64usize, 0, f64::MAX, 0.0f64);
        for i in 0..2000 {
            let mut pixels = vec![9.0; side * side * 3];
            erase(&mut pixels, side, 0.25, Key::new(1, Stream::Augment, i));
            let changed: Vec<usize> = (0..side * side).filter(|p| pixels[3 * p] != 9.0).collect();
            let (Some(first), Some(last)) = (changed.first(), changed.last()) else { continue };
            let (h, w) = (last / side - first / side + 1, last % side - first % side + 1);
            assert_eq!(h * w, changed.len(), "one full box");
            let share = changed.len() as f64 / (side * side) as f64;
            (smallest, largest, erased) = (smallest.min(share), largest.max(share), erased + 1);
        }
        assert!((430..570).contains(&erased), "{erased} of 2000");
        assert!(smallest > 0.015 && smallest < 0.05 && largest > 0.28 && largest < 0.36);
        let mut off = vec![9.0; 48];
        erase(&mut off, 4, 0.0, Key::new(1, Stream::Augment, 0));
        assert_eq!(off, vec![9.0; 48]);
    }
}
