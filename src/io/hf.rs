//! `config.json` and `preprocessor_config.json` as transformers writes and reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest config file that is read, in bytes.
pub const CONFIG_BYTES: usize = 1 << 20;

/// Class name of the pre-training model.
pub const MASKED_IMAGE_MODEL: &str = "BeitForMaskedImageModeling";
/// Class name of the classifier.
pub const IMAGE_CLASSIFIER: &str = "BeitForImageClassification";
/// Class name of the segmenter.
pub const SEGMENTER: &str = "BeitForSemanticSegmentation";
/// Class name of the network without a head.
pub const BACKBONE: &str = "BeitModel";
/// All classes whose files are read.
pub const CLASSES: [&str; 4] = [MASKED_IMAGE_MODEL, IMAGE_CLASSIFIER, SEGMENTER, BACKBONE];

/// A BEiT's `config.json`. `Default` is beit-base-patch16-224-pt22k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HfConfig {
    /// Class of the model that the weights belong to, such as [`MASKED_IMAGE_MODEL`].
    pub architectures: Vec<String>,
    /// Always `beit`.
    pub model_type: String,
    /// Width D of the tokens.
    pub hidden_size: usize,
    /// Width of the MLP's inner layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Heads H; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Always `gelu`, the exact form.
    pub hidden_act: String,
    /// Always 0 in BEiT.
    pub hidden_dropout_prob: f64,
    /// Always 0 in BEiT.
    pub attention_probs_dropout_prob: f64,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Added to variances.
    pub layer_norm_eps: f64,
    /// Sides of the image in pixels; one number in the file where they agree.
    pub image_size: HfImage,
    /// Side of a patch in pixels; divides `image_size`.
    pub patch_size: usize,
    /// Always 3.
    pub num_channels: usize,
    /// Visual tokens V.
    pub vocab_size: usize,
    /// Initial gamma; 0 means a model without layer scale.
    pub layer_scale_init_value: f64,
    /// Drop-path rate of the last block.
    pub drop_path_rate: f64,
    /// Absolute position embeddings (the paper flavour).
    pub use_absolute_position_embeddings: bool,
    /// Whether there is a mask token.
    pub use_mask_token: bool,
    /// One relative bias table for all blocks (pre-training, plus flavour).
    pub use_shared_relative_position_bias: bool,
    /// A relative bias table in each block (fine-tuning).
    pub use_relative_position_bias: bool,
    /// Backbone without a final norm of its own.
    pub use_mean_pooling: bool,
    /// Blocks that feed a segmenter's pyramid, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_indices: Option<Vec<usize>>,
    /// The same in older files; read only.
    #[serde(skip_serializing)]
    pub segmentation_indices: Option<Vec<usize>>,
    /// Sides of a segmenter's pooled maps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_scales: Option<Vec<usize>>,
    /// Whether a segmenter has an auxiliary head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_auxiliary_head: Option<bool>,
    /// Weight of the auxiliary head's loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary_loss_weight: Option<f64>,
    /// Channels of the auxiliary head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary_channels: Option<usize>,
    /// Convolutions of the auxiliary head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary_num_convs: Option<usize>,
    /// Always false in BEiT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auxiliary_concat_input: Option<bool>,
    /// Label of pixels that count for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semantic_loss_ignore_index: Option<i64>,
    /// Class names of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id2label: Option<BTreeMap<u32, String>>,
    /// Class numbers of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label2id: Option<BTreeMap<String, u32>>,
}

