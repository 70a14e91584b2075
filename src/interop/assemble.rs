//! From the tensors of a file to a checked model: layout, names, config, sizes, shapes, values.

use super::configs::{self, ConfigFile};
use super::fits::{self, Shapes};
use super::sizes::{self, Hints};
use super::{Head, ModelFile, Network, OpenOptions};
use crate::error::{Error, Result};
use crate::io::fit::check_fit;
use crate::io::hf::{HfPreprocessor, parse_preprocessor_config};
use crate::io::names::{self, Layout, detect_layout};
use crate::io::tensors::{Precision, Tensors, check_finite};
use crate::models::{DvaeConfig, TokenizerModel, VitConfig, VqKdConfig};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Most patches of one picture: 256 × 256.
const PATCHES: usize = 1 << 16;
/// Largest width, MLP or vocabulary.
const WIDTH: usize = 1 << 20;
/// Most groups of a tokenizer: cells of 65536 pixels.
const GROUPS: usize = 16;

/// What was read, before it is understood.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Where it came from, for messages.
    pub path: PathBuf,
    /// The tensors by the file's own names.
    pub tensors: Tensors,
    /// The file's free-form strings.
    pub metadata: BTreeMap<String, String>,
    /// Element type of its floating-point tensors.
    pub precision: Precision,
    /// `config.json`, of transformers or timm.
    pub config: Option<Vec<u8>>,
    /// `preprocessor_config.json`.
    pub preprocessor: Option<Vec<u8>>,
    /// `tokenizer.json`: sizes of a dVAE.
    pub sizes: Option<Vec<u8>>,
}

/// Makes a model of tensors in any known layout.
///
/// # Errors
/// As [`super::open`], without the file's name.
pub fn from_tensors(parts: Parts, options: &OpenOptions) -> Result<ModelFile> {
    let Some(layout) = detect_layout(parts.tensors.keys().map(String::as_str)) else {
        return Err(unknown(&parts.tensors));
    };
    if !options.allow_non_finite {
        check_finite(&parts.tensors)?;
    }
    match layout {
        Layout::Dvae | Layout::CustomDvae => dvae(parts, layout),
        Layout::VqKd => vq_kd(parts, options.heads),
        Layout::DvaeHalf => Err(Error::checkpoint("half of a dVAE")
            .expected("encoder and decoder")
            .hint("put encoder.* and decoder.* of the same kind into one folder and give the folder")),
        _ => vit(parts, layout, options.heads),
    }
}

fn unknown(tensors: &Tensors) -> Error {
    let first: Vec<String> = tensors.keys().take(6).cloned().collect();
    Error::checkpoint("neither a BEiT nor a dVAE")
        .expected("names of transformers, timm, the official code, OpenAI's or the customised dVAE")
        .got(match tensors.len() {
            0 => "no tensors at all".to_owned(),
            n => format!("{n} tensors: {}", first.join(", ")),
        })
}

fn dvae(parts: Parts, layout: Layout) -> Result<ModelFile> {
    let custom = layout == Layout::CustomDvae;
    let seen = if custom { sizes::infer_custom(&parts.tensors)? } else { sizes::infer_dvae(&parts.tensors)? };
    let mut notes = vec![];
    let config = match &parts.sizes {
        Some(bytes) => sizes_of(bytes)?.dvae().map_err(|e| e.at("tokenizer.json"))?.clone(),
        None if custom => seen.clone(),
        None => {
            notes.push(format!("{} pooling stages assumed, one after each group but the last", seen.pools));
            seen.clone()
        }
    };
    config.check().map_err(as_checkpoint)?;
    let shown =
        |c: &DvaeConfig| format!("{:?} network, {} groups of {} blocks", c.network, c.groups, c.blocks);
    let layers = |c: &DvaeConfig| (c.network, c.groups, c.blocks);
    if layers(&config) != layers(&seen) {
        return Err(Error::checkpoint("sizes and weights of the tokenizer differ")
            .expected(shown(&config))
            .got(shown(&seen)));
    }
    // before anything of that size is drawn: each block of a real network has tensors of its own
    let blocks = config.groups.checked_mul(config.blocks).filter(|&n| n <= parts.tensors.len());
    let widths = [config.n_hid, config.n_init, config.vocab];
    if blocks.is_none() || config.groups > GROUPS || widths.iter().any(|&n| n > WIDTH) {
        return Err(Error::checkpoint("a tokenizer too large")
            .expected(format!("at most {GROUPS} groups and {WIDTH} channels, every block in the file"))
            .got(format!("{}, widths {widths:?}", shown(&config))));
    }
    let side = config.stride() * 14;
    tokenizer(parts, layout, config.into(), side, notes)
}

