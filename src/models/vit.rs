//! The BEiT vision transformer (beit-spec §2): patch embedding, tokens, blocks. No final norm and no head.

use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{
    AttentionSpec, DropPath, EmbedParams, add, attention, embed, gelu, layer_norm, linear, matmul, patchify,
    qkv_bias, residual,
};
use serde::{Deserialize, Serialize};

/// Where relative position bias tables live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelPos {
    /// No relative bias.
    None,
    /// One table for all blocks (pre-training).
    Shared,
    /// One table in each block (fine-tuning).
    PerLayer,
    /// A shared table and one in each block; their biases add up.
    Both,
}

/// A vision transformer. Widths in elements, sides in pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VitConfig {
    /// Image height and width.
    pub image: (usize, usize),
    /// Patch side.
    pub patch: usize,
    /// D.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; D must be a multiple.
    pub heads: usize,
    /// Hidden width of the MLP.
    pub mlp: usize,
    /// Vocabulary of the masked-token head.
    pub vocab: usize,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
    /// Learned absolute positions.
    pub abs_pos: bool,
    /// Relative position bias.
    pub rel_pos: RelPos,
    /// Initial LayerScale; 0 leaves it out.
    pub layer_scale: f32,
    /// Stochastic depth of the last block; earlier blocks follow linearly.
    pub drop_path: f32,
}

impl VitConfig {
    /// Rows and columns of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.image.0 / self.patch, self.image.1 / self.patch)
    }
    /// Number of patches n.
    pub fn patches(&self) -> usize {
        self.grid().0 * self.grid().1
    }
    /// Sequence length N = n + 1.
    pub fn tokens(&self) -> usize {
        self.patches() + 1
    }
    /// Checks that the sizes fit together.
    ///
    /// # Errors
    /// A config error that names the key.
    pub fn check(&self) -> Result<()> {
        let wrong =
            |what: &str, expected: String, got: String| Err(Error::config(what).expected(expected).got(got));
        if self.patch == 0 || self.image.0 == 0 || self.image.1 == 0 {
            return wrong(
                "image and patch sides",
                "at least 1".into(),
                format!("{:?}, {}", self.image, self.patch),
            );
        }
        if !self.image.0.is_multiple_of(self.patch) || !self.image.1.is_multiple_of(self.patch) {
            let got = format!("{} x {}", self.image.0, self.image.1);
            return wrong("image side", format!("a multiple of the patch side {}", self.patch), got);
        }
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) {
            return wrong("width", format!("a multiple of {} heads", self.heads), self.width.to_string());
        }
        if [self.width, self.depth, self.mlp, self.vocab].contains(&0) {
            return wrong("width, depth, mlp and vocab", "at least 1".into(), "0".into());
        }
        if !(0.0..1.0).contains(&self.drop_path) {
            return wrong("drop-path", "0 or more and less than 1".into(), self.drop_path.to_string());
        }
        Ok(())
    }
    pub(crate) fn attention_spec(&self) -> AttentionSpec {
        let grid = (self.rel_pos != RelPos::None).then(|| self.grid());
        AttentionSpec { heads: self.heads, grid }
    }
}

/// What the backbone is fed with.
#[derive(Debug, Clone, Copy)]
pub struct VitInputs {
    /// Normalised images `[B,H,W,3]`.
    pub image: Var,
    /// Mask `[B,n]` of words, 1 = masked (pre-training only).
    pub mask: Option<Var>,
    /// Key of stochastic depth, 4 words; without it every branch is kept.
    pub drop_key: Option<Var>,
}

/// Positions for views of another size than the one that the parameters belong to (local crops): matrices, written
/// by the host, that make them of the parameters.
#[derive(Debug, Clone, Copy)]
pub struct OtherGrid {
    /// Image height and width that the parameters belong to.
    pub native: (usize, usize),
    /// From the rows of the native bias table to those of this grid's, `[R',R]`.
    pub table: Option<Var>,
    /// From the native absolute positions to this grid's, `[N',N]`.
    pub positions: Option<Var>,
}

/// What the backbone draws.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// Encoder input `[B,N,D]`.
    pub embeddings: Var,
    /// Output of each block `[B,N,D]`.
    pub blocks: Vec<Var>,
    /// Stacked q, k, v of each block `[B,N,3D]` (attention maps are drawn from them).
    pub qkv: Vec<Var>,
    /// Bias table of each block, if any.
    pub tables: Vec<Option<Var>>,
}

