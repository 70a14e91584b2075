//! Models from files of any of the known libraries, and back (beit-spec §10).
//!
//! [`open`] is the one way by which every command takes a model: a run folder, a checkpoint folder, a folder or file of
//! transformers or timm, an official checkpoint, OpenAI's dVAE. It gives the network's sizes, its tensors under this
//! crate's names, labels and preprocessing. [`adapt()`] makes the tensors fit another use (beit-spec §6.5) and says
//! what it did. [`from_tensors`] is the same path without a file system, for the browser.
//!
//! Everything here reads what a stranger may have written: names, shapes and values are checked before use.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod adapt;
mod assemble;
mod configs;
mod find;
mod fits;
#[cfg(feature = "cli")]
mod forward;
mod read;
mod segmenter;
mod sizes;
pub mod tables;
mod write;

use crate::error::{Error, Result};
use crate::io::hf::HfPreprocessor;
use crate::io::limits::FileLimits;
use crate::io::names::Layout;
use crate::io::tensors::{Precision, Tensors};
use crate::models::{DvaeConfig, TokenizerModel, VitConfig};
use crate::ops::Pool;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use adapt::{Adapted, Changes, adapt, change};
pub use assemble::{Parts, from_tensors};
pub use fits::{Shapes, preset_of, shapes_of_store, tokenizer_shapes, vit_shapes};
#[cfg(feature = "cli")]
pub use forward::{MASK, PIXELS, forward};
pub use segmenter::SegmenterHead;
pub use tables::Resize;
pub use write::{Format, Written, files_of};

/// A model that was read from a file and checked: every tensor that the network has is there, in the right shape.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// The file of the weights (the index file of a sharded one).
    pub path: PathBuf,
    /// Whose names the file used.
    pub layout: Layout,
    /// What kind of network it is, and its sizes.
    pub network: Network,
    /// The tensors by this crate's (the official) names; a dVAE's behind `encoder.` and `decoder.`.
    pub tensors: Tensors,
    /// Class names, in the order of the classes; empty where the file has none.
    pub labels: Vec<String>,
    /// How pictures are prepared for it.
    pub preprocessing: HfPreprocessor,
    /// Element type of all floating-point tensors in the file; F32 if they differ.
    pub precision: Precision,
    /// Whether the file brought index buffers of relative positions (versions of timm differ in that).
    pub index_buffers: bool,
    /// The free-form strings of the file.
    pub metadata: BTreeMap<String, String>,
    /// What was assumed or left out, in sentences for a person.
    pub notes: Vec<String>,
}

/// What kind of network a file holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// A vision transformer with the head that the file brings.
    Vit {
        /// Sizes of the transformer; `vocab` is that of the token head, or 8192 where there is none.
        config: VitConfig,
        /// Its head.
        head: Head,
    },
    /// A tokenizer.
    Tokenizer(TokenizerModel),
}

/// The head of a transformer.
#[derive(Debug, Clone, PartialEq)]
pub enum Head {
    /// None: features only.
    None,
    /// Prediction of visual tokens: `norm`, `lm_head`, and a mask token.
    MaskedImage,
    /// Classification.
    Classifier {
        /// Number of classes.
        classes: usize,
        /// What the head sees: the mean of the patches behind `fc_norm`, or the class token behind `norm`.
        pool: Pool,
    },
    /// Semantic segmentation.
    Segmenter(SegmenterHead),
}

/// What [`open`] is to look for where a folder holds both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A vision transformer.
    Vit,
    /// A tokenizer.
    Tokenizer,
    /// A transformer, else a tokenizer.
    Any,
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// How much a file may ask for.
    pub limits: FileLimits,
    /// Accept NaN and infinite weights.
    pub allow_non_finite: bool,
    /// Attention heads, for a file that does not say: one without a config and without relative tables.
    pub heads: Option<usize>,
}

/// Opens a model.
///
/// # Errors
/// If nothing there is a model of the wanted kind; if the file is damaged, hostile or beyond the limits; or a list of
/// all tensors that are missing, unexpected or of another shape. The message names the file.
pub fn open(path: &Path, want: Want) -> Result<ModelFile> {
    open_with(path, want, &OpenOptions::default())
}

/// As [`open`], with limits and checks of one's own.
///
/// # Errors
/// As [`open`].
pub fn open_with(path: &Path, want: Want, options: &OpenOptions) -> Result<ModelFile> {
    let found = find::find(path, want)?;
    let parts = read::read(&found, options)?;
    let model = from_tensors(parts, options).map_err(|e| about(&found.weights, e))?;
    model.wanted(want)?;
    Ok(model)
}

