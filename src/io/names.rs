//! Parameter names of the three libraries that share BEiT weights, and of the tokenizer.
//!
//! Inside this crate the ViT uses the names of the official code (`blocks.0.attn.qkv.weight`, `norm.weight`,
//! `lm_head.weight`) and the tokenizer those of OpenAI's dVAE behind `encoder.` and `decoder.`.
//! No layout transposes a weight; the only change of values is that transformers keeps the three parts
//! of `qkv` as tensors of their own.

use super::fit;
use super::tensors::{Tensor, TensorData, Tensors};
use crate::error::{Error, Result};

/// The naming scheme of a weight file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
}

/// Recognises the layout from the names, or nothing.
pub fn detect_layout<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Layout> {
    let mut found = None;
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
        if name.starts_with("rel_pos_bias.")
            || matches!(name, "mask_token" | "lm_head.weight" | "norm.weight")
        {
            found = Some(Layout::Official);
        } else if name.starts_with("patch_embed.") && found.is_none() {
            found = Some(Layout::Timm);
        }
    }
    found
}

/// What transformers puts before every name of the backbone.
const PREFIX: &str = "beit.";

/// Index buffers of the relative position bias: derived from the grid, so never read or written.
const INDEX_BUFFER: &str = "relative_position_index";

/// Names outside the blocks: official, transformers without the prefix.
const OUTSIDE: [(&str, &str); 9] = [
    ("cls_token", "embeddings.cls_token"),
    ("mask_token", "embeddings.mask_token"),
    ("pos_embed", "embeddings.position_embeddings"),
    ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight"),
    ("patch_embed.proj.bias", "embeddings.patch_embeddings.projection.bias"),
    (
        "rel_pos_bias.relative_position_bias_table",
        "encoder.relative_position_bias.relative_position_bias_table",
    ),
    ("fc_norm.weight", "pooler.layernorm.weight"),
    ("fc_norm.bias", "pooler.layernorm.bias"),
    // newer files keep the shared table one level up
    ("rel_pos_bias.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"),
];

/// Names of heads, which never carry the prefix: official, transformers.
const HEADS: [(&str, &str); 4] = [
    ("lm_head.weight", "lm_head.weight"),
    ("lm_head.bias", "lm_head.bias"),
    ("head.weight", "classifier.weight"),
    ("head.bias", "classifier.bias"),
];

/// Names inside block i after `blocks.i.`, and after `encoder.layer.i.`. The first row of an official name is the
/// one that is written; later ones are read only (renamed modules of newer versions).
const INSIDE: [(&str, &str); 27] = [
    ("gamma_1", "lambda_1"),
    ("gamma_2", "lambda_2"),
    ("norm1.weight", "layernorm_before.weight"),
    ("norm1.bias", "layernorm_before.bias"),
    ("norm2.weight", "layernorm_after.weight"),
    ("norm2.bias", "layernorm_after.bias"),
    ("attn.q_bias", "attention.attention.query.bias"),
    ("attn.v_bias", "attention.attention.value.bias"),
    ("attn.q.weight", "attention.attention.query.weight"),
    ("attn.k.weight", "attention.attention.key.weight"),
    ("attn.k_bias", "attention.attention.key.bias"),
    ("attn.v.weight", "attention.attention.value.weight"),
    (
        "attn.relative_position_bias_table",
        "attention.attention.relative_position_bias.relative_position_bias_table",
    ),
    ("attn.proj.weight", "attention.output.dense.weight"),
    ("attn.proj.bias", "attention.output.dense.bias"),
    ("mlp.fc1.weight", "intermediate.dense.weight"),
    ("mlp.fc1.bias", "intermediate.dense.bias"),
    ("mlp.fc2.weight", "output.dense.weight"),
    ("mlp.fc2.bias", "output.dense.bias"),
    ("attn.q_bias", "attention.q_proj.bias"),
    ("attn.v_bias", "attention.v_proj.bias"),
    ("attn.q.weight", "attention.q_proj.weight"),
    ("attn.k.weight", "attention.k_proj.weight"),
    ("attn.v.weight", "attention.v_proj.weight"),
    ("attn.proj.weight", "attention.o_proj.weight"),
    ("attn.proj.bias", "attention.o_proj.bias"),
    ("attn.relative_position_bias_table", "relative_position_bias.relative_position_bias_table"),
];

/// The parts of `qkv` in the order of its rows: the names used between the two steps of a conversion.
const QKV_PARTS: [&str; 3] = ["attn.q.weight", "attn.k.weight", "attn.v.weight"];