impl Backbone {
    /// Output of the last block.
    pub fn last(&self) -> Var {
        self.blocks.last().copied().unwrap_or(self.embeddings)
    }
}

/// The pre-training initialisation of a matrix: normal σ 0.02 cut at ±σ (beit-spec §2.8).
pub(crate) const MATRIX: Init = Init::TruncatedNormal { std: 0.02, bound: 0.02, scale: 1.0 };
const ZERO: Init = Init::Constant(0.0);
const ONE: Init = Init::Constant(1.0);

/// A linear layer with parameters `{name}.weight [n,k]` and `{name}.bias [n]`.
pub(crate) fn dense(g: &mut Graph, name: &str, x: Var, n: usize, init: Init) -> Result<Var> {
    let k = g.ty(x).cols();
    let w = g.param(&format!("{name}.weight"), &[n, k], init)?;
    let b = g.param(&format!("{name}.bias"), &[n], ZERO)?;
    linear(g, x, w, Some(b))
}

/// A layer norm with parameters `{name}.weight` and `{name}.bias`.
pub(crate) fn norm(g: &mut Graph, name: &str, x: Var, eps: f32) -> Result<Var> {
    let d = g.ty(x).cols();
    let w = g.param(&format!("{name}.weight"), &[d], ONE)?;
    let b = g.param(&format!("{name}.bias"), &[d], ZERO)?;
    layer_norm(g, x, w, b, eps)
}

/// Draws the backbone; with `recompute` each block keeps only its input for the backward pass.
///
/// # Errors
/// If the config or the inputs do not fit.
pub fn backbone(g: &mut Graph, cfg: &VitConfig, inputs: VitInputs, recompute: bool) -> Result<Backbone> {
    backbone_at(g, cfg, inputs, None, recompute)
}

/// The same on pictures of the size in `cfg`, with parameters that belong to another one.
///
/// # Errors
/// As [`backbone`].
pub fn backbone_at(
    g: &mut Graph,
    cfg: &VitConfig,
    inputs: VitInputs,
    other: Option<OtherGrid>,
    recompute: bool,
) -> Result<Backbone> {
    cfg.check()?;
    let embeddings = tokens(g, cfg, inputs, other)?;
    let shared = match cfg.rel_pos {
        RelPos::Shared | RelPos::Both => Some(g.scoped("rel_pos_bias", |g| table(g, cfg, other))?),
        _ => None,
    };
    let positions = SharedPositions { table: shared, other };
    let mut out = Backbone { embeddings, blocks: vec![], qkv: vec![], tables: vec![] };
    let mut x = embeddings;
    for i in 0..cfg.depth {
        let draw = |g: &mut Graph| {
            g.scoped(&format!("blocks.{i}"), |g| block(g, cfg, i, x, positions, inputs.drop_key))
        };
        let drawn = if recompute { g.recomputed(draw)? } else { draw(g)? };
        x = drawn.out;
        out.blocks.push(x);
        out.qkv.push(drawn.qkv);
        out.tables.push(drawn.table);
    }
    Ok(out)
}

/// Patch embedding, mask token, class token, absolute positions.
fn tokens(g: &mut Graph, cfg: &VitConfig, inputs: VitInputs, other: Option<OtherGrid>) -> Result<Var> {
    let d = cfg.width;
    let (h, w) = (g.ty(inputs.image).dim(1), g.ty(inputs.image).dim(2));
    if (h, w) != cfg.image {
        return Err(Error::shape("image of another size than the model's")
            .expected(format!("{} x {}", cfg.image.0, cfg.image.1))
            .got(format!("{h} x {w}")));
    }
    let channels = g.ty(inputs.image).cols();
    let rows = patchify(g, inputs.image, cfg.patch)?;
    let weight = g.param("patch_embed.proj.weight", &[d, channels, cfg.patch, cfg.patch], MATRIX)?;
    let bias = g.param("patch_embed.proj.bias", &[d], ZERO)?;
    let patches = linear(g, rows, weight, Some(bias))?;
    let cls = g.param("cls_token", &[1, 1, d], MATRIX)?;
    let mask = match inputs.mask {
        Some(mask) => Some((g.param("mask_token", &[1, 1, d], MATRIX)?, mask)),
        None => None,
    };
    let pos = if cfg.abs_pos { Some(positions(g, cfg, other)?) } else { None };
    embed(g, patches, EmbedParams { cls, mask, pos })
}