/// Rows and columns of the network's picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sides", into = "Sides")]
pub struct HfImage {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Sides {
    One(usize),
    Two([usize; 2]),
}

impl From<Sides> for HfImage {
    fn from(sides: Sides) -> Self {
        let [height, width] = match sides {
            Sides::One(side) => [side; 2],
            Sides::Two(pair) => pair,
        };
        HfImage { height, width }
    }
}

impl From<HfImage> for Sides {
    fn from(image: HfImage) -> Self {
        if image.height == image.width {
            Sides::One(image.height)
        } else {
            Sides::Two([image.height, image.width])
        }
    }
}

impl Default for HfConfig {
    fn default() -> Self {
        HfConfig {
            architectures: vec![MASKED_IMAGE_MODEL.to_owned()],
            model_type: "beit".to_owned(),
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_act: "gelu".to_owned(),
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            image_size: HfImage { height: 224, width: 224 },
            patch_size: 16,
            num_channels: 3,
            vocab_size: 8192,
            layer_scale_init_value: 0.1,
            drop_path_rate: 0.1,
            use_absolute_position_embeddings: false,
            use_mask_token: true,
            use_shared_relative_position_bias: true,
            use_relative_position_bias: false,
            use_mean_pooling: true,
            out_indices: None,
            segmentation_indices: None,
            pool_scales: None,
            use_auxiliary_head: None,
            auxiliary_loss_weight: None,
            auxiliary_channels: None,
            auxiliary_num_convs: None,
            auxiliary_concat_input: None,
            semantic_loss_ignore_index: None,
            id2label: None,
            label2id: None,
        }
    }
}

/// Keys whose default in the library differs from that of the pre-training model: its writer leaves out every key
/// that has the library's default.
const LIBRARY_DEFAULTS: [(&str, bool); 2] =
    [("use_mask_token", false), ("use_shared_relative_position_bias", false)];

impl HfConfig {
    /// Number of classes, if the file names them.
    pub fn num_labels(&self) -> Option<usize> {
        self.id2label.as_ref().map(BTreeMap::len)
    }
    /// The class names in the order of the classes; none where the file has none.
    pub fn labels(&self) -> Vec<String> {
        self.id2label.iter().flat_map(BTreeMap::values).cloned().collect()
    }
    /// Gives the model class names: fills `id2label` and `label2id`.
    pub fn with_labels(mut self, labels: &[String]) -> Self {
        let numbered = || labels.iter().zip(0u32..);
        self.id2label = Some(numbered().map(|(label, i)| (i, label.clone())).collect());
        self.label2id = Some(numbered().map(|(label, i)| (label.clone(), i)).collect());
        self
    }
    /// What this crate computes, and what it cannot.
    fn check(&self) -> Result<()> {
        must_be("model_type", &self.model_type, "beit")?;
        must_be("hidden_act", &self.hidden_act, "gelu")?;
        must_be("num_channels", &self.num_channels.to_string(), "3")?;
        for (key, size) in [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("image_size", self.image_size.height),
            ("image_size", self.image_size.width),
            ("patch_size", self.patch_size),
            ("vocab_size", self.vocab_size),
        ] {
            if !(1..=1 << 20).contains(&size) {
                return Err(wrong(key).expected("1 to 1048576").got(size.to_string()));
            }
        }
        if let Some(labels) = &self.id2label
            && !labels.keys().copied().eq(0..labels.len() as u32)
        {
            return Err(wrong("id2label").expected("classes numbered from 0 without gaps"));
        }
        divides("num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size)?;
        divides("patch_size", self.patch_size, "image_size", self.image_size.height)?;
        divides("patch_size", self.patch_size, "image_size", self.image_size.width)?;
        for (key, value) in [("layer_norm_eps", self.layer_norm_eps), ("drop_path_rate", self.drop_path_rate)]
        {
            if !(0.0..1.0).contains(&value) {
                return Err(wrong(key).expected("0 up to 1").got(value.to_string()));
            }
        }
        Ok(())
    }
}

/// The text of `config.json`.
pub fn transformers_config_json(config: &HfConfig) -> String {
    pretty(config)
}

/// Reads a `config.json`. Unknown keys are ignored; missing ones have the library's defaults.
///
/// # Errors
/// If it is not the config of a BEiT, or a value is out of range.
pub fn parse_transformers_config(bytes: &[u8]) -> Result<HfConfig> {
    let mut object = parse_object(bytes)?;
    require(&object, &["model_type"])?;
    for (key, value) in LIBRARY_DEFAULTS {
        object.entry(key).or_insert(value.into());
    }
    if object.get("architectures").is_none_or(Value::is_null) {
        object.insert("architectures".into(), Value::Array(vec![]));
    }
    // [16, 16] is another way to write 16
    let patch =
        object.get("patch_size").and_then(Value::as_array).filter(|p| p.len() == 2 && p.first() == p.last());
    if let Some(side) = patch.and_then(|p| p.first()).cloned() {
        object.insert("patch_size".into(), side);
    }
    let config: HfConfig = serde_json::from_value(Value::Object(object))
        .map_err(|e| Error::checkpoint("wrong value in a config").got(e.to_string()))?;
    config.check()?;
    Ok(config)
}

/// Any JSON object within the size limit of a config.
///
/// # Errors
/// If it is too long or malformed.
pub fn parse_json(bytes: &[u8]) -> Result<Value> {
    parse_object(bytes).map(Value::Object)
}

/// Height and width of a prepared picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HfSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A `preprocessor_config.json`: how a picture becomes the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HfPreprocessor {
    /// Class that reads this file.
    pub image_processor_type: String,
    /// Whether to resize to `size`.
    pub do_resize: bool,
    /// Size after resizing.
    pub size: HfSize,
    /// Pillow's filter number: 2 bilinear, 3 bicubic, 1 Lanczos.
    pub resample: u8,
    /// Whether to cut out the centre.
    pub do_center_crop: bool,
    /// Size of that cut.
    pub crop_size: HfSize,
    /// Whether to multiply pixels 0..255 by `rescale_factor`.
    pub do_rescale: bool,
    /// 1/255.
    pub rescale_factor: f64,
    /// Whether to subtract the mean and divide by the deviation.
    pub do_normalize: bool,
    /// Mean per channel of pixels 0..1.
    pub image_mean: [f64; 3],
    /// Deviation per channel.
    pub image_std: [f64; 3],
    /// Segmentation maps whose label 0 means "nothing".
    pub do_reduce_labels: bool,
}

impl HfPreprocessor {
    /// What this crate trains with: a square of `side` pixels, bicubic, pixels mapped to -1..1.
    pub fn square(side: usize) -> Self {
        let size = HfSize { height: side, width: side };
        HfPreprocessor {
            image_processor_type: "BeitImageProcessor".to_owned(),
            do_resize: true,
            size,
            resample: 3,
            do_center_crop: false,
            crop_size: size,
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
            do_reduce_labels: false,
        }
    }
}

impl Default for HfPreprocessor {
    fn default() -> Self {
        Self::square(224)
    }
}

/// The text of `preprocessor_config.json`.
pub fn preprocessor_config_json(config: &HfPreprocessor) -> String {
    pretty(config)
}

/// Reads a `preprocessor_config.json`, old forms included: a plain number as size, `reduce_labels`.
pub fn parse_preprocessor_config(bytes: &[u8]) -> Result<HfPreprocessor> {
    let mut object = parse_object(bytes)?;
    require(&object, &["size", "image_mean", "image_std"])?;
    for key in ["size", "crop_size"] {
        let square = object.get(key).and_then(|v| v.as_u64().or_else(|| v.get("shortest_edge")?.as_u64()));
        if let Some(side) = square {
            object.insert(key.to_owned(), serde_json::json!({"height": side, "width": side}));
        }
    }
    if let (Some(old), false) =
        (object.get("reduce_labels").cloned(), object.contains_key("do_reduce_labels"))
    {
        object.insert("do_reduce_labels".to_owned(), old);
    }
    let config: HfPreprocessor = serde_json::from_value(Value::Object(object))
        .map_err(|e| Error::checkpoint("wrong value in a preprocessor config").got(e.to_string()))?;
    if config.size.height == 0 || config.size.width == 0 {
        return Err(wrong("size").expected("1 pixel or more"));
    }
    if config.image_std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(wrong("image_std").expected("numbers above 0").got(format!("{:?}", config.image_std)));
    }
    Ok(config)
}

