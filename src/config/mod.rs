//! Everything that a run is determined by. A preset names all of it; a TOML file and flags change it.

mod classify;
mod method;
mod presets;
#[cfg(feature = "cli")]
mod segment;
mod task;
#[cfg(feature = "cli")]
mod toml_file;

pub use classify::{ClassifyConfig, LabelledAugment, PoolChoice, SCRATCH};
pub use method::{COLOURS, ColourConfig, DinoConfig, METHODS, Method, MocoConfig, ViewColours};
pub use presets::{PRESETS, preset};
#[cfg(feature = "cli")]
pub use segment::{SegmentAugmentConfig, SegmentConfig, segment_preset};
pub use task::{Cadence, DataChoice, TaskConfig};
#[cfg(feature = "cli")]
pub use toml_file::{from_toml, merge_file, peek, to_toml};

use crate::data::{Augment, MaskKind, MaskSpec, Masking, Normalization, Views};
use crate::error::{Error, Result};
use crate::models::{DvaeNetwork, TokenizerModel, TokenizerNetwork, VitConfig, VqKdConfig};
use crate::ops::Precision;
use crate::tasks::pretrain::{MimModel, PretrainRecipe};
use crate::tasks::tokenizer::{TokenizerRecipe, view_filter};
use crate::tasks::vq_kd::DistillationRecipe;
use serde::{Deserialize, Serialize};

/// A pre-training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the preset that the values started from.
    pub preset: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Where pictures come from: `synthetic`, a folder, a tar file, CIFAR files.
    pub data: String,
    /// Held-out pictures: a folder, or empty for a share of `data`.
    pub val: String,
    /// Share of `data` that is held out when `val` is empty and the data names no held-out part itself.
    pub val_share: f64,
    /// Held-out pictures that are looked at in an evaluation, at most.
    pub val_images: usize,
    /// What the transformer learns from.
    #[serde(default)]
    pub method: Method,
    /// The transformer.
    pub model: VitConfig,
    /// The tokenizer.
    pub tokenizer: TokenizerModel,
    /// How the tokenizer is trained.
    pub tokenizer_training: TokenizerRecipe,
    /// How the transformer is trained.
    pub training: PretrainRecipe,
    /// Which patches are hidden.
    pub mask: MaskConfig,
    /// Random changes of training pictures.
    pub augment: AugmentConfig,
    /// Ids computed once instead of in every step.
    #[serde(default)]
    pub token_cache: TokenCacheConfig,
    /// When things are written.
    pub schedule: Cadence,
}

/// Ids of a fixed set of crops of each picture, computed once instead of in every step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenCacheConfig {
    /// Crops of each picture; 0 = no cache, fresh crops in every epoch.
    pub views: usize,
    /// Folder of the cache; empty = in the run folder.
    pub dir: String,
}

/// Which patches are hidden.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MaskConfig {
    /// Patches to mask, at most.
    pub num_mask_patches: usize,
    /// Smallest block, in patches.
    pub min_block: usize,
    /// `blockwise`, `paper`, `random` or `none`.
    pub kind: MaskChoice,
    /// Predict all patches, not only the masked ones (an ablation of beit-spec §9.2).
    #[serde(default)]
    pub predict_all: bool,
}

/// Names of the mask generators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MaskChoice {
    /// As in the released code.
    #[serde(alias = "block")]
    Blockwise,
    /// As printed in the paper.
    Paper,
    /// Uniformly at random.
    #[serde(alias = "uniform")]
    Random,
    /// Nothing is hidden; only with `predict-all`.
    None,
}

/// Random changes of training pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AugmentConfig {
    /// Strength of colour jitter; 0 = off.
    pub jitter: f32,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Crop at random.
    pub crop: bool,
    /// Smallest share of the area that a crop takes.
    pub min_scale: f64,
    /// ImageNet statistics instead of 0.5 for the transformer's input.
    pub imagenet_statistics: bool,
}