/// The size that the position parameters belong to.
fn native(cfg: &VitConfig, other: Option<OtherGrid>) -> VitConfig {
    VitConfig { image: other.map_or(cfg.image, |o| o.native), ..cfg.clone() }
}

fn positions(g: &mut Graph, cfg: &VitConfig, other: Option<OtherGrid>) -> Result<Var> {
    let pos = g.param("pos_embed", &[1, native(cfg, other).tokens(), cfg.width], MATRIX)?;
    match other.and_then(|o| o.positions) {
        Some(matrix) => matmul(g, matrix, pos, false, false),
        None => Ok(pos),
    }
}

fn table(g: &mut Graph, cfg: &VitConfig, other: Option<OtherGrid>) -> Result<Var> {
    let rows = native(cfg, other).attention_spec().table_rows();
    let table = g.param("relative_position_bias_table", &[rows, cfg.heads], ZERO)?;
    match other.and_then(|o| o.table) {
        Some(matrix) => matmul(g, matrix, table, false, false),
        None => Ok(table),
    }
}

/// What all blocks know about positions.
#[derive(Clone, Copy)]
struct SharedPositions {
    table: Option<Var>,
    other: Option<OtherGrid>,
}

struct Block {
    out: Var,
    qkv: Var,
    table: Option<Var>,
}

fn block(
    g: &mut Graph,
    cfg: &VitConfig,
    i: usize,
    x: Var,
    shared: SharedPositions,
    drop_key: Option<Var>,
) -> Result<Block> {
    let d = cfg.width;
    let Init::TruncatedNormal { std, bound, .. } = MATRIX else { return Err(Error::shape("init")) };
    let rescaled = Init::TruncatedNormal { std, bound, scale: 1.0 / (2.0 * (i + 1) as f32).sqrt() };
    let rate = if cfg.depth > 1 { cfg.drop_path * i as f32 / (cfg.depth - 1) as f32 } else { 0.0 };
    let drop = |branch: u32| {
        drop_key.filter(|_| rate > 0.0).map(|key| (DropPath { rate, salt: 2 * i as u32 + branch }, key))
    };
    let gamma = |g: &mut Graph, name: &str| match cfg.layer_scale {
        s if s > 0.0 => g.param(name, &[d], Init::Constant(s)).map(Some),
        _ => Ok(None),
    };
    let gamma_1 = gamma(g, "gamma_1")?;
    let gamma_2 = gamma(g, "gamma_2")?;
    let normed = norm(g, "norm1", x, cfg.layer_norm_eps)?;
    let (branch, qkv, table) = g.scoped("attn", |g| self_attention(g, cfg, normed, shared, rescaled))?;
    let x = residual(g, x, branch, gamma_1, drop(0))?;
    let normed = norm(g, "norm2", x, cfg.layer_norm_eps)?;
    let branch = g.scoped("mlp", |g| {
        let hidden = dense(g, "fc1", normed, cfg.mlp, MATRIX)?;
        let hidden = gelu(g, hidden)?;
        dense(g, "fc2", hidden, d, rescaled)
    })?;
    let out = residual(g, x, branch, gamma_2, drop(1))?;
    Ok(Block { out, qkv, table })
}

fn self_attention(
    g: &mut Graph,
    cfg: &VitConfig,
    x: Var,
    shared: SharedPositions,
    rescaled: Init,
) -> Result<(Var, Var, Option<Var>)> {
    let d = cfg.width;
    let q_bias = g.param("q_bias", &[d], ZERO)?;
    let v_bias = g.param("v_bias", &[d], ZERO)?;
    let own = matches!(cfg.rel_pos, RelPos::PerLayer | RelPos::Both);
    let own = if own { Some(table(g, cfg, shared.other)?) } else { None };
    let table = match (shared.table, own) {
        (Some(a), Some(b)) => Some(add(g, a, b)?),
        (a, b) => a.or(b),
    };
    let weight = g.param("qkv.weight", &[3 * d, d], MATRIX)?;
    let bias = qkv_bias(g, q_bias, v_bias)?;
    let qkv = linear(g, x, weight, Some(bias))?;
    let mixed = attention(g, qkv, table, cfg.attention_spec())?;
    let out = dense(g, "proj", mixed, d, rescaled)?;
    Ok((out, qkv, table))
}
