//! A trained transformer and its tokenizer, from what a person names.

use crate::data::Normalization;
use crate::error::{Error, Result};
use crate::graph::ParamLayout;
use crate::interop::{self, Want};
use crate::models::VitConfig;
use crate::tasks::reconstruct::{ViewedModels, model_layout};
use crate::train::{Tokenizer, pages_of};
use std::path::{Path, PathBuf};

/// A transformer of masked pre-training and a tokenizer.
pub struct Pair {
    /// The transformer.
    pub vit: VitConfig,
    /// Layout of its parameters.
    pub layout: ParamLayout,
    /// Its parameters.
    pub pages: Vec<Vec<f32>>,
    /// Scaling of its input.
    pub normalization: Normalization,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Where the transformer was found.
    pub from: PathBuf,
}

impl Pair {
    /// Opens both; without `tokenizer` the one beside the model is taken.
    ///
    /// # Errors
    /// If one of them is not there or damaged, or they do not fit each other.
    pub fn open(model: &Path, tokenizer: Option<&Path>, page_bytes: u64) -> Result<Pair> {
        let file = interop::open(model, Want::Vit)?;
        file.check_reconstructs()?;
        let vit = file.vit()?.clone();
        let layout = model_layout(&vit, page_bytes)?;
        let at = |e: Error| e.at(file.path.display().to_string());
        let pages = pages_of(&layout, &file.tensors).map_err(at)?;
        let prepare = &file.preprocessing;
        let normalization = Normalization {
            mean: prepare.image_mean.map(|v| v as f32),
            std: prepare.image_std.map(|v| v as f32),
        };
        let beside = |e: Error| match tokenizer {
            Some(_) => e,
            None => e.hint("name the model's tokenizer with --tokenizer"),
        };
        // A tokenizer lies in the folder of the model's file.
        let own = if model.is_file() { model.parent().unwrap_or(Path::new("")) } else { model };
        let found = interop::open(tokenizer.unwrap_or(own), Want::Dvae).map_err(beside)?;
        interop::check_pair(&file, &found)?;
        let tokenizer = Tokenizer::of_model(&found, page_bytes)?;
        Ok(Pair { vit, layout, pages, normalization, tokenizer, from: file.path.clone() })
    }

    /// As the viewer takes them.
    pub fn viewed(&self) -> ViewedModels<'_> {
        ViewedModels {
            vit: &self.vit,
            layout: &self.layout,
            normalization: self.normalization,
            tokenizer: &self.tokenizer.config,
            tokenizer_layout: &self.tokenizer.layout,
            tokenizer_pages: crate::graph::PageKind::Param,
        }
    }
}