impl RunConfig {
    /// Sides of the tokenizer's input.
    pub fn token_side(&self) -> (usize, usize) {
        let (rows, columns) = self.model.grid();
        (rows * self.tokenizer.stride(), columns * self.tokenizer.stride())
    }
    /// The mask generator.
    pub fn mask_spec(&self) -> MaskSpec {
        let (rows, columns) = self.model.grid();
        let mut spec = MaskSpec::blockwise(rows, columns, self.mask.num_mask_patches, self.mask.min_block);
        spec.kind = match self.mask.kind {
            MaskChoice::Blockwise => MaskKind::Blockwise,
            MaskChoice::Paper => MaskKind::Paper,
            MaskChoice::Random => MaskKind::Random,
            MaskChoice::None => MaskKind::None,
        };
        spec
    }
    /// Most patches of one picture that are predicted.
    pub fn mask_slots(&self) -> usize {
        match (&self.method, self.mask.kind) {
            (Method::MaskedPatchColour(m), _) => m.count(self.model.patches()),
            _ if self.mask.predict_all => self.model.patches(),
            (_, MaskChoice::Paper) => self.model.patches(),
            _ => self.mask.num_mask_patches,
        }
    }
    /// Which patches are corrupted and which are predicted.
    pub fn masking(&self) -> Masking {
        match &self.method {
            Method::MaskedPatchColour(m) => {
                let (grid, count) = (self.model.grid(), m.count(self.model.patches()));
                Masking::Colours { grid, count, masked: m.masked, swapped: m.swapped }
            }
            _ => Masking::Mask { spec: self.mask_spec(), predict_all: self.mask.predict_all },
        }
    }
    /// Scaling of the transformer's input.
    pub fn normalization(&self) -> Normalization {
        if self.augment.imagenet_statistics { Normalization::IMAGENET } else { Normalization::HALF }
    }
    /// Views of training pictures, or of held-out ones.
    pub fn views(&self, train: bool) -> Views {
        let a = &self.augment;
        let augment = Augment {
            jitter: a.jitter,
            flip: a.flip,
            crop: a.crop,
            min_scale: a.min_scale,
            ..Augment::default()
        };
        Views {
            patch_side: self.model.image.0,
            token_side: self.token_side().0,
            token_filter: view_filter(&self.tokenizer),
            augment: train.then_some(augment),
            normalization: self.normalization(),
        }
    }
    /// Networks and mask size.
    pub fn mim(&self) -> MimModel {
        MimModel { vit: self.model.clone(), tokenizer: self.tokenizer.clone(), mask_slots: self.mask_slots() }
    }
    /// Changes the tokenizer's network, with the sizes, the recipe and, of a discrete VAE, the transformer's number of
    /// updates that the preset has for it.
    ///
    /// # Errors
    /// If the preset is not known.
    pub fn set_tokenizer_network(&mut self, network: TokenizerNetwork) -> Result<()> {
        if network == self.tokenizer.network() {
            return Ok(());
        }
        let vocab = self.tokenizer.vocab();
        let dvae = match network {
            TokenizerNetwork::Openai => DvaeNetwork::Openai,
            TokenizerNetwork::Custom => DvaeNetwork::Custom,
            TokenizerNetwork::VqKd => {
                self.tokenizer_training = preset(&self.preset)?.tokenizer_training;
                self.tokenizer_training.distill(&self.preset);
                self.tokenizer = VqKdConfig::like(&self.model).into();
                self.tokenizer.set_vocab(vocab);
                return Ok(());
            }
        };
        let base = presets::preset_with(&self.preset, dvae)?;
        (self.tokenizer, self.tokenizer_training) = (base.tokenizer, base.tokenizer_training);
        self.training.steps = base.training.steps;
        self.tokenizer.set_vocab(vocab);
        Ok(())
    }
    /// Checks everything that can be checked before data and device are touched.
    ///
    /// # Errors
    /// The first setting that cannot work, by its name.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        self.tokenizer.check()?;
        if self.model.image.0 != self.model.image.1 {
            return Err(Error::config("image sides of a run")
                .expected("a square picture")
                .got(format!("{} x {}", self.model.image.0, self.model.image.1)));
        }
        if self.method == Method::Beit && self.model.vocab != self.tokenizer.vocab() {
            return Err(Error::config("vocabularies differ")
                .at("model.vocab and tokenizer.vocab")
                .expected(self.tokenizer.vocab().to_string())
                .got(self.model.vocab.to_string()));
        }
        if self.method == Method::Beit {
            self.tokenizer
                .check_grid(self.model.grid())
                .map_err(|e| e.at("model.image and tokenizer.image"))?;
        }
        self.check_method()?;
        if self.method.masks() {
            self.mask_spec().validate()?;
            if self.mask.kind == MaskChoice::None && !self.mask.predict_all {
                return Err(Error::config("nothing is hidden and nothing predicted")
                    .at("mask-kind")
                    .expected("none only with --predict-all")
                    .got("none"));
            }
        }
        self.views(true).validate()?;
        self.schedule.check()?;
        let at_least_one = [
            ("batch-size", self.training.batch as u64),
            ("tokenizer-training.batch", self.tokenizer_training.batch as u64),
            ("accumulate", self.training.accumulate as u64),
            ("steps", self.training.steps),
            ("tokenizer-training.steps", self.tokenizer_training.steps),
            ("val-images", self.val_images as u64),
        ];
        for (flag, value) in at_least_one {
            if value == 0 {
                return Err(wrong(flag, "1 or more", 0));
            }
        }
        self.check_ranges()
    }

    fn check_ranges(&self) -> Result<()> {
        let t = &self.training;
        if !t.batch.is_multiple_of(t.accumulate) {
            return Err(wrong(
                "accumulate",
                format!("a divisor of the batch size {}", t.batch),
                t.accumulate,
            ));
        }
        let tt = &self.tokenizer_training;
        for (flag, rate) in
            [("lr", t.lr), ("tokenizer-training.lr", tt.lr), ("tokenizer-training.tau", tt.tau)]
        {
            if !(rate > 0.0 && rate.is_finite()) {
                return Err(wrong(flag, "a number above 0", rate));
            }
        }
        for (flag, value) in [("weight-decay", t.weight_decay), ("clip-grad", t.clip), ("beta", tt.beta)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(wrong(flag, "0 or a number above", value));
            }
        }
        for (flag, share) in [("warmup", tt.warmup), ("beta-rise", tt.beta_rise), ("tau-fall", tt.tau_fall)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(wrong(flag, "a share from 0 to 1", share));
            }
        }
        tt.distillation.as_ref().map_or(Ok(()), DistillationRecipe::check)?;
        self.data_choice().check()
    }
}

impl TaskConfig for RunConfig {
    const TASK: &'static str = "pretrain";
    fn check(&self) -> Result<()> {
        RunConfig::check(self)
    }
    fn data_choice(&self) -> DataChoice<'_> {
        DataChoice { data: &self.data, val: &self.val, val_share: self.val_share, seed: self.seed }
    }
    fn precision(&self) -> Precision {
        self.training.precision
    }
    fn schedule_mut(&mut self) -> &mut Cadence {
        &mut self.schedule
    }
}

/// The error of a setting, by its flag or key.
pub(crate) fn wrong(flag: &str, expected: impl Into<String>, got: impl ToString) -> Error {
    Error::config("wrong value").at(flag).expected(expected).got(got.to_string())
}
