//! Masked image modelling: the backbone, the final norm, and the masked-token loss (beit-spec §1, §5.1).

use super::tokenizer::TokenizerModel;
use super::vit::{Backbone, MATRIX, VitConfig, VitInputs, backbone, norm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{CrossEntropyOut, argmax, cross_entropy, gather_rows, gather_words, head_loss, linear};

/// Logits of at most this many bytes are kept in memory; larger heads are computed in chunks.
const LOGITS_BYTES: u64 = 32 << 20;

/// Store of the tokenizer's parameters.
pub const TOKENIZER: &str = "tokenizer";

/// Sizes of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MimBatchShape {
    /// Images B.
    pub images: usize,
    /// Slots for masked patches M; unused ones carry weight 0.
    pub masked: usize,
}

/// How the logits of the masked patches are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadLoss {
    /// In memory up to 32 MiB, in chunks above.
    #[default]
    BySize,
    /// Never in memory: the head is fused with the loss, chunk by chunk of the vocabulary.
    Chunked,
}

/// Settings of the graph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MimOptions {
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
    /// Draw stochastic depth (training).
    pub train: bool,
    /// Also give the predicted ids and the logits of the masked patches.
    pub predictions: bool,
    /// How the logits are kept; predictions need them in memory.
    pub head: HeadLoss,
}

/// Draws the masked-token loss on labels computed by the frozen tokenizer in the same graph.
///
/// Inputs: `token_view[B,s,s,3]` and those of [`on_tokens`]. Outputs: `ids[B,h,w]` and those of [`on_tokens`].
/// Returns the loss.
///
/// # Errors
/// If the tokenizer's grid or vocabulary does not fit the network's.
pub fn pretraining(
    g: &mut Graph,
    vit: &VitConfig,
    tokenizer: &TokenizerModel,
    shape: MimBatchShape,
    options: MimOptions,
) -> Result<Var> {
    check_fit(vit, tokenizer)?;
    let (b, grid) = (shape.images, vit.grid());
    let side = (grid.0 * tokenizer.stride(), grid.1 * tokenizer.stride());
    let view = g.input("token_view", &[b, side.0, side.1, 3])?;
    let ids = g.in_store(TOKENIZER, |g| tokenizer.ids(g, view))?;
    g.output("ids", ids);
    Ok(on_tokens(g, vit, ids, shape, options)?.loss)
}

/// What [`on_tokens`] draws.
#[derive(Debug, Clone)]
pub struct MaskedImageModel {
    /// Normalised images `[B,H,W,3]`, an input.
    pub image: Var,
    /// The transformer.
    pub trunk: Backbone,
    /// Mean cross-entropy of the masked tokens, `[1]`.
    pub loss: Var,
    /// Log-sum-exp, negative log likelihood and correctness of each slot, `[M,3]`.
    pub rows: Var,
}

/// Draws the masked-token loss on token ids `[B,h,w]` or `[B,n]` from anywhere: a tokenizer, a file, a cache.
///
/// Inputs: `image[B,H,W,3]`, `mask[B,n]`, `masked_rows[M]` (rows of the token sequence), `masked_inverse[B·N]`,
/// `masked_patches[M]` (positions in `B·n`), `weights[M]`, and `drop_key[4]` if training.
/// Outputs: `loss`, `accuracy`, and with `predictions`: `labels[M]`, `predicted[M]`, `logits[M,V]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn on_tokens(
    g: &mut Graph,
    vit: &VitConfig,
    ids: Var,
    shape: MimBatchShape,
    options: MimOptions,
) -> Result<MaskedImageModel> {
    let patches = g.input_words("masked_patches", &[shape.masked])?;
    let labels = gather_words(g, ids, patches)?;
    let image = g.input("image", &[shape.images, vit.image.0, vit.image.1, 3])?;
    let mask = g.input_words("mask", &[shape.images, vit.patches()])?;
    let drops = options.train && vit.drop_path > 0.0;
    let drop_key = if drops { Some(g.input_words("drop_key", &[4])?) } else { None };
    let trunk = backbone(g, vit, VitInputs { image, mask: Some(mask), drop_key }, options.recompute)?;
    let out = masked_loss(g, vit, trunk.last(), labels, shape, options)?;
    Ok(MaskedImageModel { image, trunk, loss: out.loss, rows: out.rows })
}

/// Checks that a tokenizer's ids are what a network predicts.
///
/// # Errors
/// If the vocabularies differ, or the tokenizer knows another grid only.
pub fn check_fit(vit: &VitConfig, tokenizer: &TokenizerModel) -> Result<()> {
    if vit.vocab != tokenizer.vocab() {
        return Err(Error::config("the tokenizer's vocabulary does not fit the prediction head")
            .expected(format!("{} ids", vit.vocab))
            .got(format!("{} ids", tokenizer.vocab()))
            .hint("train the tokenizer with the same preset, or set the same vocabulary"));
    }
    tokenizer.check_grid(vit.grid())
}

/// Final norm, rows of masked patches, head, loss.
fn masked_loss(
    g: &mut Graph,
    vit: &VitConfig,
    x: Var,
    labels: Var,
    shape: MimBatchShape,
    options: MimOptions,
) -> Result<CrossEntropyOut> {
    let rows = g.input_words("masked_rows", &[shape.masked])?;
    let inverse = g.input_words("masked_inverse", &[shape.images * vit.tokens()])?;
    let weights = g.input("weights", &[shape.masked])?;
    let normed = norm(g, "norm", x, vit.layer_norm_eps)?;
    let picked = gather_rows(g, normed, rows, inverse)?;
    let w = g.param("lm_head.weight", &[vit.vocab, vit.width], MATRIX)?;
    let b = g.param("lm_head.bias", &[vit.vocab], Init::Constant(0.0))?;
    let small = options.head == HeadLoss::BySize && 4 * (shape.masked * vit.vocab) as u64 <= LOGITS_BYTES;
    let out = if options.predictions || small {
        let logits = linear(g, picked, w, Some(b))?;
        if options.predictions {
            let predicted = argmax(g, logits)?;
            g.output("predicted", predicted);
            g.output("labels", labels);
            g.output("logits", logits);
        }
        cross_entropy(g, logits, labels, weights)?
    } else {
        head_loss(g, picked, w, b, labels, weights)?
    };
    g.output("loss", out.loss);
    g.output("accuracy", out.accuracy);
    Ok(out)
}

/// Logits `[B,N,V]` of every token, for looking at a model: final norm and head on all positions.
///
/// # Errors
/// If the sizes do not fit.
pub fn all_logits(g: &mut Graph, vit: &VitConfig, x: Var) -> Result<(Var, Var)> {
    let normed = norm(g, "norm", x, vit.layer_norm_eps)?;
    let w = g.param("lm_head.weight", &[vit.vocab, vit.width], MATRIX)?;
    let b = g.param("lm_head.bias", &[vit.vocab], Init::Constant(0.0))?;
    Ok((normed, linear(g, normed, w, Some(b))?))
}
