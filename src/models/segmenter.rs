//! A backbone with one of the two segmentation heads, and its loss (beit-spec §7).

use super::setr::{SetrConfig, setr_pup};
use super::upernet::{HeadMode, UperNetConfig, upernet};
use super::vit::{Backbone, VitConfig};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::ops::{Over, PixelLoss, add_scaled, pixel_cross_entropy};
use serde::{Deserialize, Serialize};

/// The head of a segmentation model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type", content = "config")]
pub enum SegmentHead {
    /// UPerNet, of all released code.
    Upernet(UperNetConfig),
    /// SETR-PUP, of the paper's table.
    SetrPup(SetrConfig),
}

/// Logits of a segmentation model, each at its own scale.
#[derive(Debug, Clone, Copy)]
pub struct SegmentLogits {
    /// Of the head `[B,h,w,classes]`.
    pub main: Var,
    /// Of the auxiliary head, and the weight of its loss.
    pub auxiliary: Option<(Var, f32)>,
}

/// Draws a head on a backbone.
///
/// # Errors
/// If config and backbone do not fit.
pub fn head(
    g: &mut Graph,
    vit: &VitConfig,
    head: &SegmentHead,
    backbone: &Backbone,
    classes: usize,
    mode: HeadMode,
) -> Result<SegmentLogits> {
    match head {
        SegmentHead::Upernet(cfg) => {
            let net = upernet(g, vit, cfg, &backbone.blocks, classes, mode)?;
            let weight = cfg.auxiliary.as_ref().map_or(0.0, |a| a.weight);
            Ok(SegmentLogits { main: net.logits, auxiliary: net.auxiliary.map(|a| (a, weight)) })
        }
        SegmentHead::SetrPup(cfg) => {
            let main = setr_pup(g, vit, cfg, backbone.last(), classes, mode)?;
            Ok(SegmentLogits { main, auxiliary: None })
        }
    }
}

/// The losses of one batch.
#[derive(Debug, Clone, Copy)]
pub struct SegmentLoss {
    /// Main loss plus the weighted auxiliary one, `[1]`.
    pub total: Var,
    /// Of the main head.
    pub main: PixelLoss,
    /// Of the auxiliary head.
    pub auxiliary: Option<PixelLoss>,
}

/// Cross-entropy of `labels[B,H,W]` (numbers of no class are ignored) under the logits of both heads.
///
/// # Errors
/// If the shapes do not fit.
pub fn loss(g: &mut Graph, logits: SegmentLogits, labels: Var, over: Over) -> Result<SegmentLoss> {
    let main = pixel_cross_entropy(g, logits.main, labels, over)?;
    let Some((x, weight)) = logits.auxiliary else {
        return Ok(SegmentLoss { total: main.loss, main, auxiliary: None });
    };
    let auxiliary = pixel_cross_entropy(g, x, labels, over)?;
    let total = add_scaled(g, main.loss, auxiliary.loss, weight)?;
    Ok(SegmentLoss { total, main, auxiliary: Some(auxiliary) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;
    use crate::graph::ParamLayout;
    use crate::models::batch_norm::Statistics;
    use crate::models::vit::{RelPos, VitInputs, backbone};

    /// Parameters of a base model with a head of 150 classes at an image side, and of its parts by prefix.
    fn count(side: usize, make: impl FnOnce(&VitConfig) -> SegmentHead) -> (usize, impl Fn(&str) -> usize) {
        let base = preset("base").unwrap().model;
        let vit = VitConfig { image: (side, side), rel_pos: RelPos::PerLayer, ..base };
        let mut g = Graph::new();
        let image = g.input("image", &[1, side, side, 3]).unwrap();
        let b = backbone(&mut g, &vit, VitInputs { image, mask: None, drop_key: None }, false).unwrap();
        let mode = HeadMode { statistics: Statistics::Running, drop_key: None };
        head(&mut g, &vit, &make(&vit), &b, 150, mode).unwrap();
        let layout = ParamLayout::of(&g, "model", 1 << 30).unwrap();
        let all = layout.parameters();
        let part = move |prefix: &str| {
            let own = layout.views.iter().filter(|v| v.trained && v.name.starts_with(prefix));
            own.map(crate::graph::ParamView::elements).sum()
        };
        (all, part)
    }

    /// The exact numbers of beit-spec §7.2 and §7.3.
    #[test]
    fn parameters_of_upernet() {
        let official = |vit: &VitConfig| SegmentHead::Upernet(UperNetConfig::official(vit));
        let (all, part) = count(512, official);
        assert_eq!(part("fpn"), 7_081_728, "neck");
        assert_eq!(part("decode_head."), 67_963_542, "head");
        assert_eq!(part("auxiliary_head."), 1_808_534, "auxiliary head");
        assert_eq!(all, 163_080_812, "base at 512");
        assert_eq!(count(640, official).0, 163_407_980, "base at 640");
    }

    #[test]
    fn parameters_of_setr_pup() {
        let (_, part) = count(512, |_| SegmentHead::SetrPup(SetrConfig::default()));
        let convs = 9 * 256 * (768 + 3 * 256) + 4 * 2 * 256;
        assert_eq!(part("decode_head."), 2 * 768 + convs + 150 * 257);
    }

    #[test]
    fn official_taps() {
        let taps = |depth| {
            let vit = VitConfig { depth, ..preset("base").unwrap().model };
            UperNetConfig::official(&vit).taps
        };
        assert_eq!((taps(12), taps(24)), ([3, 5, 7, 11], [7, 11, 15, 23]));
        assert_eq!((taps(4), taps(1)), ([1, 1, 2, 3], [0, 0, 0, 0]));
    }
}
