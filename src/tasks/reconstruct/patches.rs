//! What a model says about each patch: ids with probabilities, the rank of the true id, entropy; choosing and sampling.

use crate::rng::{Key, Stream};
use serde::Serialize;

/// An id and its probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Guess {
    /// The visual token.
    pub id: u32,
    /// Probability under the model.
    pub probability: f32,
}

/// What the model says about one patch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PatchReport {
    /// Row of the patch grid.
    pub row: usize,
    /// Column of the patch grid.
    pub column: usize,
    /// Whether the model could not see it.
    pub masked: bool,
    /// The tokenizer's id.
    pub true_id: u32,
    /// Probability of the tokenizer's id.
    pub true_probability: f32,
    /// 1 if the tokenizer's id is the most probable one.
    pub rank: usize,
    /// Entropy of the prediction in nats; at most ln V.
    pub entropy: f32,
    /// Cross-entropy against the tokenizer's id in nats.
    pub loss: f32,
    /// The most probable ids, best first.
    pub top: Vec<Guess>,
    /// The id drawn at the asked temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<u32>,
    /// Round of the iterative decoding in which it was filled in, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<usize>,
    /// The id that the iterative decoding chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterated: Option<u32>,
}

/// How well hidden patches are predicted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Score {
    /// Hidden patches.
    pub masked: usize,
    /// Mean cross-entropy in nats, as in training.
    pub loss: f64,
    /// Share of tokens predicted exactly.
    pub accuracy: f64,
    /// Share of tokens among the five most probable.
    pub accuracy_top5: f64,
    /// Mean entropy of the predictions in nats.
    pub entropy: f64,
}

/// Mean of a figure over the hidden patches.
fn mean_hidden(reports: &[PatchReport], f: impl Fn(&PatchReport) -> f64) -> f64 {
    let hidden = || reports.iter().filter(|r| r.masked);
    hidden().map(f).sum::<f64>() / hidden().count().max(1) as f64
}

/// Share of the hidden patches for which something holds.
fn share_hidden(reports: &[PatchReport], f: impl Fn(&PatchReport) -> bool) -> f64 {
    mean_hidden(reports, |r| f64::from(u8::from(f(r))))
}

impl Score {
    /// Over the hidden ones of these patches.
    pub fn of(reports: &[PatchReport]) -> Score {
        Score {
            masked: reports.iter().filter(|r| r.masked).count(),
            loss: mean_hidden(reports, |r| f64::from(r.loss)),
            accuracy: share_hidden(reports, |r| r.rank == 1),
            accuracy_top5: share_hidden(reports, |r| r.rank <= 5),
            entropy: mean_hidden(reports, |r| f64::from(r.entropy)),
        }
    }
    /// Share of tokens that the iterative decoding chose right.
    pub(super) fn iterated(reports: &[PatchReport]) -> f64 {
        share_hidden(reports, |r| r.iterated == Some(r.true_id))
    }
}

/// Log-sum-exp of a row of logits.
fn log_sum_exp(row: &[f32]) -> f64 {
    let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
    let sum: f64 = row.iter().map(|&v| f64::from(v - max).exp()).sum();
    f64::from(max) + sum.ln()
}

/// The place of the largest value; the first one of equals.
pub(super) fn best(row: &[f32]) -> usize {
    row.iter().enumerate().fold(0, |best, (i, &v)| if v > row[best] { i } else { best })
}

impl PatchReport {
    /// Reads one row of logits `[V]`; `top` ids are listed.
    pub(super) fn of(row: &[f32], true_id: u32, top: usize, masked: bool, (r, c): (usize, usize)) -> Self {
        let lse = log_sum_exp(row);
        let p = |id: usize| (f64::from(row[id]) - lse).exp();
        let entropy: f64 = (0..row.len()).map(|v| p(v) * (lse - f64::from(row[v]))).sum();
        let mut order: Vec<usize> = (0..row.len()).collect();
        let by_logit = |a: &usize, b: &usize| row[*b].total_cmp(&row[*a]).then(a.cmp(b));
        let top = top.min(order.len());
        if top < order.len() {
            order.select_nth_unstable_by(top, by_logit);
        }
        order.truncate(top);
        order.sort_by(by_logit);
        let t = true_id as usize;
        let rank = 1 + (0..row.len()).filter(|&v| row[v] > row[t] || (row[v] == row[t] && v < t)).count();
        PatchReport {
            row: r,
            column: c,
            masked,
            true_id,
            true_probability: p(t) as f32,
            rank,
            entropy: entropy as f32,
            loss: (lse - f64::from(row[t])) as f32,
            top: order.into_iter().map(|v| Guess { id: v as u32, probability: p(v) as f32 }).collect(),
            sampled: None,
            round: None,
            iterated: None,
        }
    }
    /// The most probable id.
    pub fn predicted(&self) -> u32 {
        self.top.first().map_or(0, |g| g.id)
    }
    /// Its probability.
    pub fn confidence(&self) -> f32 {
        self.top.first().map_or(0.0, |g| g.probability)
    }
}

