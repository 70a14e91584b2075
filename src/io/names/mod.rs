//! Parameter names of the three libraries that share BEiT weights, and of the tokenizer.
//!
//! Inside this crate the ViT uses the names of the official code (`blocks.0.attn.qkv.weight`, `norm.weight`,
//! `lm_head.weight`, `decode_head.conv_seg.weight`), a segmenter's backbone without its `backbone.`, and the
//! tokenizer those of OpenAI's dVAE behind `encoder.` and `decoder.`, or those of the official code's own dVAE.
//! No layout transposes a weight; the only change of values is that transformers keeps the three parts
//! of `qkv` as tensors of their own.

mod index;
mod qkv;
mod tables;

use super::fit;
use super::tensors::{Tensor, Tensors};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use tables::{HEADS, INSIDE, OUTSIDE, PREFIX, PYRAMID, SEGMENTER, look_back, look_up, split_index};

pub use index::{grid_of_index, relative_position_index};

/// The naming scheme of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The official code's, which is this crate's own: a pre-training checkpoint.
    Official,
    /// timm's: the official fine-tuning names without index buffers.
    Timm,
    /// Hugging Face transformers, with or without the `beit.` prefix.
    Transformers,
    /// A dVAE with both halves under `encoder.` and `decoder.`.
    Dvae,
    /// One half of a dVAE with bare names (`blocks.input.w`).
    DvaeHalf,
    /// The customised dVAE of the official code: `encoder.0.0.weight`, `codebook.weight`.
    CustomDvae,
    /// The tokenizer of BEiT v2: `encoder.blocks.0.norm1.weight`, `encode_task_layer.0.weight`, `quantize.embedding.weight`.
    VqKd,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layout::Official => "official",
            Layout::Timm => "timm",
            Layout::Transformers => "transformers",
            Layout::Dvae => "dVAE",
            Layout::DvaeHalf => "half of a dVAE",
            Layout::CustomDvae => "customised dVAE",
            Layout::VqKd => "VQ-KD",
        })
    }
}

/// Recognises the layout from the names, or nothing.
pub fn detect_layout<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Layout> {
    let mut found = None;
    let names: Vec<&str> = names.into_iter().collect();
    if names.iter().any(|name| name.starts_with(TASK_LAYER)) {
        return Some(Layout::VqKd);
    }
    for name in names {
        let name = name.strip_prefix(PREFIX).unwrap_or(name);
        if name.starts_with("embeddings.") || name.starts_with("encoder.layer.") {
            return Some(Layout::Transformers);
        }
        if name.starts_with("encoder.blocks.") || name.starts_with("decoder.blocks.") {
            return Some(Layout::Dvae);
        }
        if name.starts_with("blocks.input.") {
            return Some(Layout::DvaeHalf);
        }
        if name == "codebook.weight" || name.starts_with("encoder.0.0.") {
            return Some(Layout::CustomDvae);
        }
        if name.starts_with("rel_pos_bias.")
            || name.starts_with(BACKBONE)
            || matches!(name, "mask_token" | "lm_head.weight" | "norm.weight")
        {
            found = Some(Layout::Official);
        } else if name.starts_with("patch_embed.") && found.is_none() {
            found = Some(Layout::Timm);
        }
    }
    found
}

/// What only a VQ-KD tokenizer has.
const TASK_LAYER: &str = "encode_task_layer.";
/// What official VQ-KD files hold beside the network: the teacher, and statistics that its library recomputes.
const BESIDE_VQ_KD: [&str; 6] = [
    "teacher_model.",
    "scaling_layer.",
    "loss",
    "quantize.embedding.cluster_size",
    "quantize.embedding.embed_avg",
    "quantize.embedding.initted",
];
const CODE_SIZES: &str = "quantize.cluster_size";
const CODES: &str = "quantize.embedding.weight";

/// Leaves only what this crate's VQ-KD tokenizer has of an official file; sizes of codes that are not there are 1.
pub fn from_vq_kd(tensors: &mut Tensors) -> Result<()> {
    tensors.retain(|name, _| !BESIDE_VQ_KD.iter().any(|beside| name.starts_with(beside)));
    let vocab = tensors.get(CODES).and_then(|t| t.shape.first().copied());
    if let Some(vocab) = vocab.filter(|_| !tensors.contains_key(CODE_SIZES)) {
        let ones = tensors.get(CODES).map_or(0, |t| t.data.len()).min(vocab);
        tensors.insert(CODE_SIZES.into(), Tensor::f32(vec![vocab], vec![1.0; ones])?);
    }
    Ok(())
}

/// A VQ-KD tokenizer as the official code has it: without mean patches, with the statistics that it keeps twice.
pub fn to_vq_kd(mut tensors: Tensors) -> Result<Tensors> {
    tensors.retain(|name, _| !name.starts_with("mean_patches."));
    for (from, to) in
        [(CODES, "quantize.embedding.embed_avg"), (CODE_SIZES, "quantize.embedding.cluster_size")]
    {
        if let Some(tensor) = tensors.get(from).cloned() {
            tensors.insert(to.into(), tensor);
        }
    }
    tensors.insert("quantize.embedding.initted".into(), Tensor::f32(vec![1], vec![1.0])?);
    Ok(tensors)
}

