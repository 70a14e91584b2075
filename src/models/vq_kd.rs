//! The tokenizer of BEiT v2 (beit-spec §3.7): a transformer whose patches are rounded to the nearest code of a codebook of
//! unit vectors, and a small transformer that makes a teacher's features of the codes. It draws no pictures; what people
//! look at is the mean patch of each id, which is kept beside the codebook.
//!
//! Parameter names are those of the official files (`encoder.`, `encode_task_layer.`, `quantize.`, `decoder.`,
//! `decode_task_layer.`); `mean_patches.` is this crate's own.

use super::dvae::normalized;
use super::vit::{RelPos, VitConfig, VitInputs, backbone, dense, norm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{
    Following, add_scaled, codebook_update, combine, fill, group_mean, l2_normalize, mean, members, mix_rows,
    nearest, patch_image, patchify, row_dot, scale, straight_through, tanh, unpatchify,
};
use serde::{Deserialize, Serialize};

/// Lengths below this count as it.
const EPS: f32 = 1e-12;
/// How linear layers outside of the transformers start (beit-spec §2.8, fine-tuning).
const LINEAR: Init = Init::TruncatedNormal { std: 0.02, bound: 2.0, scale: 1.0 };
/// Share that an older cell still counts in the mean patch of its id after each batch.
const PATCH_KEEP: f32 = 0.99;

/// Sizes of a VQ-KD tokenizer. Widths in elements, sides in pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VqKdConfig {
    /// Height and width of its pictures: positions are absolute, so that there is no other size.
    pub image: (usize, usize),
    /// Side of a cell, the encoder's patch.
    pub patch: usize,
    /// D of encoder and decoder.
    pub width: usize,
    /// Blocks of the encoder.
    pub depth: usize,
    /// Attention heads; D must be a multiple.
    pub heads: usize,
    /// Hidden width of the MLPs.
    pub mlp: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Width of a code.
    pub code: usize,
    /// Number of ids V.
    pub vocab: usize,
    /// Width of the teacher's features.
    pub target: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// Whether the mean patch of each id is known; official files do not have it.
    pub mean_patches: bool,
}

impl VqKdConfig {
    /// A tokenizer of the size of a transformer and for its grid, in the published proportions.
    pub fn like(vit: &VitConfig) -> Self {
        VqKdConfig {
            image: vit.image,
            patch: vit.patch,
            width: vit.width,
            depth: vit.depth,
            heads: vit.heads,
            mlp: vit.mlp,
            decoder_depth: 1,
            code: 32,
            vocab: vit.vocab,
            target: vit.width,
            layer_norm_eps: 1e-6,
            mean_patches: true,
        }
    }
    /// Rows and columns of ids.
    pub fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.patch.max(1), self.image.1 / self.patch.max(1))
    }
    /// Checks the sizes.
    ///
    /// # Errors
    /// A config error that names the key.
    pub fn check(&self) -> Result<()> {
        let at = |e: Error| e.hint("the keys stand under [tokenizer]");
        self.encoder().check().map_err(at)?;
        if [self.decoder_depth, self.code, self.target].contains(&0) {
            return Err(Error::config("decoder-depth, code and target of the tokenizer")
                .expected("at least 1")
                .got("0"));
        }
        self.decoder().check().map_err(at)
    }
    /// The encoder.
    pub fn encoder(&self) -> VitConfig {
        VitConfig {
            image: self.image,
            patch: self.patch,
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            mlp: self.mlp,
            vocab: self.vocab,
            layer_norm_eps: self.layer_norm_eps,
            abs_pos: true,
            rel_pos: RelPos::None,
            layer_scale: 0.0,
            drop_path: 0.0,
        }
    }
    /// The decoder: a patch is one code.
    pub fn decoder(&self) -> VitConfig {
        VitConfig { image: self.grid(), patch: 1, depth: self.decoder_depth, ..self.encoder() }
    }
}

/// A transformer's patches behind its `fc_norm`: `[B,h,w,D]`.
fn patches(g: &mut Graph, vit: &VitConfig, image: Var) -> Result<Var> {
    let trunk = backbone(g, vit, VitInputs { image, mask: None, drop_key: None }, false)?;
    let x = patch_image(g, trunk.last(), vit.grid())?;
    norm(g, "fc_norm", x, vit.layer_norm_eps)
}

