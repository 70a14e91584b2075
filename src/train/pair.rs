//! A transformer and its tokenizer on the host: files in, files out, pages for a device.

use super::files::{pages_of, tensors_of};
use crate::data::Normalization;
use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::interop::{self, Want};
use crate::io::hf::{
    HfConfig, HfPreprocessor, parse_transformers_config, preprocessor_config_json, transformers_config_json,
};
use crate::io::limits::FileLimits;
use crate::io::names::{from_transformers, to_transformers};
use crate::io::tensors::{Tensors, check_finite, pt_metadata, read_safetensors, write_safetensors};
use crate::models::mim::{self, MimBatchShape, MimOptions, TOKENIZER};
use crate::models::{RelPos, TokenizerModel, VitConfig};
use crate::session::Session;
use crate::tasks::pretrain::MODEL;
use crate::tasks::reconstruct::ViewedModels;
use std::path::{Path, PathBuf};

/// A transformer and its tokenizer with all parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The transformer.
    pub vit: VitConfig,
    /// The tokenizer.
    pub dvae: TokenizerModel,
    /// Layout of the transformer's store.
    pub model: ParamLayout,
    /// Layout of the tokenizer's store, encoder and decoder.
    pub tokenizer: ParamLayout,
    /// The transformer's parameters.
    pub model_pages: Vec<Vec<f32>>,
    /// The tokenizer's parameters.
    pub tokenizer_pages: Vec<Vec<f32>>,
    /// Scaling of the transformer's input.
    pub normalization: Normalization,
    /// The transformer's file, if it came from one.
    pub from: Option<PathBuf>,
}

/// The files of a checkpoint folder, as a browser holds them.
#[derive(Debug, Clone, Copy)]
pub struct PairFiles<'a> {
    /// `model.safetensors`.
    pub model: &'a [u8],
    /// `config.json`.
    pub config: &'a [u8],
    /// `tokenizer.safetensors`.
    pub tokenizer: &'a [u8],
    /// `tokenizer.json`.
    pub sizes: &'a [u8],
}

impl Pair {
    /// Reads both networks, of sizes that a tab can hold; pages hold at most `page_bytes`.
    ///
    /// # Errors
    /// If a file is damaged, holds something else, or the two do not fit each other.
    pub fn read(files: &PairFiles<'_>, page_bytes: u64) -> Result<Pair> {
        let at = |name: &'static str| move |e: Error| if e.at.is_none() { e.at(name) } else { e };
        let limits = FileLimits::browser();
        let vit = vit_of(&parse_transformers_config(files.config).map_err(at("config.json"))?);
        vit.check()?;
        let dvae: TokenizerModel = serde_json::from_slice(files.sizes).map_err(|e| {
            Error::checkpoint("not a tokenizer's sizes").at("tokenizer.json").got(e.to_string())
        })?;
        dvae.check()?;
        affordable(&vit, &dvae)?;
        let (model, tokenizer) = layouts(&vit, &dvae, page_bytes)?;
        let read = |bytes, name| -> Result<Tensors> {
            let tensors = read_safetensors(bytes, &limits).map_err(at(name))?.tensors;
            check_finite(&tensors).map_err(at(name))?;
            Ok(tensors)
        };
        let weights = from_transformers(read(files.model, "model.safetensors")?)?;
        let model_pages = pages_of(&model, &weights).map_err(at("model.safetensors"))?;
        let weights = read(files.tokenizer, "tokenizer.safetensors")?;
        let tokenizer_pages = pages_of(&tokenizer, &weights).map_err(at("tokenizer.safetensors"))?;
        let normalization = Normalization::HALF;
        Ok(Pair { vit, dvae, model, tokenizer, model_pages, tokenizer_pages, normalization, from: None })
    }

    /// Both networks with random weights under a seed.
    ///
    /// # Errors
    /// If the sizes do not fit each other.
    pub fn fresh(
        vit: VitConfig,
        dvae: impl Into<TokenizerModel>,
        page_bytes: u64,
        seed: u64,
    ) -> Result<Pair> {
        let dvae = dvae.into();
        let (model, tokenizer) = layouts(&vit, &dvae, page_bytes)?;
        let (model_pages, tokenizer_pages) = (model.initial(seed), tokenizer.initial(seed));
        let normalization = Normalization::HALF;
        Ok(Pair { vit, dvae, model, tokenizer, model_pages, tokenizer_pages, normalization, from: None })
    }

    /// Opens both from a run folder, a checkpoint folder or a weights file of any known library; without `tokenizer`
    /// the one beside the model is taken.
    ///
    /// # Errors
    /// If one of them is not there or damaged, or they do not fit each other.
    pub fn open(path: &Path, tokenizer: Option<&Path>, page_bytes: u64) -> Result<Pair> {
        let file = interop::open(path, Want::Vit)?;
        file.check_reconstructs()?;
        let beside = |e: Error| match tokenizer {
            Some(_) => e,
            None => e.hint("name the model's tokenizer with --tokenizer"),
        };
        // A tokenizer lies in the folder of the model's file.
        let own = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
        let found = interop::open(tokenizer.unwrap_or(own), Want::Tokenizer).map_err(beside)?;
        interop::check_pair(&file, &found)?;
        let (vit, dvae) = (file.vit()?.clone(), found.tokenizer()?.clone());
        let (model, tokenizer) = layouts(&vit, &dvae, page_bytes)?;
        let pages = |layout, file: &interop::ModelFile| {
            pages_of(layout, &file.tensors).map_err(|e| e.at(file.path.display().to_string()))
        };
        let (model_pages, tokenizer_pages) = (pages(&model, &file)?, pages(&tokenizer, &found)?);
        let prepare = &file.preprocessing;
        let normalization = Normalization {
            mean: prepare.image_mean.map(|v| v as f32),
            std: prepare.image_std.map(|v| v as f32),
        };
        let from = Some(file.path.clone());
        Ok(Pair { vit, dvae, model, tokenizer, model_pages, tokenizer_pages, normalization, from })
    }

