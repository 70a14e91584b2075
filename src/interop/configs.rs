//! The config files of the libraries, in this crate's terms.

use super::sizes::Hints;
use super::{Head, SegmenterHead};
use crate::error::{Error, Result};
use crate::io::hf::{self, HfConfig, HfPreprocessor};
use crate::models::segmenter::SegmentHead;
use crate::models::upernet::{AuxiliaryConfig, UperNetConfig};
use crate::models::{RelPos, VitConfig};
use crate::ops::Pool;
use serde_json::Value;

/// A `config.json`: of transformers, or of timm.
#[derive(Debug, Clone)]
pub(super) enum ConfigFile {
    /// transformers'.
    Transformers(Box<HfConfig>),
    /// timm's.
    Timm(Box<TimmConfig>),
}

/// What timm's `config.json` says about a model.
#[derive(Debug, Clone)]
pub(super) struct TimmConfig {
    /// What shapes cannot say.
    pub hints: Hints,
    /// How pictures are prepared.
    pub preprocessing: Option<HfPreprocessor>,
    /// Class names.
    pub labels: Vec<String>,
}

/// Reads either kind.
pub(super) fn parse(bytes: &[u8]) -> Result<ConfigFile> {
    let value = hf::parse_json(bytes)?;
    if value.get("model_type").is_none() && value.get("architecture").is_some() {
        return timm(&value).map(|c| ConfigFile::Timm(Box::new(c)));
    }
    hf::parse_transformers_config(bytes).map(|c| ConfigFile::Transformers(Box::new(c)))
}

/// The transformer that a config of transformers describes.
pub(super) fn vit_of(c: &HfConfig) -> VitConfig {
    let rel_pos = match (c.use_shared_relative_position_bias, c.use_relative_position_bias) {
        (false, false) => RelPos::None,
        (true, false) => RelPos::Shared,
        (false, true) => RelPos::PerLayer,
        (true, true) => RelPos::Both,
    };
    VitConfig {
        image: (c.image_size.height, c.image_size.width),
        patch: c.patch_size,
        width: c.hidden_size,
        depth: c.num_hidden_layers,
        heads: c.num_attention_heads,
        mlp: c.intermediate_size,
        vocab: c.vocab_size,
        layer_norm_eps: c.layer_norm_eps as f32,
        abs_pos: c.use_absolute_position_embeddings,
        rel_pos,
        layer_scale: c.layer_scale_init_value as f32,
        drop_path: c.drop_path_rate as f32,
    }
}

/// The head that a config of transformers describes, for a file whose tensors show the head `seen`.
pub(super) fn head_of(c: &HfConfig, seen: &Head) -> Result<Head> {
    let class = c.architectures.first().map(String::as_str);
    let labels = c.num_labels();
    Ok(match (class, seen) {
        (Some(hf::MASKED_IMAGE_MODEL), _) | (None, Head::MaskedImage) => Head::MaskedImage,
        (Some(hf::IMAGE_CLASSIFIER), _) | (None, Head::Classifier { .. }) => {
            let pool = if c.use_mean_pooling { Pool::MeanPatches } else { Pool::Cls };
            let seen = if let Head::Classifier { classes, .. } = seen { *classes } else { 2 };
            Head::Classifier { classes: labels.unwrap_or(seen), pool }
        }
        (Some(hf::SEGMENTER), _) | (None, Head::Segmenter(_)) => Head::Segmenter(segmenter_of(c, seen)?),
        (Some(hf::BACKBONE), _) | (None, Head::None) => Head::None,
        (Some(other), _) => {
            return Err(Error::checkpoint("a class of model that is not read")
                .at("config.json: architectures")
                .expected(hf::CLASSES.join(", "))
                .got(other.chars().take(64).flat_map(char::escape_default).collect::<String>()));
        }
    })
}