/// Draws an id of a row of logits `[V]` at a temperature, by the Gumbel-max rule; a function of seed and patch.
pub(super) fn sample(row: &[f32], temperature: f32, seed: u64, patch: usize) -> u32 {
    let key = Key::new(seed, Stream::Sample, patch as u32);
    let noisy: Vec<f32> =
        row.iter().zip(0u32..).map(|(&l, v)| l / temperature - (-key.uniform(v).ln()).ln()).collect();
    best(&noisy) as u32
}

/// How many of `masked` patches are still hidden after round `r` of `rounds`: a quarter of a cosine, so that the first
/// rounds fill in few, at least one a round, and the last one leaves none.
pub(super) fn hidden_after(masked: usize, round: usize, rounds: usize) -> usize {
    if round >= rounds {
        return 0;
    }
    let part = (std::f64::consts::FRAC_PI_2 * round as f64 / rounds as f64).cos();
    ((masked as f64 * part) as usize).min(masked.saturating_sub(round))
}

/// The `count` patches with the highest probability among (patch, probability); equals in order of the grid.
pub(super) fn most_certain(mut candidates: Vec<(usize, f32)>, count: usize) -> Vec<usize> {
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    candidates.into_iter().take(count).map(|(p, _)| p).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_row() {
        let row = [1.0f32, 3.0, 2.0, 3.0];
        let r = PatchReport::of(&row, 3, 2, true, (0, 1));
        let z: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        assert_eq!((r.top[0].id, r.top[1].id, r.rank, r.predicted()), (1, 3, 2, 1));
        assert!((f64::from(r.true_probability) - 3f64.exp() / z).abs() < 1e-7);
        assert!((f64::from(r.loss) + f64::from(r.true_probability).ln()).abs() < 1e-6);
        let entropy: f64 = row.iter().map(|&v| f64::from(v).exp() / z).map(|p| -p * p.ln()).sum();
        assert!((f64::from(r.entropy) - entropy).abs() < 1e-6);
        let flat = PatchReport::of(&[0.5; 8], 7, 99, false, (0, 0));
        assert!((f64::from(flat.entropy) - 8f64.ln()).abs() < 1e-6);
        assert_eq!((flat.rank, flat.top.len()), (8, 8));
    }

    #[test]
    fn samples_follow_the_probabilities() {
        let row = [0.0f32, 1.0, 2.0];
        let z: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
        let mut counts = [0usize; 3];
        for seed in 0..4000 {
            counts[sample(&row, 1.0, seed, 5) as usize] += 1;
        }
        for (v, &n) in counts.iter().enumerate() {
            let want = f64::from(row[v]).exp() / z;
            assert!((n as f64 / 4000.0 - want).abs() < 0.03, "{v}: {n} of 4000, wanted {want}");
        }
        assert!((0..200).all(|seed| sample(&row, 0.01, seed, 0) == 2), "a cold draw is the arg max");
    }

    #[test]
    fn rounds_fill_everything() {
        for masked in 1..60 {
            for rounds in 1..20 {
                let left: Vec<usize> = (0..=rounds).map(|r| hidden_after(masked, r, rounds)).collect();
                assert_eq!((left[0], left[rounds]), (masked, 0));
                assert!(left.windows(2).all(|w| w[1] < w[0] || w[0] == 0), "{masked} in {rounds}: {left:?}");
            }
        }
        assert_eq!(most_certain(vec![(4, 0.1), (2, 0.9), (1, 0.9)], 2), [1, 2]);
    }
}
