//! Mixup and CutMix (beit-spec §6.4): a batch is mixed with itself in reverse order, pictures and targets alike.

use crate::error::{Error, Result};
use crate::rng::{Draws, Key};
use serde::{Deserialize, Serialize};

/// How batches are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mixing {
    /// α of mixup's Beta(α, α); 0 = no mixup.
    pub mixup: f64,
    /// α of CutMix's Beta(α, α); 0 = no CutMix.
    pub cutmix: f64,
    /// Probability that a batch is mixed at all.
    pub probability: f64,
    /// Probability of CutMix where both are on.
    pub switch: f64,
}

impl Mixing {
    /// No mixing.
    pub const OFF: Self = Mixing { mixup: 0.0, cutmix: 0.0, probability: 1.0, switch: 0.5 };
    /// The published recipe.
    pub const PUBLISHED: Self = Mixing { mixup: 0.8, cutmix: 1.0, ..Self::OFF };

    /// Refuses settings that cannot work, naming the key.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, expected: &str, got: f64| {
            Err(Error::config("wrong augmentation").at(key).expected(expected).got(got.to_string()))
        };
        for (key, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            if !(0.0..=1000.0).contains(&alpha) {
                return wrong(key, "0 (off) or a number above", alpha);
            }
        }
        for (key, p) in [("mixup-prob", self.probability), ("mixup-switch-prob", self.switch)] {
            if !(0.0..=1.0).contains(&p) {
                return wrong(key, "0 to 1", p);
            }
        }
        Ok(())
    }

    /// Mixes `pixels[B, side, side, 3]` and `targets[B, C]` in place. A pure function of the key.
    ///
    /// With an odd batch the middle picture meets itself and stays as it is.
    pub fn apply(&self, pixels: &mut [f32], targets: &mut [f32], side: usize, batch: usize, key: Key) {
        let mut draws = key.draws();
        let (mixup, cutmix) = (self.mixup > 0.0, self.cutmix > 0.0);
        if batch < 2 || !(mixup || cutmix) || !draws.chance(self.probability) {
            return;
        }
        let cut = if mixup && cutmix { draws.chance(self.switch) } else { cutmix };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let mut share = beta(alpha, &mut draws);
        if cut {
            let area = Cut::draw(side, share, &mut draws);
            share = 1.0 - area.pixels() as f64 / (side * side) as f64;
            exchange(pixels, side, batch, area);
        } else {
            blend(pixels, batch, share as f32);
        }
        blend(targets, batch, share as f32);
    }
}

/// `row_i ← share·row_i + (1 − share)·row_{B−1−i}` for all rows at once.
fn blend(values: &mut [f32], batch: usize, share: f32) {
    let n = values.len() / batch;
    let (low, high) = values.split_at_mut(n * batch.div_ceil(2));
    let last = batch / 2; // pairs (i, B − 1 − i)
    for i in 0..last {
        let partner = (batch - 1 - i) * n - low.len();
        for (a, b) in low[i * n..][..n].iter_mut().zip(&mut high[partner..][..n]) {
            (*a, *b) = (share * *a + (1.0 - share) * *b, share * *b + (1.0 - share) * *a);
        }
    }
}

/// A rectangle of pixels, ends excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    top: usize,
    bottom: usize,
    left: usize,
    right: usize,
}

impl Cut {
    /// Sides √(1 − share) of the picture's, centre uniform, cut off at the edges.
    fn draw(side: usize, share: f64, draws: &mut Draws) -> Cut {
        let half = (side as f64 * (1.0 - share).max(0.0).sqrt()) as usize / 2;
        let mut span = || {
            let centre = draws.below(side);
            (centre.saturating_sub(half), (centre + half).min(side))
        };
        let ((top, bottom), (left, right)) = (span(), span());
        Cut { top, bottom, left, right }
    }
    fn pixels(self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }
}