/// Puts the file's name before the place of an error, once.
fn about(file: &Path, e: Error) -> Error {
    let file = file.display().to_string();
    let at = match &e.at {
        Some(at) if at.contains(&file) => at.clone(),
        Some(at) => format!("{file}: {at}"),
        None => file,
    };
    e.at(at)
}

impl ModelFile {
    /// The transformer's sizes.
    ///
    /// # Errors
    /// If this is a tokenizer.
    pub fn vit(&self) -> Result<&VitConfig> {
        match &self.network {
            Network::Vit { config, .. } => Ok(config),
            Network::Tokenizer(_) => Err(self.other_kind("a transformer")),
        }
    }
    /// The transformer's head.
    ///
    /// # Errors
    /// If this is a tokenizer.
    pub fn head(&self) -> Result<&Head> {
        match &self.network {
            Network::Vit { head, .. } => Ok(head),
            Network::Tokenizer(_) => Err(self.other_kind("a transformer")),
        }
    }
    /// The tokenizer's sizes.
    ///
    /// # Errors
    /// If this is a transformer.
    pub fn tokenizer(&self) -> Result<&TokenizerModel> {
        match &self.network {
            Network::Tokenizer(config) => Ok(config),
            Network::Vit { .. } => Err(self.other_kind("a tokenizer")),
        }
    }
    /// The sizes of a discrete VAE.
    ///
    /// # Errors
    /// If this is something else.
    pub fn dvae(&self) -> Result<&DvaeConfig> {
        match &self.network {
            Network::Tokenizer(TokenizerModel::Dvae(config)) => Ok(config),
            _ => Err(self.other_kind("a tokenizer (dVAE)")),
        }
    }
    /// What the file holds, in words.
    pub fn kind(&self) -> &'static str {
        match &self.network {
            Network::Tokenizer(TokenizerModel::Dvae(_)) => "a tokenizer (dVAE)",
            Network::Tokenizer(TokenizerModel::VqKd(_)) => "a tokenizer (VQ-KD)",
            Network::Vit { head: Head::None, .. } => "a transformer without a head",
            Network::Vit { head: Head::MaskedImage, .. } => "a masked image model",
            Network::Vit { head: Head::Classifier { .. }, .. } => "a classifier",
            Network::Vit { head: Head::Segmenter(_), .. } => "a segmenter",
        }
    }
    /// Whether masked patches can be predicted: token head and mask token are there.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_reconstructs(&self) -> Result<()> {
        let refuse = |what: &str| {
            Err(Error::checkpoint(what)
                .at(self.path.display().to_string())
                .expected("a masked image model")
                .got(self.kind())
                .hint("reconstruction needs a pre-trained model, before fine-tuning"))
        };
        self.vit()?;
        match (self.tensors.contains_key("mask_token"), self.tensors.contains_key("lm_head.weight")) {
            (_, false) => refuse("a model that does not predict visual tokens"),
            (false, _) => refuse("a model without a mask token"),
            _ => Ok(()),
        }
    }
    fn wanted(&self, want: Want) -> Result<()> {
        match want {
            Want::Vit => self.vit().map(|_| ()),
            Want::Tokenizer => self.tokenizer().map(|_| ()),
            Want::Any => Ok(()),
        }
    }
    fn other_kind(&self, expected: &str) -> Error {
        Error::checkpoint("another kind of model")
            .at(self.path.display().to_string())
            .expected(expected)
            .got(self.kind())
    }
}

/// Checks that a tokenizer's ids are those that a transformer predicts, one for each of its patches.
///
/// # Errors
/// If the vocabularies differ, or the tokenizer's cells cannot tile the picture as the patches do.
pub fn check_pair(vit: &ModelFile, tokenizer: &ModelFile) -> Result<()> {
    let (v, d) = (vit.vit()?, tokenizer.tokenizer()?);
    let at = format!("{} and {}", vit.path.display(), tokenizer.path.display());
    if v.vocab != d.vocab() && matches!(vit.head()?, Head::MaskedImage) {
        return Err(Error::checkpoint("the tokenizer's vocabulary does not fit the prediction head")
            .at(at.clone())
            .expected(format!("{} ids", v.vocab))
            .got(format!("{} ids", d.vocab())));
    }
    d.check_grid(v.grid()).map_err(|e| e.at(at))
}