fn pretty<T: Serialize>(value: &T) -> String {
    // plain structs of numbers, strings and string-keyed maps always serialise
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>> {
    if bytes.len() > CONFIG_BYTES {
        return Err(Error::checkpoint("config too large")
            .expected(format!("at most {CONFIG_BYTES} bytes"))
            .got(bytes.len().to_string()));
    }
    serde_json::from_slice(bytes).map_err(|e| Error::checkpoint("malformed config").got(e.to_string()))
}

fn require(object: &Map<String, Value>, keys: &[&str]) -> Result<()> {
    let missing: Vec<&str> = keys.iter().copied().filter(|key| !object.contains_key(*key)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::checkpoint("config lacks required keys").got(format!("no {}", missing.join(", "))))
}

fn wrong(key: &str) -> Error {
    Error::checkpoint("wrong value in a config").at(key.to_owned())
}

fn must_be(key: &str, got: &str, expected: &str) -> Result<()> {
    if got == expected { Ok(()) } else { Err(wrong(key).expected(expected).got(got.to_owned())) }
}

fn divides(part_key: &str, part: usize, whole_key: &str, whole: usize) -> Result<()> {
    if whole.is_multiple_of(part) {
        return Ok(());
    }
    Err(wrong(part_key).expected(format!("a divisor of {whole_key} {whole}")).got(part.to_string()))
}

#[cfg(test)]
mod tests;
