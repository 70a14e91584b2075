//! UPerNet on a plain transformer: the pyramid neck, pyramid pooling, the feature pyramid, and the auxiliary head
//! (beit-spec §7.2, §7.3). Images are NHWC; names are those of the official checkpoints without `backbone.`.

use super::batch_norm::{Statistics, conv_block, norm};
use super::vit::VitConfig;
use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{
    adaptive_pool, add, channel_dropout, concat, conv2d_transposed, gelu, linear, max_pool, patch_image,
    resize,
};
use serde::{Deserialize, Serialize};

/// Sizes of the neck and the heads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UperNetConfig {
    /// Blocks (from 0) whose outputs become the four levels, finest first.
    pub taps: [usize; 4],
    /// C, width of the decoder.
    pub channels: usize,
    /// Sides of the pooled maps.
    pub pool_scales: Vec<usize>,
    /// The auxiliary head, if there is one.
    pub auxiliary: Option<AuxiliaryConfig>,
    /// Probability of dropping a channel in front of each classifier while training.
    pub dropout: f32,
}

/// Sizes of the auxiliary head, a few convolutions on the third level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AuxiliaryConfig {
    /// Width.
    pub channels: usize,
    /// Number of 3 × 3 convolutions.
    pub convs: usize,
    /// A last convolution over input and output side by side.
    pub concat_input: bool,
    /// Weight of its loss.
    pub weight: f32,
}

impl UperNetConfig {
    /// The official head for a backbone: taps at a third, a half, two thirds and all of its blocks (base: 3, 5, 7, 11,
    /// large: 7, 11, 15, 23), and as many channels as it is wide.
    pub fn official(vit: &VitConfig) -> Self {
        let tap = |thirds: usize| (vit.depth * thirds).div_ceil(6).max(1) - 1;
        UperNetConfig {
            taps: [tap(2), tap(3), tap(4), vit.depth.max(1) - 1],
            channels: vit.width,
            pool_scales: vec![1, 2, 3, 6],
            auxiliary: Some(AuxiliaryConfig { channels: 256, convs: 1, concat_input: false, weight: 0.4 }),
            dropout: 0.1,
        }
    }
    /// Checks the sizes against a backbone.
    ///
    /// # Errors
    /// A config error that names the key.
    pub fn check(&self, vit: &VitConfig) -> Result<()> {
        let wrong =
            |what: &str, expected: &str, got: String| Err(Error::config(what).expected(expected).got(got));
        if self.taps.iter().any(|&t| t >= vit.depth) {
            let expected = format!("block numbers below {}", vit.depth);
            return wrong("taps of the segmentation head", &expected, format!("{:?}", self.taps));
        }
        let sizes = self.pool_scales.iter().chain([&self.channels]);
        if self.pool_scales.is_empty() || sizes.into_iter().any(|&n| n == 0) {
            return wrong(
                "channels and pool-scales",
                "at least 1",
                format!("{}, {:?}", self.channels, self.pool_scales),
            );
        }
        if vit.grid().0 < 2 || vit.grid().1 < 2 {
            return wrong(
                "patch grid of the segmentation model",
                "at least 2 x 2",
                format!("{:?}", vit.grid()),
            );
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", "0 or more and less than 1", self.dropout.to_string());
        }
        Ok(())
    }
}

/// How a head is drawn.
#[derive(Debug, Clone, Copy)]
pub struct HeadMode {
    /// Which statistics batch norm uses.
    pub statistics: Statistics,
    /// Key of dropout, 4 words; without it nothing is dropped.
    pub drop_key: Option<Var>,
}

/// What the model draws, with the stages that golden tests compare.
#[derive(Debug, Clone)]
pub struct UperNet {
    /// The four levels of the neck, `[B,4h,4w,D]` to `[B,h/2,w/2,D]` of a grid of `h × w` patches.
    pub levels: [Var; 4],
    /// Output of pyramid pooling `[B,h/2,w/2,C]`.
    pub pooled: Var,
    /// What the classifier sees `[B,4h,4w,C]`.
    pub fused: Var,
    /// Logits `[B,4h,4w,classes]`.
    pub logits: Var,
    /// Logits of the auxiliary head `[B,h,w,classes]`.
    pub auxiliary: Option<Var>,
}

/// Draws neck and heads on the outputs of all blocks `[B,N,D]`.
///
/// # Errors
/// If config and backbone do not fit.
pub fn upernet(
    g: &mut Graph,
    vit: &VitConfig,
    cfg: &UperNetConfig,
    blocks: &[Var],
    classes: usize,
    mode: HeadMode,
) -> Result<UperNet> {
    cfg.check(vit)?;
    let levels = neck(g, vit, cfg, blocks, mode.statistics)?;
    let (pooled, fused, logits) = g.scoped("decode_head", |g| {
        let pooled = pyramid_pooling(g, cfg, levels[3], mode.statistics)?;
        let fused = feature_pyramid(g, cfg, &levels, pooled, mode.statistics)?;
        Ok((pooled, fused, classifier(g, fused, classes, cfg.dropout, mode.drop_key, 0)?))
    })?;
    let auxiliary = match &cfg.auxiliary {
        Some(aux) => Some(g.scoped("auxiliary_head", |g| {
            let x = auxiliary_features(g, aux, levels[2], mode.statistics)?;
            classifier(g, x, classes, cfg.dropout, mode.drop_key, 1)
        })?),
        None => None,
    };
    Ok(UperNet { levels, pooled, fused, logits, auxiliary })
}