/// Renames internal tensors to those of `BeitForMaskedImageModeling` or `BeitForImageClassification`.
///
/// With a token head the final norm is the head model's own `layernorm`; without one it is `beit.layernorm`.
pub fn to_transformers(tensors: Tensors) -> Result<Tensors> {
    let norm = if tensors.contains_key("lm_head.weight") { "layernorm." } else { "beit.layernorm." };
    let mut out = Tensors::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        if name.ends_with(INDEX_BUFFER) {
            continue;
        }
        if let Some(block) = name.strip_suffix("attn.qkv.weight").and_then(block_of) {
            let parts = split_rows(tensor).map_err(|e| e.at(format!("tensor {name}")))?;
            for (part, tensor) in QKV_PARTS.into_iter().zip(parts) {
                let inside = look_up(&INSIDE, part).unwrap_or(part);
                out.insert(format!("{PREFIX}encoder.layer.{block}.{inside}"), tensor);
            }
        } else if let Some(theirs) = transformers_name(&name, norm) {
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
    refuse_unknown(unknown, "names of BeitForMaskedImageModeling or BeitForImageClassification")?;
    drop_zero_key_bias(&mut out)?;
    join_qkv(out)
}

/// Tensors of timm as internal ones: the names agree; index buffers and a zero key bias are left out.
pub fn from_timm(tensors: Tensors) -> Result<Tensors> {
    let mut out: Tensors = tensors.into_iter().filter(|(name, _)| !name.ends_with(INDEX_BUFFER)).collect();
    drop_zero_key_bias(&mut out)?;
    Ok(out)
}

/// Internal tensors as timm's; only what timm's BEiT has no place for is refused.
pub fn to_timm(tensors: Tensors) -> Result<Tensors> {
    let alien = |name: &&String| name.starts_with("lm_head.") || name.as_str() == "mask_token";
    let unknown: Vec<String> = tensors.keys().filter(alien).cloned().collect();
    refuse_unknown(unknown, "a classifier: timm has no masked-image model")?;
    from_timm(tensors)
}

/// Tensors of the official code as internal ones: index buffers are left out, all else stays.
pub fn from_official(tensors: Tensors) -> Result<Tensors> {
    from_timm(tensors)
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

/// Splits `7.norm1.weight` into its index and the rest.
fn split_index(path: &str) -> Option<(&str, &str)> {
    let (index, rest) = path.split_once('.')?;
    (!index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())).then_some((index, rest))
}

/// Their name for ours, from the first row that has it.
fn look_up(table: &[(&'static str, &'static str)], ours: &str) -> Option<&'static str> {
    table.iter().find(|(o, _)| *o == ours).map(|(_, theirs)| *theirs)
}

/// Our name for theirs.
fn look_back(table: &[(&'static str, &'static str)], theirs: &str) -> Option<&'static str> {
    table.iter().find(|(_, t)| *t == theirs).map(|(ours, _)| *ours)
}

fn transformers_name(name: &str, norm: &str) -> Option<String> {
    if let Some(theirs) = look_up(&HEADS, name) {
        return Some(theirs.to_owned());
    }
    if let Some(part) = name.strip_prefix("norm.") {
        return matches!(part, "weight" | "bias").then(|| format!("{norm}{part}"));
    }
    if let Some((index, rest)) = name.strip_prefix("blocks.").and_then(split_index) {
        return Some(format!("{PREFIX}encoder.layer.{index}.{}", look_up(&INSIDE, rest)?));
    }
    Some(format!("{PREFIX}{}", look_up(&OUTSIDE, name)?))
}

fn official_name(name: &str) -> Option<String> {
    if let Some(ours) = look_back(&HEADS, name) {
        return Some(ours.to_owned());
    }
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    if let Some(part) = name.strip_prefix("layernorm.") {
        return matches!(part, "weight" | "bias").then(|| format!("norm.{part}"));
    }
    if let Some((index, rest)) = name.strip_prefix("encoder.layer.").and_then(split_index) {
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

/// Splits the rows of a stacked [3D, D] weight into three [D, D].
fn split_rows(tensor: Tensor) -> Result<[Tensor; 3]> {
    let (&[rows, cols], TensorData::F32(data)) = (tensor.shape.as_slice(), &tensor.data) else {
        return Err(Error::shape("stacked attention weight").expected("F32 [3D, D]").got(describe(&tensor)));
    };
    if rows == 0 || rows % 3 != 0 || cols == 0 {
        return Err(Error::shape("stacked attention weight").expected("F32 [3D, D]").got(describe(&tensor)));
    }
    let mut parts = data
        .chunks_exact(data.len() / 3)
        .map(|part| Tensor { shape: vec![rows / 3, cols], data: TensorData::F32(part.to_vec()) });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(q), Some(k), Some(v)) => Ok([q, k, v]),
        _ => Err(Error::shape("stacked attention weight").expected("three parts")),
    }
}

/// Joins query, key and value of every block into `attn.qkv.weight`.
fn join_qkv(mut tensors: Tensors) -> Result<Tensors> {
    let blocks: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix("attn.q.weight")?.to_owned())).collect();
    for block in &blocks {
        let mut data = Vec::new();
        let mut rows = 0;
        let mut shape: Option<Vec<usize>> = None;
        for part in QKV_PARTS {
            let name = format!("{block}{part}");
            let tensor = tensors.remove(&name).ok_or_else(|| {
                Error::checkpoint("attention without one of query, key, value").at(name.clone())
            })?;
            let values = tensor.as_f32().map_err(|e| e.at(name.clone()))?;
            let expected = shape.get_or_insert_with(|| tensor.shape.clone());
            if *expected != tensor.shape || tensor.shape.len() != 2 {
                return Err(Error::shape("attention weight")
                    .at(name)
                    .expected("three alike [D, D]")
                    .got(describe(&tensor)));
            }
            rows += tensor.shape.first().copied().unwrap_or(0);
            data.extend_from_slice(values);
        }
        let cols = shape.and_then(|s| s.last().copied()).unwrap_or(0);
        tensors.insert(format!("{block}attn.qkv.weight"), Tensor::f32(vec![rows, cols], data)?);
    }
    match tensors.keys().find(|name| QKV_PARTS.iter().any(|part| name.ends_with(part))) {
        Some(name) => Err(Error::checkpoint("attention without a query weight").at(name.clone())),
        None => Ok(tensors),
    }
}

fn describe(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.data.dtype_name(), tensor.shape)
}

#[cfg(test)]
mod tests;
