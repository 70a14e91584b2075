//! The head of a segmenter (UPerNet with an auxiliary head): its sizes, and its tensors (beit-spec §7.2, §7.3, §10.2).

use super::fits::Shapes;
use crate::io::tensors::Tensors;

/// Sizes of a UPerNet head.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmenterHead {
    /// Number of classes.
    pub classes: usize,
    /// Channels C of the decoder.
    pub channels: usize,
    /// Sides of the pooled maps.
    pub pool_scales: Vec<usize>,
    /// Blocks whose outputs feed the pyramid, from 0.
    pub taps: [usize; 4],
    /// The auxiliary head.
    pub auxiliary: Option<AuxiliaryHead>,
}

/// Sizes of the auxiliary head.
#[derive(Debug, Clone, PartialEq)]
pub struct AuxiliaryHead {
    /// Channels.
    pub channels: usize,
    /// Number of 3×3 convolutions.
    pub convs: usize,
    /// Weight of its loss.
    pub weight: f64,
}

/// The blocks that the official configs tap: every third or sixth, ending with the last.
pub(super) fn default_taps(depth: usize) -> [usize; 4] {
    let at = |k: usize| (depth * k / 4).max(1) - 1;
    [at(1), at(2), at(3), at(4)]
}

/// Sizes from the tensors alone, where no config says them. Pool scales cannot be seen: the published ones are taken.
pub(super) fn infer(tensors: &Tensors, depth: usize) -> Option<SegmenterHead> {
    let shape = |name: &str| tensors.get(name).map(|t| t.shape.as_slice());
    let rows = |name: &str| shape(name)?.first().copied();
    let branches = (0..64)
        .take_while(|i| tensors.contains_key(&format!("decode_head.psp_modules.{i}.1.conv.weight")))
        .count();
    let scales = [1, 2, 3, 6, 8, 12, 16, 24];
    let convs = (0..16)
        .take_while(|i| tensors.contains_key(&format!("auxiliary_head.convs.{i}.conv.weight")))
        .count();
    let auxiliary = rows("auxiliary_head.convs.0.conv.weight").map(|channels| AuxiliaryHead {
        channels,
        convs,
        weight: 0.4,
    });
    Some(SegmenterHead {
        classes: rows("decode_head.conv_seg.weight")?,
        channels: rows("decode_head.bottleneck.conv.weight")?,
        pool_scales: scales.into_iter().take(branches).collect(),
        taps: default_taps(depth),
        auxiliary,
    })
}

/// Adds names and shapes of neck and heads behind a backbone of width `d`. The counters of batch norm are not part
/// of the network: a file may have them.
pub(super) fn add_shapes(out: &mut Shapes, head: &SegmenterHead, d: usize) {
    let c = head.channels;
    let mut put = |name: String, shape: Vec<usize>| {
        out.insert(name, shape);
    };
    let norm = |put: &mut dyn FnMut(String, Vec<usize>), module: &str, width: usize| {
        for part in ["weight", "bias", "running_mean", "running_var"] {
            put(format!("{module}.{part}"), vec![width]);
        }
    };
    for up in ["fpn1.0", "fpn1.3", "fpn2.0"] {
        put(format!("{up}.weight"), vec![d, d, 2, 2]);
        put(format!("{up}.bias"), vec![d]);
    }
    norm(&mut put, "fpn1.1", d);
    let mut conv = |module: &str, o: usize, i: usize, k: usize| {
        put(format!("{module}.conv.weight"), vec![o, i, k, k]);
        norm(&mut put, &format!("{module}.bn"), o);
    };
    for i in 0..head.pool_scales.len() {
        conv(&format!("decode_head.psp_modules.{i}.1"), c, d, 1);
    }
    conv("decode_head.bottleneck", c, d + head.pool_scales.len() * c, 3);
    for i in 0..3 {
        conv(&format!("decode_head.lateral_convs.{i}"), c, d, 1);
        conv(&format!("decode_head.fpn_convs.{i}"), c, c, 3);
    }
    conv("decode_head.fpn_bottleneck", c, 4 * c, 3);
    for i in 0..head.auxiliary.as_ref().map_or(0, |a| a.convs) {
        let a = head.auxiliary.as_ref().map_or(0, |a| a.channels);
        conv(&format!("auxiliary_head.convs.{i}"), a, if i == 0 { d } else { a }, 3);
    }
    let mut last = |module: &str, width: usize| {
        put(format!("{module}.conv_seg.weight"), vec![head.classes, width, 1, 1]);
        put(format!("{module}.conv_seg.bias"), vec![head.classes]);
    };
    last("decode_head", c);
    if let Some(a) = &head.auxiliary {
        last("auxiliary_head", a.channels);
    }
}