fn sizes_of(bytes: &[u8]) -> Result<TokenizerModel> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::checkpoint("not a tokenizer's sizes").at("tokenizer.json").got(e.to_string()))
}

/// A tokenizer whose sizes are known and sound, once its tensors are those of these sizes.
fn tokenizer(
    parts: Parts,
    layout: Layout,
    config: TokenizerModel,
    side: usize,
    notes: Vec<String>,
) -> Result<ModelFile> {
    check_fit(&parts.tensors, &fits::tokenizer_shapes(&config)?)?;
    Ok(ModelFile {
        path: parts.path,
        layout,
        network: Network::Tokenizer(config),
        tensors: parts.tensors,
        labels: vec![],
        preprocessing: HfPreprocessor::square(side),
        precision: parts.precision,
        index_buffers: false,
        metadata: parts.metadata,
        notes,
    })
}

fn vq_kd(mut parts: Parts, heads: Option<usize>) -> Result<ModelFile> {
    let mut notes = vec![];
    names::from_vq_kd(&mut parts.tensors)?;
    let seen = sizes::infer_vq_kd(&parts.tensors, heads, &mut notes)?;
    let config = match &parts.sizes {
        Some(bytes) => match sizes_of(bytes)? {
            TokenizerModel::VqKd(config) => {
                notes.clear();
                config
            }
            TokenizerModel::Dvae(_) => {
                return Err(Error::checkpoint("sizes and weights of the tokenizer differ")
                    .at("tokenizer.json")
                    .expected("network vq-kd, as the weights are")
                    .got("a dVAE"));
            }
        },
        None => seen.clone(),
    };
    // Before anything of that size is drawn; what is left, the comparison of all shapes tells.
    let layers = |c: &VqKdConfig| (c.depth, c.decoder_depth, c.mean_patches, c.grid());
    if config.patch == 0 || layers(&config) != layers(&seen) {
        let shown = |c: &VqKdConfig| {
            let (h, w) = (c.image.0 / c.patch.max(1), c.image.1 / c.patch.max(1));
            let patches = if c.mean_patches { "with" } else { "without" };
            format!("{} + {} blocks, {h} x {w} cells, {patches} mean patches", c.depth, c.decoder_depth)
        };
        return Err(Error::checkpoint("sizes and weights of the tokenizer differ")
            .expected(shown(&config))
            .got(shown(&seen)));
    }
    bounded(&VitConfig { vocab: config.vocab, ..config.encoder() })?;
    config.check().map_err(as_checkpoint)?;
    if [config.code, config.target, config.patch].iter().any(|&n| n > WIDTH) {
        return Err(Error::checkpoint("a tokenizer too large").expected(format!("at most {WIDTH} channels")));
    }
    let side = config.image.0;
    tokenizer(parts, Layout::VqKd, config.into(), side, notes)
}

fn vit(parts: Parts, layout: Layout, heads: Option<usize>) -> Result<ModelFile> {
    let grid = sizes::grid_hint(&parts.tensors);
    let index_buffers = parts.tensors.keys().any(|name| name.ends_with(names::INDEX_BUFFER));
    let no_biases = parts.tensors.contains_key("blocks.0.attn.qkv.weight")
        && !parts.tensors.contains_key("blocks.0.attn.q_bias");
    let tensors = match layout {
        Layout::Transformers => names::from_transformers(parts.tensors)?,
        Layout::Timm => names::from_timm(parts.tensors)?,
        _ => names::from_official(parts.tensors)?,
    };
    let mut notes = vec![];
    if no_biases {
        notes.push(
            "no biases of query and value (qkv_bias=False): zeros added, which compute the same".into(),
        );
    }
    let config = parts.config.as_deref().map(configs::parse).transpose()?;
    let (mut config_hints, mut labels, mut preprocessing) = (Hints::default(), vec![], None);
    if let Some(ConfigFile::Timm(timm)) = &config {
        (config_hints, labels) = (timm.hints, timm.labels.clone());
        preprocessing.clone_from(&timm.preprocessing);
    }
    config_hints.heads = heads.or(config_hints.heads);
    let hints = Hints { grid: grid.filter(|_| layout != Layout::Transformers), ..config_hints };
    let seen = sizes::infer_vit(&tensors, hints, &mut notes)?;
    bounded(&seen)?;
    let seen_head = sizes::infer_head(&tensors, &seen);
    let (vit, head) = match &config {
        Some(ConfigFile::Transformers(c)) => {
            notes.clear();
            labels = c.labels();
            (configs::vit_of(c), configs::head_of(c, &seen_head)?)
        }
        _ => (seen.clone(), seen_head.clone()),
    };
    let claims = matches!(&config, Some(ConfigFile::Transformers(c)) if c.use_mask_token);
    check(&tensors, (&vit, &head), (&seen, &seen_head), claims, &mut notes)?;
    if let Head::Classifier { classes, .. } = head
        && !labels.is_empty()
        && labels.len() != classes
    {
        notes.push(format!("{} class names for {classes} classes left aside", labels.len()));
        labels.clear();
    }
    let preprocessing = match &parts.preprocessor {
        Some(bytes) => {
            parse_preprocessor_config(bytes).map_err(|e| with_file(e, "preprocessor_config.json"))?
        }
        None => preprocessing.unwrap_or_else(|| default_preprocessing(&vit)),
    };
    Ok(ModelFile {
        path: parts.path,
        layout,
        network: Network::Vit { config: vit, head },
        tensors,
        labels,
        preprocessing,
        precision: parts.precision,
        index_buffers,
        metadata: parts.metadata,
        notes,
    })
}

