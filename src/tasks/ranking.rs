//! Top-1 and top-5 of a classifier over a whole set, class by class, in integer counts (beit-spec §6.6).

use super::topk::{cross_entropy, rank};
use serde::Serialize;

/// Counts over a set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// Sum of negative log likelihoods in nats.
    nll: f64,
    /// Per class.
    classes: Vec<ClassCounts>,
}

/// Counts of one class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Pictures of this class.
    pub count: u64,
    /// Of them, those whose largest logit is this class.
    pub top1: u64,
    /// Of them, those with this class among the five largest logits.
    pub top5: u64,
    /// Pictures of other classes that were taken for this one.
    pub false_positives: u64,
}

/// The `k` largest logits as (class, probability), the largest first, the lower class first on ties.
pub fn top(logits: &[f32], k: usize) -> Vec<(usize, f64)> {
    let p = probabilities(logits);
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    order.into_iter().take(k).map(|i| (i, p[i])).collect()
}

/// Softmax.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().fold(f64::NEG_INFINITY, |m, &l| m.max(f64::from(l)));
    let powers: Vec<f64> = logits.iter().map(|&l| (f64::from(l) - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

impl Ranking {
    /// Nothing seen yet.
    pub fn new(classes: usize) -> Self {
        Ranking { nll: 0.0, classes: vec![ClassCounts::default(); classes] }
    }
    /// Counts one picture; a label beyond the logits is left out.
    pub fn add(&mut self, logits: &[f32], label: u32) {
        let (label, first) = (label as usize, top(logits, 1).first().map(|t| t.0));
        let Some(place) = rank(logits, label) else { return };
        self.nll += cross_entropy(logits, label, 0.0);
        if let Some(c) = self.classes.get_mut(label) {
            c.count += 1;
            c.top1 += u64::from(place == 0);
            c.top5 += u64::from(place < 5);
        }
        if let Some(c) = first.filter(|&f| f != label).and_then(|f| self.classes.get_mut(f)) {
            c.false_positives += 1;
        }
    }
    /// Counts by class.
    pub fn classes(&self) -> &[ClassCounts] {
        &self.classes
    }
    /// Pictures seen.
    pub fn count(&self) -> u64 {
        self.classes.iter().map(|c| c.count).sum()
    }
    fn share(&self, hits: impl Fn(&ClassCounts) -> u64) -> f64 {
        self.classes.iter().map(hits).sum::<u64>() as f64 / self.count().max(1) as f64
    }
    /// Share of pictures whose largest logit is their class.
    pub fn top1(&self) -> f64 {
        self.share(|c| c.top1)
    }
    /// Share of pictures with their class among the five largest logits.
    pub fn top5(&self) -> f64 {
        self.share(|c| c.top5)
    }
    /// Mean cross-entropy in nats.
    pub fn loss(&self) -> f64 {
        self.nll / self.count().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_class() {
        assert_eq!(top(&[0.0, 2.0, 2.0], 2).iter().map(|t| t.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn counts_add_up() {
        let mut r = Ranking::new(7);
        let logits = [7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0];
        (0..7).for_each(|label| r.add(&logits, label));
        assert_eq!((r.count(), r.top1(), r.top5()), (7, 1.0 / 7.0, 5.0 / 7.0));
        assert_eq!(r.classes()[0].false_positives, 6);
        let mut uniform = Ranking::new(4);
        uniform.add(&[1.0; 4], 2);
        assert!((uniform.loss() - 4f64.ln()).abs() < 1e-12);
    }
}
