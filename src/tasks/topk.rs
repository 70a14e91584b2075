//! Quality of classifications from whole counts: top-1, top-5, and the mean cross-entropy of given logits.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Place of the label's logit among all of a row, from 0; of equal logits the lower class comes first.
pub fn rank(logits: &[f32], label: usize) -> Option<usize> {
    let own = *logits.get(label)?;
    let before = |(c, &l): (usize, &f32)| l > own || (l == own && c < label) || l.is_nan();
    Some(logits.iter().enumerate().filter(|&x| x.0 != label && before(x)).count())
}

/// Cross-entropy of one row in nats, with `smoothing` spread over all classes, the true one included.
pub fn cross_entropy(logits: &[f32], label: usize, smoothing: f64) -> f64 {
    let reals = || logits.iter().map(|&l| f64::from(l));
    let largest = reals().fold(f64::MIN, f64::max);
    let lse = largest + reals().map(|l| (l - largest).exp()).sum::<f64>().ln();
    let mean = reals().sum::<f64>() / logits.len().max(1) as f64;
    let own = logits.get(label).map_or(f64::NAN, |&l| f64::from(l));
    lse - (1.0 - smoothing) * own - smoothing * mean
}

/// Counts over a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// Samples.
    pub samples: u64,
    /// Samples whose largest logit is the label.
    pub top1: u64,
    /// Samples whose label is among the five largest.
    pub top5: u64,
    /// Sum of cross-entropies.
    pub nll: f64,
}

impl TopK {
    /// Counts one row of logits.
    ///
    /// # Errors
    /// If the label is no class.
    pub fn add(&mut self, logits: &[f32], label: usize) -> Result<()> {
        let rank = rank(logits, label).ok_or_else(|| {
            Error::data("a label that is no class")
                .expected(format!("0 to {}", logits.len().saturating_sub(1)))
                .got(label.to_string())
        })?;
        self.samples += 1;
        self.top1 += u64::from(rank == 0);
        self.top5 += u64::from(rank < 5);
        self.nll += cross_entropy(logits, label, 0.0);
        Ok(())
    }
    /// Shares of top-1 and top-5, and the mean cross-entropy.
    pub fn means(&self) -> (f64, f64, f64) {
        let n = self.samples.max(1) as f64;
        (self.top1 as f64 / n, self.top5 as f64 / n, self.nll / n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_class() {
        assert_eq!(rank(&[1.0, 1.0, 2.0], 0), Some(1));
        assert_eq!(rank(&[1.0, 1.0, 2.0], 1), Some(2));
        assert_eq!(rank(&[1.0], 1), None);
    }

    #[test]
    fn a_row_by_hand() {
        let mut t = TopK::default();
        t.add(&[0.0, 0.0], 0).unwrap();
        assert_eq!(t.means(), (1.0, 1.0, std::f64::consts::LN_2));
        assert!(t.add(&[0.0], 3).is_err());
    }
}