fn segmenter_of(c: &HfConfig, seen: &Head) -> Result<SegmenterHead> {
    let seen = if let Head::Segmenter(head) = seen { Some(head) } else { None };
    if let Some(own @ SegmenterHead { head: SegmentHead::SetrPup(_), .. }) = seen {
        return Ok(own.clone()); // which only this crate writes
    }
    let wrong = |key: &str, expected: &str| {
        Err(Error::checkpoint("wrong value in a config").at(key).expected(expected))
    };
    let official = UperNetConfig::official(&vit_of(c));
    let taps = match c.out_indices.as_ref().or(c.segmentation_indices.as_ref()) {
        None => official.taps,
        Some(given) => match <[usize; 4]>::try_from(given.as_slice()) {
            Ok(taps) if taps.iter().all(|&t| t < c.num_hidden_layers) => taps,
            _ => {
                let expected = format!("four block numbers from 0 to {}", c.num_hidden_layers - 1);
                return wrong("out_indices", &expected);
            }
        },
    };
    let auxiliary = c.use_auxiliary_head.unwrap_or(true).then(|| AuxiliaryConfig {
        channels: c.auxiliary_channels.unwrap_or(256),
        convs: c.auxiliary_num_convs.unwrap_or(1),
        concat_input: c.auxiliary_concat_input.unwrap_or(false),
        weight: c.auxiliary_loss_weight.unwrap_or(0.4) as f32,
    });
    if auxiliary
        .as_ref()
        .is_some_and(|a| !(1..=16).contains(&a.convs) || !(1..=1 << 16).contains(&a.channels))
    {
        return wrong("auxiliary_num_convs, auxiliary_channels", "1 to 16 and 1 to 65536");
    }
    let pool_scales = c.pool_scales.clone().unwrap_or(official.pool_scales);
    if pool_scales.is_empty() || pool_scales.len() > 16 || pool_scales.iter().any(|s| !(1..=256).contains(s))
    {
        return wrong("pool_scales", "1 to 16 sides from 1 to 256");
    }
    // The library's decoder is as wide as its transformer, official ones are too, and no key says so: the small presets of
    // this crate have narrower ones.
    let channels = match seen {
        Some(SegmenterHead { head: SegmentHead::Upernet(u), .. }) => u.channels,
        _ => official.channels,
    };
    Ok(SegmenterHead {
        classes: c.num_labels().or(seen.map(|h| h.classes)).unwrap_or(2),
        head: SegmentHead::Upernet(UperNetConfig { channels, taps, pool_scales, auxiliary, ..official }),
    })
}

/// timm's file. Only what a BEiT of timm varies in is looked at.
fn timm(value: &Value) -> Result<TimmConfig> {
    let architecture = value.get("architecture").and_then(Value::as_str).unwrap_or_default();
    if !architecture.starts_with("beit_") {
        return Err(Error::checkpoint("another architecture")
            .at("config.json: architecture")
            .expected("beit_base_patch16_224 or another BEiT of timm")
            .got(architecture.chars().take(64).flat_map(char::escape_default).collect::<String>()));
    }
    let nothing = Value::Null;
    let pretrained = value.get("pretrained_cfg").unwrap_or(&nothing);
    let args = value.get("model_args").unwrap_or(&nothing);
    let side = |v: &Value| usize::try_from(v.as_u64()?).ok().filter(|s| (1..=1 << 14).contains(s));
    let pair = |v: &Value| match v.as_array().map(Vec::as_slice) {
        Some([h, w] | [_, h, w]) => Some((side(h)?, side(w)?)),
        _ => side(v).map(|s| (s, s)),
    };
    let image = args.get("img_size").or(pretrained.get("input_size")).and_then(pair);
    let heads = args.get("num_heads").and_then(side);
    let triple = |key: &str| -> Option<[f64; 3]> {
        let list: Vec<f64> = pretrained.get(key)?.as_array()?.iter().filter_map(Value::as_f64).collect();
        list.try_into().ok()
    };
    let preprocessing = image.zip(triple("mean").zip(triple("std"))).map(|((h, w), (mean, std))| {
        let mut p = HfPreprocessor::square(h);
        (p.size.width, p.crop_size.width) = (w, w);
        (p.image_mean, p.image_std) = (mean, std);
        if pretrained.get("interpolation").and_then(Value::as_str) == Some("bilinear") {
            p.resample = 2;
        }
        p
    });
    let names = value.get("label_names").or(pretrained.get("label_names")).and_then(Value::as_array);
    let labels = names.map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    let eps = args.get("norm_layer").is_none().then_some(1e-6);
    Ok(TimmConfig {
        hints: Hints { grid: None, image, heads, eps },
        preprocessing,
        labels: labels.unwrap_or_default(),
    })
}
