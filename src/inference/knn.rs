//! The k-nearest-neighbour probe (beit-spec §8.2): cosine similarity, votes weighted by exp(similarity / T).

use crate::error::{Error, Result};

/// Settings of the probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KnnOptions {
    /// Neighbours that vote.
    pub k: usize,
    /// Temperature T of their weights.
    pub temperature: f64,
    /// Number of classes.
    pub classes: usize,
}

/// Features `[N,D]` with the class of each row.
#[derive(Debug, Clone, Copy)]
pub struct Labelled<'a> {
    /// `[N,D]`.
    pub features: &'a [f32],
    /// `[N]`.
    pub labels: &'a [u32],
    /// D.
    pub width: usize,
}

/// The class of each row of `queries[M,D]` by the votes of its neighbours in `known`; the lower class on a tie.
///
/// # Errors
/// If there is nothing to compare with or sizes differ.
pub fn classify(known: Labelled<'_>, queries: &[f32], options: KnnOptions) -> Result<Vec<u32>> {
    let (n, d) = (known.labels.len(), known.width);
    if n == 0 || d == 0 || known.features.len() != n * d || queries.len() % d != 0 {
        return Err(Error::shape("features that do not fit together")
            .expected(format!("{n} rows of {d}"))
            .got(format!("{} and {} elements", known.features.len(), queries.len())));
    }
    let known_rows = unit_rows(known.features, d);
    let mut out = Vec::with_capacity(queries.len() / d);
    for query in unit_rows(queries, d).chunks(d) {
        let dot =
            |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let mut near: Vec<(f64, usize)> = known_rows.chunks(d).map(dot).zip(0..).collect();
        let k = options.k.clamp(1, n);
        // most similar first; the earlier row on ties
        let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        near.select_nth_unstable_by(k - 1, order);
        let mut near = near[..k].to_vec();
        near.sort_by(order);
        let mut votes = vec![0.0; options.classes];
        for (similarity, row) in near {
            if let Some(v) = votes.get_mut(known.labels[row] as usize) {
                *v += (similarity / options.temperature).exp();
            }
        }
        let best = (1..votes.len()).fold(0, |best, c| if votes[c] > votes[best] { c } else { best });
        out.push(best as u32);
    }
    Ok(out)
}

/// Rows divided by their length; rows of zeros stay.
fn unit_rows(rows: &[f32], d: usize) -> Vec<f32> {
    let unit = |row: &[f32]| {
        let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|v| (f64::from(*v) / norm) as f32).collect::<Vec<_>>()
    };
    rows.chunks(d).flat_map(unit).collect()
}

/// Share of equal entries.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(a, b)| a == b).count();
    right as f64 / labels.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_vote_by_similarity() {
        let features = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 0.1, 5.0];
        let known = Labelled { features: &features, labels: &[2, 2, 0, 1], width: 2 };
        let options = |k| KnnOptions { k, temperature: 0.07, classes: 3 };
        // length does not matter, direction does
        assert_eq!(classify(known, &[7.0, 0.1, 0.0, 0.2], options(1)).unwrap(), [2, 0]);
        // with two neighbours the nearer one weighs more
        assert_eq!(classify(known, &[0.0, 1.0], options(2)).unwrap(), [0]);
        // more neighbours than rows: all vote
        assert_eq!(classify(known, &[1.0, 0.05], options(100)).unwrap(), [2]);
        assert!(
            classify(Labelled { features: &[], labels: &[], width: 2 }, &[1.0, 0.0], options(1)).is_err()
        );
    }
}