/// Outputs of four blocks as maps of four scales.
fn neck(
    g: &mut Graph,
    vit: &VitConfig,
    cfg: &UperNetConfig,
    blocks: &[Var],
    statistics: Statistics,
) -> Result<[Var; 4]> {
    let tap = |g: &mut Graph, level: usize| match blocks.get(cfg.taps[level]) {
        Some(&block) => patch_image(g, block, vit.grid()),
        None => Err(Error::shape("a tap beyond the last block").got(format!("{:?}", cfg.taps))),
    };
    let fine = tap(g, 0)?;
    let fine = double(g, "fpn1.0", fine)?;
    let fine = norm(g, "fpn1.1", fine, true, statistics)?;
    let fine = gelu(g, fine)?;
    let fine = double(g, "fpn1.3", fine)?;
    let second = tap(g, 1)?;
    let second = double(g, "fpn2.0", second)?;
    let third = tap(g, 2)?;
    let coarse = tap(g, 3)?;
    Ok([fine, second, third, max_pool(g, coarse)?])
}

/// Transposed 2 × 2 convolution of stride 2 with bias, as wide as its input.
fn double(g: &mut Graph, name: &str, x: Var) -> Result<Var> {
    let d = g.ty(x).cols();
    let std = 1.0 / (12.0 * d as f32).sqrt();
    let weight = g.param(&format!("{name}.weight"), &[d, d, 2, 2], Init::Normal(std))?;
    let bias = g.param(&format!("{name}.bias"), &[d], Init::Constant(0.0))?;
    conv2d_transposed(g, x, weight, Some(bias), 2, 0)
}

/// Rows and columns of an image.
fn size(g: &Graph, x: Var) -> (usize, usize) {
    (g.ty(x).dim(1), g.ty(x).dim(2))
}

fn pyramid_pooling(g: &mut Graph, cfg: &UperNetConfig, x: Var, statistics: Statistics) -> Result<Var> {
    let mut parts = vec![x];
    for (i, &scale) in cfg.pool_scales.iter().enumerate() {
        let pooled = adaptive_pool(g, x, scale)?;
        let y = conv_block(g, &format!("psp_modules.{i}.1"), pooled, (1, cfg.channels), statistics)?;
        let side = size(g, x);
        parts.push(resize(g, y, side)?);
    }
    let all = concat(g, &parts)?;
    conv_block(g, "bottleneck", all, (3, cfg.channels), statistics)
}

fn feature_pyramid(
    g: &mut Graph,
    cfg: &UperNetConfig,
    levels: &[Var; 4],
    pooled: Var,
    statistics: Statistics,
) -> Result<Var> {
    let mut laterals = Vec::new();
    for (i, &level) in levels[..3].iter().enumerate() {
        laterals.push(conv_block(g, &format!("lateral_convs.{i}"), level, (1, cfg.channels), statistics)?);
    }
    laterals.push(pooled);
    for i in (0..3).rev() {
        let side = size(g, laterals[i]);
        let upper = resize(g, laterals[i + 1], side)?;
        laterals[i] = add(g, laterals[i], upper)?;
    }
    let side = size(g, laterals[0]);
    let mut outs = Vec::new();
    for (i, &x) in laterals.iter().enumerate() {
        let y = match i {
            3 => x,
            _ => conv_block(g, &format!("fpn_convs.{i}"), x, (3, cfg.channels), statistics)?,
        };
        outs.push(resize(g, y, side)?);
    }
    let all = concat(g, &outs)?;
    conv_block(g, "fpn_bottleneck", all, (3, cfg.channels), statistics)
}

fn auxiliary_features(g: &mut Graph, aux: &AuxiliaryConfig, x: Var, statistics: Statistics) -> Result<Var> {
    let mut y = x;
    for i in 0..aux.convs {
        y = conv_block(g, &format!("convs.{i}"), y, (3, aux.channels), statistics)?;
    }
    if aux.concat_input {
        let both = concat(g, &[x, y])?;
        y = conv_block(g, "conv_cat", both, (3, aux.channels), statistics)?;
    }
    Ok(y)
}

/// Channel dropout and a 1 × 1 convolution to logits, `conv_seg`.
pub(crate) fn classifier(
    g: &mut Graph,
    x: Var,
    classes: usize,
    dropout: f32,
    drop_key: Option<Var>,
    salt: u32,
) -> Result<Var> {
    let x = match drop_key.filter(|_| dropout > 0.0) {
        Some(key) => channel_dropout(g, x, key, dropout, SALT + salt)?,
        None => x,
    };
    let c = g.ty(x).cols();
    let weight = g.param("conv_seg.weight", &[classes, c, 1, 1], Init::Normal(0.01))?;
    let bias = g.param("conv_seg.bias", &[classes], Init::Constant(0.0))?;
    linear(g, x, weight, Some(bias))
}

/// First salt of the heads; the branches of the backbone count from 0.
const SALT: u32 = 1 << 20;