/// Linear, tanh, linear.
fn task_layer(g: &mut Graph, name: &str, x: Var, out: usize) -> Result<Var> {
    let width = g.ty(x).cols();
    g.scoped(name, |g| {
        let hidden = dense(g, "0", x, width, LINEAR)?;
        let hidden = tanh(g, hidden)?;
        dense(g, "2", hidden, out, LINEAR)
    })
}

/// Vectors of length 1 `[B,h,w,code]` of mapped images `[B,H,W,3]` (values in 0.1..0.9).
///
/// # Errors
/// If the sizes do not fit.
pub fn vectors(g: &mut Graph, cfg: &VqKdConfig, image: Var) -> Result<Var> {
    cfg.check()?;
    let image = normalized(g, image)?;
    let x = g.scoped("encoder", |g| patches(g, &cfg.encoder(), image))?;
    let z = task_layer(g, "encode_task_layer", x, cfg.code)?;
    l2_normalize(g, z, EPS)
}

/// The codebook `[V,code]` as it is stored, and the moving average of how many cells of a batch have each id `[V]`.
fn codebook(g: &mut Graph, cfg: &VqKdConfig) -> Result<(Var, Var)> {
    let codes = g.statistic("quantize.embedding.weight", &[cfg.vocab, cfg.code], Init::Normal(1.0))?;
    Ok((codes, g.statistic("quantize.cluster_size", &[cfg.vocab], Init::Constant(1.0))?))
}

/// The nearest codes of vectors of length 1: ids `[B,h,w]` and codes like the vectors.
///
/// # Errors
/// If the sizes do not fit.
pub fn quantize(g: &mut Graph, cfg: &VqKdConfig, z: Var) -> Result<(Var, Var)> {
    let (codes, _) = codebook(g, cfg)?;
    let codes = l2_normalize(g, codes, EPS)?;
    nearest(g, z, codes)
}

/// What the decoder makes of codes `[B,h,w,code]`: features `[B,h,w,target]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn features(g: &mut Graph, cfg: &VqKdConfig, codes: Var) -> Result<Var> {
    let x = g.scoped("decoder", |g| patches(g, &cfg.decoder(), codes))?;
    task_layer(g, "decode_task_layer", x, cfg.target)
}

/// Mean over rows of 1 − cosine, `[1]`.
///
/// # Errors
/// If the sizes differ.
pub fn cosine_distance(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    let (a, b) = (l2_normalize(g, a, EPS)?, l2_normalize(g, b, EPS)?);
    let cosines = row_dot(g, a, b)?;
    let (cosine, one) = (mean(g, cosines)?, fill(g, 1.0, &[1])?);
    add_scaled(g, one, cosine, -1.0)
}

/// A transformer whose features are distilled.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherConfig {
    /// Its sizes.
    pub vit: VitConfig,
    /// The norm behind its last block, by its name, if the file has one.
    pub norm: Option<&'static str>,
}

/// A teacher's patches behind its norm, `[B,h,w,D]`, of pictures prepared as it wants them.
///
/// # Errors
/// If the sizes do not fit.
pub fn teacher_features(g: &mut Graph, teacher: &TeacherConfig, image: Var) -> Result<Var> {
    let vit = &teacher.vit;
    let trunk = backbone(g, vit, VitInputs { image, mask: None, drop_key: None }, false)?;
    let x = patch_image(g, trunk.last(), vit.grid())?;
    match teacher.norm {
        Some(name) => norm(g, name, x, vit.layer_norm_eps),
        None => Ok(x),
    }
}

/// How a step learns, beside its gradients.
#[derive(Debug, Clone, Copy)]
pub struct Learning {
    /// Weight of the commitment loss.
    pub commitment: f32,
    /// How the codebook follows the vectors.
    pub following: Following,
    /// Key of 4 words for codes that start anew.
    pub key: Var,
}

/// What [`training`] draws.
#[derive(Debug, Clone, Copy)]
pub struct DistillationGraph {
    /// distance + weight·commitment, `[1]`.
    pub loss: Var,
    /// Mean of 1 − cosine to the teacher's features, `[1]`.
    pub distance: Var,
    /// Mean squared difference of vectors and their codes, a number each, `[1]`.
    pub commitment: Var,
    /// Ids `[B,h,w]`.
    pub ids: Var,
    /// Vectors of length 1 `[B,h,w,code]`.
    pub vectors: Var,
    /// Decoded features `[B,h,w,target]`.
    pub features: Var,
}