/// Exchanges a rectangle between the pictures of each pair.
fn exchange(pixels: &mut [f32], side: usize, batch: usize, area: Cut) {
    let n = side * side * 3;
    let (low, high) = pixels.split_at_mut(n * batch.div_ceil(2));
    for i in 0..batch / 2 {
        let partner = (batch - 1 - i) * n - low.len();
        for y in area.top..area.bottom {
            let row = 3 * (y * side + area.left)..3 * (y * side + area.right);
            low[i * n..][row.clone()].swap_with_slice(&mut high[partner..][row]);
        }
    }
}

/// A draw of Beta(α, α) from two of Gamma(α).
fn beta(alpha: f64, draws: &mut Draws) -> f64 {
    let (x, y) = (gamma(alpha, draws), gamma(alpha, draws));
    if x + y > 0.0 { x / (x + y) } else { 0.5 }
}

/// Gamma(shape, 1) by Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000).
fn gamma(shape: f64, draws: &mut Draws) -> f64 {
    if shape < 1.0 {
        return gamma(shape + 1.0, draws) * draws.unit().powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    for _ in 0..1000 {
        let x = draws.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && draws.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn key(i: u32) -> Key {
        Key::new(2, Stream::Augment, i)
    }

    /// Mean ½ and variance 1/(4(2α+1)).
    #[test]
    fn beta_has_its_moments() {
        for alpha in [0.2, 0.8, 1.0, 3.0] {
            let values: Vec<f64> = (0..20_000).map(|i| beta(alpha, &mut key(i).draws())).collect();
            let mean = values.iter().sum::<f64>() / 2e4;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2e4;
            assert!((mean - 0.5).abs() < 0.01, "{alpha}: mean {mean}");
            let want = 1.0 / (4.0 * (2.0 * alpha + 1.0));
            assert!((variance / want - 1.0).abs() < 0.04, "{alpha}: variance {variance}, not {want}");
        }
    }

    /// Every pixel comes from its picture or the partner's in the shares that the targets say.
    #[test]
    fn targets_follow_the_pixels() {
        let (side, batch, classes) = (8, 5, 5);
        let mut cuts = 0;
        for i in 0..200 {
            let mut pixels: Vec<f32> = (0..batch).flat_map(|b| vec![b as f32; side * side * 3]).collect();
            let mut targets = vec![0.0; batch * classes];
            (0..batch).for_each(|b| targets[b * classes + b] = 1.0);
            Mixing::PUBLISHED.apply(&mut pixels, &mut targets, side, batch, key(i));
            for b in 0..batch {
                let image = &pixels[b * side * side * 3..][..side * side * 3];
                let mean = image.iter().sum::<f32>() / image.len() as f32;
                let own = targets[b * classes + b];
                let partner = targets[b * classes + batch - 1 - b];
                let want = b as f32 * own + (batch - 1 - b) as f32 * if b == 2 { 0.0 } else { partner };
                assert!((mean - want).abs() < 1e-4, "picture {b}: {mean}, not {want}");
                let sum: f32 = targets[b * classes..][..classes].iter().sum();
                assert!((sum - 1.0).abs() < 1e-6);
                cuts += usize::from(b == 0 && image.iter().all(|v| *v == 0.0 || *v == 4.0));
            }
        }
        assert!((70..130).contains(&cuts), "{cuts} of 200 batches cut");
    }

    #[test]
    fn off_and_wrong() {
        let (mut pixels, mut targets) = (vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], vec![1.0, 0.0]);
        Mixing::OFF.apply(&mut pixels, &mut targets, 1, 2, key(0));
        assert_eq!((pixels[0], targets[0]), (1.0, 1.0));
        let at = |m: Mixing| m.validate().err().and_then(|e| e.at);
        assert_eq!(at(Mixing { mixup: -1.0, ..Mixing::OFF }).as_deref(), Some("mixup"));
        assert_eq!(at(Mixing { probability: 2.0, ..Mixing::OFF }).as_deref(), Some("mixup-prob"));
    }
}
