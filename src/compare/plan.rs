//! What a comparison trains: the same network, pictures, budget and seeds for every method.

use crate::config::{ClassifyConfig, METHODS, RunConfig, SCRATCH, SegmentConfig, preset, segment_preset};
use crate::error::{Error, Result};
use crate::models::DvaeNetwork;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Share of the pictures that is held out where the data names no held-out part itself.
const VAL_SHARE: f64 = 0.1;
/// Factor on the learning rate from one block to the one below it in fine-tuning; from scratch there is nothing in the
/// lower blocks to keep, and all rates are the same.
const LAYER_DECAY: f64 = 0.8;

/// How a network is made before the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Not at all.
    Scratch,
    /// On the labels of all training pictures.
    Supervised,
    /// Self-distillation.
    Dino,
    /// Momentum contrast.
    MocoV3,
    /// Mean colours of corrupted patches.
    MaskedPatchColour,
    /// Pixels of masked patches.
    Pixels,
    /// Visual tokens of masked patches.
    Beit,
    /// The same, and then the labels of all training pictures.
    BeitIntermediate,
}

impl Route {
    /// All of them, in the order of the table.
    pub const ALL: [Route; 8] = [
        Route::Scratch,
        Route::Supervised,
        Route::Dino,
        Route::MocoV3,
        Route::MaskedPatchColour,
        Route::Pixels,
        Route::Beit,
        Route::BeitIntermediate,
    ];
    /// Name in flags, files and folders.
    pub fn name(self) -> &'static str {
        match self {
            Route::Scratch => "scratch",
            Route::Supervised => "supervised",
            Route::Dino => "dino",
            Route::MocoV3 => "moco-v3",
            Route::MaskedPatchColour => "masked-patch-colour",
            Route::Pixels => "pixels",
            Route::Beit => "beit",
            Route::BeitIntermediate => "beit-intermediate",
        }
    }
    /// Name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Route::Scratch => "from scratch",
            Route::Supervised => "supervised",
            Route::Dino => "DINO",
            Route::MocoV3 => "MoCo v3",
            Route::MaskedPatchColour => "masked patch colour",
            Route::Pixels => "pixels of masked patches",
            Route::Beit => "BEiT",
            Route::BeitIntermediate => "BEiT + intermediate fine-tuning",
        }
    }
    /// Whether the labels of all training pictures are seen before the tasks.
    pub fn sees_labels(self) -> bool {
        matches!(self, Route::Supervised | Route::BeitIntermediate)
    }
    /// The method of its pre-training, if it has one.
    pub fn method(self) -> Option<&'static str> {
        match self {
            Route::Scratch => None,
            Route::BeitIntermediate => Some("beit"),
            other => METHODS.into_iter().find(|m| *m == other.name()),
        }
    }
}

/// What a network is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Fine-tuned classification: top-1.
    Classify,
    /// Fine-tuned segmentation: mIoU.
    Segment,
    /// A linear classifier on frozen features: top-1 of the best layer.
    Linear,
    /// Nearest neighbours among frozen features: top-1 of the best layer.
    Knn,
}

impl Task {
    /// All of them, in the order of the table.
    pub const ALL: [Task; 4] = [Task::Classify, Task::Segment, Task::Linear, Task::Knn];
    /// Name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Task::Classify => "classify",
            Task::Segment => "segment",
            Task::Linear => "linear",
            Task::Knn => "knn",
        }
    }
    /// Name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Task::Classify => "fine-tuned, top-1",
            Task::Segment => "segmentation, mIoU",
            Task::Linear => "linear probe, top-1",
            Task::Knn => "k-NN, top-1",
        }
    }
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CompareConfig {
    /// Preset of the network and of all recipes.
    pub preset: String,
    /// Labelled pictures for pre-training (without their labels, except where a route says so) and classification.
    pub data: String,
    /// Held-out pictures, or empty.
    pub val: String,
    /// Pictures with label maps.
    pub segment_data: String,
    /// Folder of their label maps, or empty.
    pub segment_labels: String,
    /// Routes.
    pub methods: Vec<Route>,
    /// Tasks.
    pub tasks: Vec<Task>,
    /// First seed.
    pub seed: u64,
    /// Number of seeds: of scenes, splits, initial weights and orders.
    pub seeds: u64,
    /// Training pictures of each class whose label the tasks see; 0 = all.
    pub labels_per_class: usize,
    /// Training pictures whose map segmentation sees; 0 = all.
    pub maps: usize,
    /// Network of BEiT's tokenizer; folders without a word about it have the released one.
    #[serde(default)]
    pub network: DvaeNetwork,
    /// Updates of the tokenizer.
    pub tokenizer_steps: u64,
    /// Updates of pre-training.
    pub steps: u64,
    /// Updates on all labels between BEiT's pre-training and the tasks.
    pub intermediate_steps: u64,
    /// Updates of fine-tuning for classification.
    pub finetune_steps: u64,
    /// Updates of fine-tuning for segmentation.
    pub segment_steps: u64,
    /// Mirror half of the pictures.
    pub flip: bool,
}

