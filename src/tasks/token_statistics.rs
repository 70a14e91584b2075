//! How often each token stands at each position: what a model that ignores context could know.

use super::tokenizer::{Codebook, entropy};

/// Token counts by position, for the two entropies that a model which ignores context cannot beat.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenStatistics {
    positions: Vec<Codebook>,
}

impl TokenStatistics {
    /// No tokens seen yet.
    pub fn new(positions: usize, vocab: usize) -> Self {
        TokenStatistics { positions: vec![Codebook::new(vocab); positions] }
    }
    /// Counts ids of whole images, row-major.
    pub fn add(&mut self, ids: &[u32]) {
        for image in ids.chunks(self.positions.len()) {
            for (p, id) in self.positions.iter_mut().zip(image) {
                p.add(&[*id]);
            }
        }
    }
    /// Counts over all positions.
    pub fn codebook(&self) -> Codebook {
        let mut all = Codebook::new(self.positions.first().map_or(0, |p| p.counts.len()));
        for p in &self.positions {
            all.counts.iter_mut().zip(&p.counts).for_each(|(a, c)| *a += c);
        }
        all
    }
    /// Mean entropy of the positions in nats, each corrected for the number of samples (Miller and Madow:
    /// + (used ids − 1) / 2 samples; the plain estimate is too low).
    pub fn position_entropy(&self) -> f64 {
        self.position_entropy_at(&vec![1; self.positions.len()])
    }
    /// The same where position `p` counts `weights[p]` times: that of the positions that masks hide, which lie more in the
    /// middle, where pictures are busier.
    pub fn position_entropy_at(&self, weights: &[u64]) -> f64 {
        let corrected = self.positions.iter().map(|p| {
            let total: u64 = p.counts.iter().sum();
            entropy(&p.counts) + (p.used().saturating_sub(1)) as f64 / (2 * total.max(1)) as f64
        });
        let sum: f64 = corrected.zip(weights).map(|(h, &w)| h * w as f64).sum();
        sum / weights.iter().sum::<u64>().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::TokenStatistics;

    #[test]
    fn entropy_of_positions_by_weight() {
        let mut statistics = TokenStatistics::new(2, 4);
        // position 0 is always id 3, position 1 draws evenly from two ids
        (0..1000).for_each(|i| statistics.add(&[3, i % 2]));
        let (ln_2, correction) = (2f64.ln(), 1.0 / 2000.0);
        assert!((statistics.position_entropy() - (ln_2 + correction) / 2.0).abs() < 1e-12);
        assert!((statistics.position_entropy_at(&[1, 3]) - (ln_2 + correction) * 0.75).abs() < 1e-12);
        assert_eq!(statistics.position_entropy_at(&[5, 0]), 0.0);
        assert_eq!(statistics.position_entropy_at(&[0, 0]), 0.0);
    }
}
