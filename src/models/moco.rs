//! Momentum contrast, third version: projector, predictor, and the symmetric contrastive loss (beit-spec §8.3).

use super::batch_norm::{Statistics, norm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{cross_entropy, l2_normalize, linear, matmul, relu, scale};

/// A projector or predictor: linear layers without bias to each of `widths`, batch norm after each, ReLU between them;
/// the last batch norm has no gain and bias. Parameters are numbered as in a list of layers: `0.weight`, `1.*`,
/// `3.weight`, `4.*`, …
///
/// Projector `[4096, 4096, 256]`, predictor `[4096, 256]`.
///
/// # Errors
/// If the parameters were drawn with other sizes.
pub fn mlp(g: &mut Graph, x: Var, widths: &[usize], statistics: Statistics) -> Result<Var> {
    let mut x = x;
    for (i, &width) in widths.iter().enumerate() {
        let fan_in = g.ty(x).cols();
        // The variance of the framework's uniform default.
        let init = Init::Normal(1.0 / (3.0 * fan_in as f32).sqrt());
        let weight = g.param(&format!("{}.weight", 3 * i), &[width, fan_in], init)?;
        x = linear(g, x, weight, None)?;
        let last = i + 1 == widths.len();
        x = norm(g, &format!("{}", 3 * i + 1), x, !last, statistics)?;
        if !last {
            x = relu(g, x)?;
        }
    }
    Ok(x)
}

/// The pairs of a batch, both written once: `labels[N]` = 0, 1, …, N−1 and `weights[N]` = 1/N.
#[derive(Debug, Clone, Copy)]
pub struct Diagonal {
    /// Words.
    pub labels: Var,
    /// Real numbers.
    pub weights: Var,
}

/// Contrast of queries `q[N,D]` with keys `k[N,D]`: `2τ·CE(q·kᵀ/τ)` of rows of length 1, positives on the diagonal.
///
/// No gradient reaches keys that were drawn from another store than the one that is differentiated.
///
/// # Errors
/// If the sizes differ.
pub fn contrast(g: &mut Graph, q: Var, k: Var, pairs: Diagonal, temperature: f32) -> Result<Var> {
    if g.shape(q) != g.shape(k) {
        return Err(Error::shape("queries and keys of different sizes")
            .at(g.path("contrast"))
            .expected(g.ty(q).to_string())
            .got(g.ty(k).to_string()));
    }
    let q = l2_normalize(g, q, 1e-12)?;
    let k = l2_normalize(g, k, 1e-12)?;
    let similar = matmul(g, q, k, false, true)?;
    let logits = scale(g, similar, 1.0 / temperature)?;
    let out = cross_entropy(g, logits, pairs.labels, pairs.weights)?;
    scale(g, out.loss, 2.0 * temperature)
}