impl CompareConfig {
    /// Checks what can be checked before data are touched.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<()> {
        let numbers = [
            ("--seeds", self.seeds),
            ("--tokenizer-steps", self.tokenizer_steps),
            ("--steps", self.steps),
            ("--intermediate-steps", self.intermediate_steps),
            ("--finetune-steps", self.finetune_steps),
            ("--segment-steps", self.segment_steps),
        ];
        if let Some((flag, _)) = numbers.into_iter().find(|(_, n)| *n == 0) {
            return Err(Error::config("wrong value").at(flag).expected("1 or more").got("0"));
        }
        if self.methods.is_empty() || self.tasks.is_empty() {
            return Err(Error::config("nothing to compare").at("--methods, --tasks"));
        }
        preset(&self.preset).map(|_| ())
    }

    /// The seeds.
    pub fn all_seeds(&self) -> std::ops::Range<u64> {
        self.seed..self.seed + self.seeds
    }

    /// Whether both compare the same, so that cells of one are cells of the other: more methods, tasks or seeds do not
    /// matter.
    pub fn compatible(&self, other: &CompareConfig) -> bool {
        let plain = |c: &CompareConfig| CompareConfig {
            methods: vec![],
            tasks: vec![],
            seed: 0,
            seeds: 0,
            ..c.clone()
        };
        plain(self) == plain(other)
    }

    /// Pre-training by a method.
    ///
    /// # Errors
    /// If there is no such preset or method, or its numbers cannot work.
    pub fn pretraining(&self, method: &str, seed: u64) -> Result<RunConfig> {
        let mut c = preset(&self.preset)?.with_method(method)?;
        c.set_tokenizer_network(self.network.into())?;
        (c.seed, c.data, c.val, c.val_share) = (seed, self.data.clone(), self.val.clone(), VAL_SHARE);
        (c.tokenizer_training.steps, c.training.steps) = (self.tokenizer_steps, self.steps);
        c.training.warmup = (self.steps / 10).max(1);
        c.augment.flip = self.flip;
        let every = self.steps.max(self.tokenizer_steps);
        (c.schedule.eval_every, c.schedule.save_every) = (every, 200);
        c.check()?;
        Ok(c)
    }

    fn classification(
        &self,
        seed: u64,
        start: Option<&Path>,
        steps: u64,
        few: bool,
    ) -> Result<ClassifyConfig> {
        let mut c = ClassifyConfig::preset(&self.preset)?;
        (c.seed, c.data, c.val, c.val_share) = (seed, self.data.clone(), self.val.clone(), VAL_SHARE);
        c.start = start.map_or(SCRATCH.into(), |p| p.display().to_string());
        c.labels_per_class = if few { self.labels_per_class } else { 0 };
        (c.training.steps, c.training.warmup) = (steps, (steps / 10).max(1));
        c.training.layer_decay = if start.is_some() { LAYER_DECAY } else { 1.0 };
        c.augment.flip = self.flip;
        (c.schedule.eval_every, c.schedule.save_every) = (steps, 200);
        Ok(c)
    }

    /// Fine-tuning on the few labels.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn finetuning(&self, seed: u64, start: Option<&Path>) -> Result<ClassifyConfig> {
        self.classification(seed, start, self.finetune_steps, true)
    }

    /// Intermediate fine-tuning on all labels.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn intermediate(&self, seed: u64, start: &Path) -> Result<ClassifyConfig> {
        self.classification(seed, Some(start), self.intermediate_steps, false)
    }

    /// A network as it is initialised: one update at a rate that changes nothing leaves it in a checkpoint.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn untrained(&self, seed: u64) -> Result<ClassifyConfig> {
        let mut c = self.classification(seed, None, 1, true)?;
        (c.training.lr, c.training.min_lr, c.val_images) = (1e-12, 0.0, 1);
        Ok(c)
    }

    /// Fine-tuning for segmentation on the few maps.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn segmentation(&self, seed: u64, start: Option<&Path>) -> Result<SegmentConfig> {
        let mut c = segment_preset(&self.preset)?;
        (c.seed, c.data, c.labels) = (seed, self.segment_data.clone(), self.segment_labels.clone());
        (c.val_share, c.train_images) = (VAL_SHARE, self.maps);
        c.start = start.map_or(SCRATCH.into(), |p| p.display().to_string());
        (c.training.steps, c.training.warmup) = (self.segment_steps, (self.segment_steps / 20).max(1));
        c.training.layer_decay = if start.is_some() { LAYER_DECAY } else { 1.0 };
        c.augment.flip = self.flip;
        (c.schedule.eval_every, c.schedule.save_every) = (self.segment_steps, 100);
        Ok(c)
    }
}
