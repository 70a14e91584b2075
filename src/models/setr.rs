//! SETR-PUP, the decoder of the paper's own segmentation table: four times convolution, batch norm, ReLU and ×2
//! (beit-spec §7.4).

use super::batch_norm::conv_block;
use super::upernet::{HeadMode, classifier};
use super::vit::{VitConfig, norm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::ops::{patch_image, resize};
use serde::{Deserialize, Serialize};

/// Sizes of the decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SetrConfig {
    /// Width of the convolutions.
    pub channels: usize,
    /// Number of stages; each but the last doubles the map.
    pub stages: usize,
    /// Probability of dropping a channel in front of the classifier while training.
    pub dropout: f32,
}

impl Default for SetrConfig {
    fn default() -> Self {
        SetrConfig { channels: 256, stages: 4, dropout: 0.1 }
    }
}

/// Added to the variance in the layer norm in front of the decoder.
const EPS: f32 = 1e-6;

/// Draws logits `[B,8h,8w,classes]` from the last block's output `[B,N,D]`. The published decoder doubles them once
/// more; here the loss and the prediction resize them to the labels, which is the same for patches of 16 pixels.
///
/// # Errors
/// If the sizes do not fit.
pub fn setr_pup(
    g: &mut Graph,
    vit: &VitConfig,
    cfg: &SetrConfig,
    last: Var,
    classes: usize,
    mode: HeadMode,
) -> Result<Var> {
    if cfg.channels == 0 || cfg.stages == 0 {
        return Err(Error::config("channels and stages of the segmentation head")
            .expected("at least 1")
            .got("0"));
    }
    g.scoped("decode_head", |g| {
        let x = norm(g, "norm", last, EPS)?;
        let mut x = patch_image(g, x, vit.grid())?;
        for i in 0..cfg.stages {
            x = conv_block(g, &format!("up_convs.{i}.0"), x, (3, cfg.channels), mode.statistics)?;
            if i + 1 < cfg.stages {
                let side = (2 * g.ty(x).dim(1), 2 * g.ty(x).dim(2));
                x = resize(g, x, side)?;
            }
        }
        classifier(g, x, classes, cfg.dropout, mode.drop_key, 0)
    })
}
