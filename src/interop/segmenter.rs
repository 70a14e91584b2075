//! The head of a segmenter: its sizes from a file's tensors (beit-spec §7.2–7.4, §10.2).

use crate::io::tensors::Tensors;
use crate::models::VitConfig;
use crate::models::segmenter::SegmentHead;
use crate::models::setr::SetrConfig;
use crate::models::upernet::{AuxiliaryConfig, UperNetConfig};

/// A segmentation head as files describe it.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmenterHead {
    /// Number of classes.
    pub classes: usize,
    /// Decoder and auxiliary head.
    pub head: SegmentHead,
}

/// Sizes from the tensors alone, where no config says them. Pool scales and taps cannot be seen: the official ones are
/// taken.
pub(super) fn infer(tensors: &Tensors, vit: &VitConfig) -> Option<SegmenterHead> {
    let rows = |name: &str| tensors.get(name)?.shape.first().copied();
    let count = |most: usize, name: &dyn Fn(usize) -> String| {
        (0..most).take_while(|&i| tensors.contains_key(&name(i))).count()
    };
    let classes = rows("decode_head.conv_seg.weight")?;
    if let Some(channels) = rows("decode_head.up_convs.0.0.conv.weight") {
        let stages = count(16, &|i| format!("decode_head.up_convs.{i}.0.conv.weight"));
        let head = SegmentHead::SetrPup(SetrConfig { channels, stages, ..SetrConfig::default() });
        return Some(SegmenterHead { classes, head });
    }
    let branches = count(64, &|i| format!("decode_head.psp_modules.{i}.1.conv.weight"));
    let convs = count(16, &|i| format!("auxiliary_head.convs.{i}.conv.weight"));
    let auxiliary = rows("auxiliary_head.conv_seg.weight").zip(rows("auxiliary_head.convs.0.conv.weight"));
    let upernet = UperNetConfig {
        channels: rows("decode_head.bottleneck.conv.weight")?,
        pool_scales: [1, 2, 3, 6, 8, 12, 16, 24].into_iter().take(branches).collect(),
        auxiliary: auxiliary.map(|(_, channels)| AuxiliaryConfig {
            channels,
            convs,
            concat_input: tensors.contains_key("auxiliary_head.conv_cat.conv.weight"),
            weight: 0.4,
        }),
        ..UperNetConfig::official(vit)
    };
    Some(SegmenterHead { classes, head: SegmentHead::Upernet(upernet) })
}
