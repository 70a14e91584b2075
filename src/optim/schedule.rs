//! Schedules as pure functions of the update number (beit-spec §3.5, §5.3, §8.2).

use serde::{Deserialize, Serialize};

/// Warm-up from 0 and cosine decay, as the official code evaluates it per update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cosine {
    /// Value at the end of the warm-up.
    pub peak: f64,
    /// Value at the end.
    pub min: f64,
    /// Warm-up updates W.
    pub warmup: u64,
    /// All updates K.
    pub total: u64,
}

/// A value that depends on the update number.
pub trait Schedule {
    /// The value at 0-based update `i`.
    fn at(&self, i: u64) -> f64;
}

impl Schedule for Cosine {
    fn at(&self, i: u64) -> f64 {
        if i < self.warmup {
            // linspace(0, peak, W): the last warm-up update has the peak
            return self.peak * i as f64 / (self.warmup.max(2) - 1) as f64;
        }
        let progress = (i - self.warmup) as f64 / (self.total - self.warmup.min(self.total)).max(1) as f64;
        self.min + 0.5 * (self.peak - self.min) * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
    }
}

/// Half a cosine from `start` to `end` over `t` updates, then constant.
pub fn half_cosine(start: f64, end: f64, i: u64, t: u64) -> f64 {
    let progress = if t == 0 { 1.0 } else { (i as f64 / t as f64).min(1.0) };
    end + 0.5 * (start - end) * (1.0 + (std::f64::consts::PI * progress).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of beit-spec §5.3.
    #[test]
    fn official_learning_rates() {
        let s = Cosine { peak: 1.5e-3, min: 1e-5, warmup: 6250, total: 500_000 };
        let cases = [
            (0, 0.0),
            (1, 2.40038e-7),
            (3125, 7.50120e-4),
            (6249, 1.5e-3),
            (6250, 1.5e-3),
            (100_000, 1.371342e-3),
            (250_000, 7.69812e-4),
            (253_125, 7.55e-4),
            (499_999, 1.0e-5),
        ];
        for (i, want) in cases {
            assert!((s.at(i) - want).abs() <= 1e-5 * want.max(1e-6), "update {i}: {} not {want}", s.at(i));
        }
    }

    /// The table of beit-spec §3.5.
    #[test]
    fn tokenizer_schedules() {
        let quarter = |start, end, want: [f64; 5]| {
            for (q, want) in want.into_iter().enumerate() {
                let got = half_cosine(start, end, q as u64 * 1000, 4000);
                assert!((got - want).abs() < 2e-6 * want.abs().max(0.1), "{got} not {want}");
            }
        };
        quarter(1.0, 0.0625, [1.0, 0.862706, 0.53125, 0.199794, 0.0625]);
        quarter(0.0, 6.6, [0.0, 0.966548, 3.3, 5.633452, 6.6]);
        quarter(1e-4, 1.25e-6, [1e-4, 8.55384e-5, 5.0625e-5, 1.57116e-5, 1.25e-6]);
    }
}
