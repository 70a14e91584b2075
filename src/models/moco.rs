//! Momentum contrast, third version: projector, predictor, and the symmetric contrastive loss (beit-spec §8.3).

use super::batch_norm::{Statistics, norm};
use super::classifier::features;
use super::vit::{VitConfig, VitInputs, backbone};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{
    Pool, add, cross_entropy, l2_normalize, linear, matmul, relu, scale, slice_rows, stack_rows,
};
use serde::{Deserialize, Serialize};

/// Sizes of projector and predictor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MocoHeadConfig {
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Width of queries and keys.
    pub out: usize,
}

impl Default for MocoHeadConfig {
    fn default() -> Self {
        MocoHeadConfig { hidden: 4096, out: 256 }
    }
}

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
    Ok(contrast_and_accuracy(g, q, k, pairs, temperature)?.0)
}

/// The same, and the share of queries whose own key is the nearest, `[1]`.
fn contrast_and_accuracy(
    g: &mut Graph,
    q: Var,
    k: Var,
    pairs: Diagonal,
    temperature: f32,
) -> Result<(Var, Var)> {
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
    Ok((scale(g, out.loss, 2.0 * temperature)?, out.accuracy))
}

/// What a step looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct MocoStep {
    /// Pictures B; each has two views, which are contrasted within the batch.
    pub images: usize,
    /// Sizes of projector and predictor.
    pub head: MocoHeadConfig,
    /// Temperature.
    pub temperature: f32,
    /// Keep running statistics and draw stochastic depth (training).
    pub train: bool,
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
}

/// Draws a step: queries of the network with projector and predictor, keys of the momentum encoder, whose parameters are
/// those of the store `momentum`; the symmetric loss.
///
/// Inputs: `views[2·B,S,S,3]`, all first views and then all second ones; `labels[B]`, `weights[B]` ([`Diagonal`]);
/// `drop_key[4]` if training with stochastic depth. Outputs: `loss`, `accuracy`, `keys[2·B,E]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn pretraining(g: &mut Graph, vit: &VitConfig, step: &MocoStep, momentum: &str) -> Result<Var> {
    let (b, h) = (step.images, &step.head);
    let image = g.input("views", &[2 * b, vit.image.0, vit.image.1, 3])?;
    let pairs = Diagonal { labels: g.input_words("labels", &[b])?, weights: g.input("weights", &[b])? };
    let drops = step.train && vit.drop_path > 0.0;
    let drop_key = if drops { Some(g.input_words("drop_key", &[4])?) } else { None };
    let halves = |g: &mut Graph, drop_key, recompute| -> Result<[Var; 2]> {
        let trunk = backbone(g, vit, VitInputs { image, mask: None, drop_key }, recompute)?;
        let all = features(g, vit, trunk.last(), Pool::Cls)?;
        Ok([slice_rows(g, all, 0, b)?, slice_rows(g, all, b, b)?])
    };
    let own = if step.train { Statistics::Batch } else { Statistics::BatchOnly };
    let projector = |g: &mut Graph, x: Var, statistics| {
        g.scoped("projector", |g| mlp(g, x, &[h.hidden, h.hidden, h.out], statistics))
    };
    let mut queries = halves(g, drop_key, step.recompute)?;
    for x in &mut queries {
        let projected = projector(g, *x, own)?;
        *x = g.scoped("predictor", |g| mlp(g, projected, &[h.hidden, h.out], own))?;
    }
    let keys = g.in_store(momentum, |g| {
        let [a, b] = halves(g, None, false)?;
        Ok([projector(g, a, Statistics::BatchOnly)?, projector(g, b, Statistics::BatchOnly)?])
    })?;
    let (first, right) = contrast_and_accuracy(g, queries[0], keys[1], pairs, step.temperature)?;
    let (second, also) = contrast_and_accuracy(g, queries[1], keys[0], pairs, step.temperature)?;
    let loss = add(g, first, second)?;
    let both = add(g, right, also)?;
    let accuracy = scale(g, both, 0.5)?;
    g.output("loss", loss);
    g.output("accuracy", accuracy);
    let keys = stack_rows(g, &keys)?;
    g.output("keys", keys);
    Ok(loss)
}