/// What the official segmentation files put before every name of the backbone.
const BACKBONE: &str = "backbone.";

/// Index buffers of the relative position bias: derived from the grid, so their values are never used.
pub const INDEX_BUFFER: &str = "relative_position_index";

/// Whether these are the tensors of a segmenter, by our names.
pub fn is_segmenter(tensors: &Tensors) -> bool {
    tensors.keys().any(|name| SEGMENTER.iter().any(|module| name.starts_with(module)))
}

/// Renames internal tensors to those of transformers.
///
/// With a token head the final norm is the head model's own `layernorm`; with another head it is `beit.layernorm`.
/// Without any head the names are those of the bare `BeitModel`, which has no prefix.
pub fn to_transformers(tensors: Tensors) -> Result<Tensors> {
    let mim = tensors.contains_key("lm_head.weight");
    let headed = mim || tensors.contains_key("head.weight") || is_segmenter(&tensors);
    let prefix = if headed { PREFIX } else { "" };
    let norm = if mim { "layernorm.".to_owned() } else { format!("{prefix}layernorm.") };
    let mut out = Tensors::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        if name.ends_with(INDEX_BUFFER) {
            continue;
        }
        if let Some(block) = name.strip_suffix("attn.qkv.weight").and_then(block_of) {
            let parts = qkv::split_rows(tensor).map_err(|e| e.at(format!("tensor {name}")))?;
            for (part, tensor) in qkv::PARTS.into_iter().zip(parts) {
                let inside = look_up(&INSIDE, part).unwrap_or(part);
                out.insert(format!("{prefix}encoder.layer.{block}.{inside}"), tensor);
            }
        } else if let Some(theirs) = transformers_name(&name, prefix, &norm) {
            out.insert(theirs, tensor);
        } else {
            unknown.push(name);
        }
    }
    refuse_unknown(unknown, "official names such as blocks.0.norm1.weight")?;
    Ok(out)
}

/// Renames tensors of transformers to internal ones, joining query, key and value.
pub fn from_transformers(tensors: Tensors) -> Result<Tensors> {
    if tensors.contains_key("layernorm.weight") && tensors.contains_key("beit.layernorm.weight") {
        return Err(Error::checkpoint("two final norms")
            .at("layernorm.weight and beit.layernorm.weight")
            .expected("one of them: this model normalises once"));
    }
    let mut out = Tensors::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        if name.ends_with(INDEX_BUFFER) {
            continue;
        }
        let Some(ours) = official_name(&name) else {
            unknown.push(name);
            continue;
        };
        insert_once(&mut out, ours, tensor, &name)?;
    }
    refuse_unknown(unknown, "names of a BEiT of transformers")?;
    drop_zero_key_bias(&mut out)?;
    qkv::join(out)
}

/// Tensors of timm as internal ones: the names agree; index buffers and a zero key bias are left out. A model without
/// biases of query and value (`qkv_bias=False`) gets zeros, which compute the same.
pub fn from_timm(tensors: Tensors) -> Result<Tensors> {
    let mut out: Tensors = tensors.into_iter().filter(|(name, _)| !name.ends_with(INDEX_BUFFER)).collect();
    drop_zero_key_bias(&mut out)?;
    qkv::add_zero_biases(&mut out)?;
    Ok(out)
}

/// Internal tensors as timm's, without index buffers; what timm's BEiT has no place for is refused.
pub fn to_timm(tensors: Tensors) -> Result<Tensors> {
    let alien = |name: &&String| {
        let segmenter = SEGMENTER.iter().any(|module| name.starts_with(module));
        segmenter || name.starts_with("lm_head.") || name.as_str() == "mask_token"
    };
    let unknown: Vec<String> = tensors.keys().filter(alien).cloned().collect();
    refuse_unknown(unknown, "a classifier: timm has neither a masked-image model nor a segmenter of BEiT")?;
    from_timm(tensors)
}

/// Adds the index buffer that timm keeps beside a shared relative table; it keeps none beside a block's own.
pub fn add_timm_index(tensors: &mut Tensors, grid: (usize, usize)) -> Result<()> {
    index::insert(tensors, grid, |table| table.starts_with("rel_pos_bias."))
}

/// Tensors of the official code as internal ones: index buffers and `backbone.` are left out, all else stays.
pub fn from_official(tensors: Tensors) -> Result<Tensors> {
    let mut out = Tensors::new();
    for (name, tensor) in from_timm(tensors)? {
        let ours = name.strip_prefix(BACKBONE).unwrap_or(&name).to_owned();
        insert_once(&mut out, ours, tensor, &name)?;
    }
    Ok(out)
}