/// Draws the losses of mapped images `[B,H,W,3]` against a teacher's features `[B,h,w,target]`; no statistic moves.
///
/// # Errors
/// If the sizes do not fit.
pub fn distillation(
    g: &mut Graph,
    cfg: &VqKdConfig,
    image: Var,
    target: Var,
    commitment_weight: f32,
) -> Result<DistillationGraph> {
    let vectors = vectors(g, cfg, image)?;
    let (ids, codes) = quantize(g, cfg, vectors)?;
    let seen = straight_through(g, vectors, codes)?;
    let features = features(g, cfg, seen)?;
    let distance = cosine_distance(g, features, target)?;
    let difference = add_scaled(g, vectors, codes, -1.0)?;
    let squares = row_dot(g, difference, difference)?;
    let of_cells = mean(g, squares)?;
    let commitment = scale(g, of_cells, 1.0 / cfg.code as f32)?;
    let weight = fill(g, commitment_weight, &[1])?;
    let loss = combine(g, distance, commitment, weight)?;
    Ok(DistillationGraph { loss, distance, commitment, ids, vectors, features })
}

/// As [`distillation`]; then the codebook moves towards the vectors, and the mean patches towards the cells of the batch.
///
/// # Errors
/// If the sizes do not fit.
pub fn training(
    g: &mut Graph,
    cfg: &VqKdConfig,
    image: Var,
    target: Var,
    how: Learning,
) -> Result<DistillationGraph> {
    let drawn = distillation(g, cfg, image, target, how.commitment)?;
    let chains = members(g, drawn.ids, cfg.vocab)?;
    let state = codebook(g, cfg)?;
    codebook_update(g, state, drawn.vectors, chains, how.key, how.following)?;
    if cfg.mean_patches {
        let pixels = normalized(g, image)?;
        let cells = patchify(g, pixels, cfg.patch)?;
        let state = mean_patches(g, cfg)?;
        group_mean(g, state, cells, chains, PATCH_KEEP)?;
    }
    Ok(drawn)
}

/// One round of cosine k-means of the codebook on vectors `[R,code]` of length 1 (beit-spec §3.7): the start of training.
///
/// # Errors
/// If the sizes do not fit.
pub fn k_means_round(g: &mut Graph, cfg: &VqKdConfig, vectors: Var, key: Var) -> Result<()> {
    let (ids, _) = quantize(g, cfg, vectors)?;
    let chains = members(g, ids, cfg.vocab)?;
    let state = codebook(g, cfg)?;
    codebook_update(g, state, vectors, chains, key, Following { keep: 0.0, restart: 0.0 })
}

/// The mean patch of each id in −1..1, `[V,3·P²]` in the order (channel, row, column), and how much it weighs `[V]`.
fn mean_patches(g: &mut Graph, cfg: &VqKdConfig) -> Result<(Var, Var)> {
    let numbers = 3 * cfg.patch * cfg.patch;
    let means = g.statistic("mean_patches.weight", &[cfg.vocab, numbers], Init::Constant(0.0))?;
    Ok((means, g.statistic("mean_patches.count", &[cfg.vocab], Init::Constant(0.0))?))
}

/// Pictures `[B,H,W,3]` in −1..1 that hold the mean patch of the id in each cell, of one-hot ids `[B,h,w,V]` (or of mixtures).
///
/// # Errors
/// If the mean patches are not known.
pub fn picture(g: &mut Graph, cfg: &VqKdConfig, ids: Var) -> Result<Var> {
    if !cfg.mean_patches {
        return Err(Error::checkpoint("this tokenizer cannot draw pictures")
            .expected("a VQ-KD tokenizer with the mean patch of each id")
            .got("a file without mean_patches.weight")
            .hint("official VQ-KD files hold none: their ids can be predicted and encoded, not shown"));
    }
    let (means, _) = mean_patches(g, cfg)?;
    let (b, h, w) = (g.ty(ids).dim(0), g.ty(ids).dim(1), g.ty(ids).dim(2));
    let cells = mix_rows(g, ids, means)?;
    unpatchify(g, cells, cfg.patch, &[b, h * cfg.patch, w * cfg.patch, 3])
}

/// Draws every parameter and statistic, in the order of training.
///
/// # Errors
/// If the sizes do not fit.
pub fn whole(g: &mut Graph, cfg: &VqKdConfig, image: Var) -> Result<()> {
    let z = vectors(g, cfg, image)?;
    codebook(g, cfg)?;
    features(g, cfg, z)?;
    if cfg.mean_patches {
        mean_patches(g, cfg)?;
    }
    Ok(())
}