fn default_preprocessing(vit: &VitConfig) -> HfPreprocessor {
    let mut p = HfPreprocessor::square(vit.image.0);
    (p.size.width, p.crop_size.width) = (vit.image.1, vit.image.1);
    p
}

fn with_file(e: Error, file: &str) -> Error {
    let at = e.at.as_ref().map_or_else(|| file.to_owned(), |at| format!("{file}: {at}"));
    e.at(at)
}

/// Sizes that cannot work are a matter of the file here, not of a setting.
fn as_checkpoint(e: Error) -> Error {
    Error::checkpoint(e.what).expected(e.expected.unwrap_or_default()).got(e.got.unwrap_or_default())
}

/// Sizes that can be drawn at all, before anything of that size is.
fn bounded(c: &VitConfig) -> Result<()> {
    c.check().map_err(as_checkpoint)?;
    let patches = (c.image.0 / c.patch).checked_mul(c.image.1 / c.patch);
    if patches.is_none_or(|n| n > PATCHES) || [c.width, c.mlp, c.vocab].iter().any(|&n| n > WIDTH) {
        return Err(Error::checkpoint("a transformer too large")
            .expected(format!("at most {PATCHES} patches and {WIDTH} channels"))
            .got(format!("{} x {} pixels, width {}, MLP {}", c.image.0, c.image.1, c.width, c.mlp)));
    }
    Ok(())
}

/// Compares the tensors with the network that the config (or, without one, the shapes) describes.
fn check(
    tensors: &Tensors,
    (vit, head): (&VitConfig, &Head),
    (seen, seen_head): (&VitConfig, &Head),
    claims_mask_token: bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let fits = |e: Error| e.hint(fits::in_words(seen, seen_head));
    bounded(vit)?;
    if vit.depth != seen.depth {
        return Err(fits(
            Error::checkpoint("weights do not fit the config")
                .at("num_hidden_layers")
                .expected(format!("{} blocks", vit.depth))
                .got(format!("{}", seen.depth)),
        ));
    }
    let mut wanted = fits::vit_shapes(vit, head)?;
    if matches!(head, Head::MaskedImage) && !tensors.contains_key("mask_token") && !claims_mask_token {
        wanted.remove("mask_token");
        notes.push("the file has no mask token".into());
    }
    let optional = optional_shapes(vit.width);
    for (name, tensor) in tensors {
        if let Some(shape) = optional.get(name.as_str())
            && !wanted.contains_key(name)
        {
            wanted.insert(name.clone(), shape.clone());
        } else if matches!(head, Head::Segmenter(_)) && name.ends_with(".num_batches_tracked") {
            wanted.insert(name.clone(), tensor.shape.clone());
        }
    }
    check_fit(tensors, &wanted).map_err(fits)
}

/// Tensors that a file may have though this network does not use them.
fn optional_shapes(d: usize) -> Shapes {
    let vectors = ["norm.weight", "norm.bias", "fc_norm.weight", "fc_norm.bias"];
    let mut shapes: Shapes = vectors.into_iter().map(|name| (name.to_owned(), vec![d])).collect();
    shapes.insert("mask_token".into(), vec![1, 1, d]);
    shapes
}