    /// As the viewer takes them; `tokenizer_pages` is [`PageKind::Ema`] while the tokenizer is being trained.
    pub fn viewed(&self, tokenizer_pages: PageKind) -> ViewedModels<'_> {
        ViewedModels {
            vit: &self.vit,
            layout: &self.model,
            normalization: self.normalization,
            tokenizer: &self.dvae,
            tokenizer_layout: &self.tokenizer,
            tokenizer_pages,
        }
    }

    /// The files of a checkpoint folder that `beit` and transformers read, by name.
    ///
    /// # Errors
    /// If a parameter has no name in transformers.
    pub fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let model = to_transformers(tensors_of(&self.model, &self.model_pages))?;
        let tokenizer = tensors_of(&self.tokenizer, &self.tokenizer_pages);
        let preprocessor = HfPreprocessor::square(self.vit.image.0);
        Ok(vec![
            ("model.safetensors", write_safetensors(&model, &pt_metadata())),
            ("config.json", transformers_config_json(&self.vit.to_hf()).into_bytes()),
            ("preprocessor_config.json", preprocessor_config_json(&preprocessor).into_bytes()),
            ("tokenizer.safetensors", write_safetensors(&tokenizer, &pt_metadata())),
            ("tokenizer.json", serde_json::to_vec_pretty(&self.dvae).unwrap_or_default()),
        ])
    }

    /// Adds a network's store with its parameters to a session.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn put(&self, session: &mut dyn Session, store: &str) -> Result<()> {
        let (layout, pages) = if store == MODEL {
            (&self.model, &self.model_pages)
        } else {
            (&self.tokenizer, &self.tokenizer_pages)
        };
        session.add_store(layout, &[PageKind::Param])?;
        for (p, page) in pages.iter().enumerate() {
            session.write_page(store, PageKind::Param, p, page)?;
        }
        Ok(())
    }
}

/// Most numbers in a tab's network: 64 million parameters, 4096 tokens a picture.
const MOST_PARAMETERS: usize = 64 << 20;
const MOST_TOKENS: usize = 4096;

/// Refuses sizes that a config claims and a tab cannot hold, before anything of that size is laid out.
fn affordable(vit: &VitConfig, tokenizer: &TokenizerModel) -> Result<()> {
    let product = |factors: &[usize]| factors.iter().try_fold(1usize, |n, &f| n.checked_mul(f));
    let too_large = || Error::checkpoint("network too large for a browser tab");
    let patch = product(&[3, vit.patch, vit.patch, vit.width]);
    let blocks = product(&[vit.depth, vit.width, 4 * vit.width + 2 * vit.mlp]);
    let head = product(&[vit.vocab, vit.width]);
    let (inside, ids) = match tokenizer {
        TokenizerModel::Dvae(dvae) if dvae.groups > 8 || dvae.n_hid > 1 << 14 || dvae.n_init > 1 << 14 => {
            (None, None)
        }
        TokenizerModel::Dvae(dvae) => {
            let widest = dvae.n_hid << dvae.groups;
            let convolutions = product(&[dvae.groups * dvae.blocks, widest, widest]);
            (convolutions, product(&[dvae.vocab, dvae.n_init + widest]))
        }
        TokenizerModel::VqKd(v) => {
            let wide = [v.width, v.mlp, v.code, v.target, v.patch].iter().all(|&n| n <= 1 << 14);
            let blocks = v.depth.checked_add(v.decoder_depth);
            let inside =
                blocks.filter(|_| wide).and_then(|n| product(&[n, v.width, 4 * v.width + 2 * v.mlp]));
            (inside, product(&[v.vocab, v.code + 3 * v.patch.min(1 << 14) * v.patch.min(1 << 14)]))
        }
    };
    for (what, size) in
        [("patches", patch), ("blocks", blocks), ("head", head), ("tokenizer", inside), ("ids", ids)]
    {
        if size.is_none_or(|n| n > MOST_PARAMETERS) {
            return Err(too_large().at(what).expected(format!("at most {MOST_PARAMETERS} parameters")));
        }
    }
    if vit.tokens() > MOST_TOKENS {
        return Err(too_large()
            .expected(format!("at most {MOST_TOKENS} tokens"))
            .got(vit.tokens().to_string()));
    }
    Ok(())
}

/// The network that a config of transformers describes.
fn vit_of(c: &HfConfig) -> VitConfig {
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
        rel_pos: match (c.use_shared_relative_position_bias, c.use_relative_position_bias) {
            (true, true) => RelPos::Both,
            (true, false) => RelPos::Shared,
            (false, true) => RelPos::PerLayer,
            (false, false) => RelPos::None,
        },
        layer_scale: c.layer_scale_init_value as f32,
        drop_path: c.drop_path_rate as f32,
    }
}

/// Layouts of both stores.
fn layouts(
    vit: &VitConfig,
    tokenizer: &TokenizerModel,
    page_bytes: u64,
) -> Result<(ParamLayout, ParamLayout)> {
    let mut g = Graph::new();
    let shape = MimBatchShape { images: 1, masked: 1 };
    mim::pretraining(&mut g, vit, tokenizer, shape, MimOptions::default())?;
    let model = ParamLayout::of(&g, MODEL, page_bytes)?;
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| tokenizer.whole(g))?;
    Ok((model, ParamLayout::of(&g, TOKENIZER, page_bytes)?))
}