/// Internal tensors as the official code's for a patch grid, with the index buffer of every table; the backbone of
/// a segmenter gets its `backbone.`.
pub fn to_official(tensors: Tensors, grid: (usize, usize)) -> Result<Tensors> {
    let mut out = tensors;
    let segmenter = is_segmenter(&out);
    index::insert(&mut out, grid, |_| true)?;
    let heads = ["decode_head.", "auxiliary_head."];
    let inside = |name: &str| segmenter && !heads.iter().any(|head| name.starts_with(head));
    Ok(out
        .into_iter()
        .map(|(n, t)| if inside(&n) { (format!("{BACKBONE}{n}"), t) } else { (n, t) })
        .collect())
}

/// Gives the bare names of one dVAE half (`blocks.input.w`) their prefix, `encoder` or `decoder`.
pub fn with_prefix(tensors: Tensors, half: &str) -> Tensors {
    tensors.into_iter().map(|(name, tensor)| (format!("{half}.{name}"), tensor)).collect()
}

/// The tensors under a prefix, without it: the reverse of [`with_prefix`].
pub fn without_prefix(tensors: &Tensors, half: &str) -> Tensors {
    let strip = |name: &str| Some(name.strip_prefix(half)?.strip_prefix('.')?.to_owned());
    tensors.iter().filter_map(|(name, tensor)| Some((strip(name)?, tensor.clone()))).collect()
}

/// `blocks.7.` → `7`.
fn block_of(path: &str) -> Option<&str> {
    let index = path.strip_prefix("blocks.")?.strip_suffix('.')?;
    (!index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())).then_some(index)
}

fn transformers_name(name: &str, prefix: &str, norm: &str) -> Option<String> {
    if let Some(theirs) = look_up(&HEADS, name) {
        return Some(theirs.to_owned());
    }
    if SEGMENTER.iter().any(|module| name.starts_with(module)) {
        return Some(name.to_owned());
    }
    if let Some(part) = name.strip_prefix("norm.") {
        return matches!(part, "weight" | "bias").then(|| format!("{norm}{part}"));
    }
    if let Some((index, rest)) = name.strip_prefix("blocks.").and_then(split_index) {
        return Some(format!("{prefix}encoder.layer.{index}.{}", look_up(&INSIDE, rest)?));
    }
    Some(format!("{prefix}{}", look_up(&OUTSIDE, name)?))
}

/// The published name of a segmenter's tensor, whose modules newer versions renamed.
fn classic_segmenter(name: &str) -> Option<String> {
    if let Some((classic, new)) = PYRAMID.iter().find(|(_, new)| name.starts_with(new)) {
        return Some(name.replacen(new, classic, 1));
    }
    if !SEGMENTER.iter().any(|module| name.starts_with(module)) {
        return None;
    }
    let name = name.replace(".convolution.", ".conv.").replace(".normalization.", ".bn.");
    let name = name.replace("decode_head.psp_bottleneck.", "decode_head.bottleneck.");
    // a pooled branch is a pair in published files: pooling at 0, convolution at 1
    let branch = name.strip_prefix("decode_head.psp_modules.blocks.").and_then(split_index);
    match branch.and_then(|(index, rest)| Some((index, rest.strip_prefix("conv.")?))) {
        Some((index, rest)) => Some(format!("decode_head.psp_modules.{index}.1.{rest}")),
        None => Some(name),
    }
}

fn official_name(name: &str) -> Option<String> {
    if let Some(ours) = look_back(&HEADS, name) {
        return Some(ours.to_owned());
    }
    if let Some(classic) = classic_segmenter(name) {
        return Some(classic);
    }
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some(part) = name.strip_prefix("layernorm.") {
        return matches!(part, "weight" | "bias").then(|| format!("norm.{part}"));
    }
    let block = name.strip_prefix("encoder.layer.").or_else(|| name.strip_prefix("layers."));
    if let Some((index, rest)) = block.and_then(split_index) {
        return Some(format!("blocks.{index}.{}", look_back(&INSIDE, rest)?));
    }
    look_back(&OUTSIDE, name).map(str::to_owned)
}

fn refuse_unknown(unknown: Vec<String>, expected: &str) -> Result<()> {
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::checkpoint("tensors that this layout does not have").expected(expected).got(format!(
        "{}: {}",
        unknown.len(),
        fit::list(&unknown)
    )))
}

fn insert_once(out: &mut Tensors, ours: String, tensor: Tensor, theirs: &str) -> Result<()> {
    if out.contains_key(&ours) {
        return Err(Error::checkpoint("two tensors for one parameter").at(theirs.to_owned()).got(ours));
    }
    out.insert(ours, tensor);
    Ok(())
}

/// BEiT's keys have no bias. Some writers keep one that is zero; any other would change the model silently.
fn drop_zero_key_bias(tensors: &mut Tensors) -> Result<()> {
    for (name, tensor) in tensors.iter().filter(|(name, _)| name.ends_with("attn.k_bias")) {
        if tensor.as_f32().map_err(|e| e.at(format!("tensor {name}")))?.iter().any(|&x| x != 0.0) {
            return Err(Error::checkpoint("key projection with a bias")
                .at(format!("tensor {name}"))
                .expected("zeros"));
        }
    }
    tensors.retain(|name, _| !name.ends_with("attn.k_bias"));
    Ok(())
}

#[cfg(test)]
mod tests;
