//! Everything that a fine-tuning run for classification is determined by (beit-spec §6).

use super::{Cadence, DataChoice, TaskConfig, preset, wrong};
use crate::data::{Augment, ClassAugment, ClassViews, Mixing, Normalization, RandAugment};
use crate::error::{Error, Result};
use crate::interop::Resize;
use crate::models::classifier::{HeadSpec, INIT_SCALE};
use crate::models::{RelPos, VitConfig};
use crate::ops::{Pool, Precision};
use crate::tasks::classify::{Classifier, ClassifyRecipe};
use serde::{Deserialize, Serialize};

/// Where weights come from when there are none.
pub const SCRATCH: &str = "scratch";
/// Sides from here on are evaluated without a margin (beit-spec §6.6).
const LARGE_SIDE: usize = 384;

/// A fine-tuning run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassifyConfig {
    /// Name of the preset that the values started from.
    pub preset: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// Labelled pictures: a folder with a folder per class, tar shards, CIFAR files, `synthetic`.
    pub data: String,
    /// Held-out pictures, or empty for a share of `data`.
    pub val: String,
    /// Share of `data` that is held out when `val` is empty and the data names no held-out part itself.
    pub val_share: f64,
    /// Held-out pictures that are looked at in an evaluation, at most; 0 = all.
    pub val_images: usize,
    /// Training pictures of each class, drawn at random; 0 = all.
    pub labels_per_class: usize,
    /// What the weights start from: `scratch`, a run or checkpoint folder, a file.
    pub start: String,
    /// How position tables are resampled when the grid changes.
    pub resize: Resize,
    /// What the head sees.
    pub pool: PoolChoice,
    /// Factor on the head's initial weights.
    pub init_scale: f32,
    /// Names of the classes; taken from the data.
    pub classes: Vec<String>,
    /// The transformer; its sizes are those of `start` where there is one.
    pub model: VitConfig,
    /// How it is trained.
    pub training: ClassifyRecipe,
    /// How pictures are prepared and changed.
    pub augment: LabelledAugment,
    /// When things are written.
    pub schedule: Cadence,
}

/// Names of what the head can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolChoice {
    /// Mean of the patch tokens.
    Mean,
    /// The class token.
    Cls,
}

impl PoolChoice {
    /// As the network takes it.
    pub fn pool(self) -> Pool {
        match self {
            PoolChoice::Mean => Pool::MeanPatches,
            PoolChoice::Cls => Pool::Cls,
        }
    }
}

/// How labelled pictures are prepared and changed; every change can be switched off on its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LabelledAugment {
    /// Mean of the pixels that is subtracted; those of the pre-training where there was one.
    pub mean: [f32; 3],
    /// Deviation of the pixels that is divided by.
    pub std: [f32; 3],
    /// Share of the short side that an evaluation crop keeps; 0 = 0.875 below 384 pixels, 1 from there.
    pub crop_pct: f64,
    /// Crop at random.
    pub crop: bool,
    /// Smallest share of the area that a crop takes.
    pub min_scale: f64,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Strength of colour jitter; it acts only where RandAugment is off.
    pub jitter: f32,
    /// Probability of random erasing.
    pub erasing: f64,
    /// Label smoothing ε.
    pub smoothing: f64,
    /// How often a picture comes in a row with other changes (repeated augmentation); 1 = once.
    #[serde(default = "once")]
    pub repeats: usize,
    /// RandAugment.
    pub randaugment: RandAugment,
    /// Mixup and CutMix.
    pub mixing: Mixing,
}

fn once() -> usize {
    1
}

impl ClassifyConfig {
    /// The recipe for a preset's transformer: the published one (beit-spec §6.1) for tiny to large, a gentle one of
    /// minutes for nano and micro.
    ///
    /// # Errors
    /// If there is no such preset.
    pub fn preset(name: &str) -> Result<ClassifyConfig> {
        let pretraining = preset(name)?;
        let small = matches!(name, "nano" | "micro");
        let large = name == "large";
        let mut model = pretraining.model;
        if model.rel_pos == RelPos::Shared {
            model.rel_pos = RelPos::PerLayer;
        }
        let training = if small {
            ClassifyRecipe {
                steps: 1000,
                batch: 64,
                accumulate: 1,
                recompute: false,
                lr: 2e-3,
                min_lr: 1e-6,
                warmup: 100,
                layer_decay: 0.75,
                weight_decay: 0.05,
                betas: (0.9, 0.999),
                clip: 3.0,
                ema: 0.0,
                precision: Precision::F32,
            }
        } else {
            // 1251 updates of 1024 pictures are an epoch of ImageNet-1K
            let (epochs, warmup) = if large { (50, 5) } else { (100, 20) };
            ClassifyRecipe {
                steps: 1251 * epochs,
                batch: 1024,
                accumulate: pretraining.training.accumulate,
                recompute: pretraining.training.recompute,
                lr: if large { 1e-3 } else { 4e-3 },
                min_lr: 1e-6,
                warmup: 1251 * warmup,
                layer_decay: if large { 0.75 } else { 0.65 },
                weight_decay: 0.05,
                betas: (0.9, 0.999),
                clip: 0.0,
                ema: 0.0,
                precision: Precision::F32,
            }
        };
        let off = RandAugment { operations: 0, ..RandAugment::PUBLISHED };
        Ok(ClassifyConfig {
            preset: name.into(),
            seed: 0,
            data: "synthetic".into(),
            val: String::new(),
            val_share: 0.1,
            val_images: 0,
            labels_per_class: 0,
            start: SCRATCH.into(),
            resize: Resize::Geometric,
            pool: PoolChoice::Mean,
            init_scale: INIT_SCALE,
            classes: vec![],
            model,
            training,
            augment: LabelledAugment {
                mean: [0.5; 3],
                std: [0.5; 3],
                crop_pct: 0.0,
                crop: true,
                min_scale: if small { 0.35 } else { 0.08 },
                flip: true,
                jitter: if small { 0.0 } else { 0.4 },
                erasing: if small { 0.0 } else { 0.25 },
                smoothing: 0.1,
                repeats: 1,
                randaugment: if small { off } else { RandAugment::PUBLISHED },
                mixing: if small { Mixing::OFF } else { Mixing::PUBLISHED },
            },
            schedule: Cadence {
                log_every: if small { 1 } else { 10 },
                eval_every: if small { 250 } else { 2_500 },
                save_every: if small { 250 } else { 2_500 },
                keep: 2,
            },
        })
    }

    /// The network.
    pub fn network(&self) -> Classifier {
        let head =
            HeadSpec { pool: self.pool.pool(), classes: self.classes.len(), init_scale: self.init_scale };
        Classifier { vit: self.model.clone(), head }
    }

    /// Views of training pictures, or of held-out ones.
    pub fn views(&self, train: bool) -> ClassViews {
        let a = &self.augment;
        let rule = if self.model.image.0 < LARGE_SIDE { 0.875 } else { 1.0 };
        let augment = ClassAugment {
            geometry: Augment {
                jitter: if a.randaugment.operations == 0 { a.jitter } else { 0.0 },
                flip: a.flip,
                crop: a.crop,
                min_scale: a.min_scale,
                ..Augment::default()
            },
            randaugment: a.randaugment,
            erasing: a.erasing,
            mixing: a.mixing,
            smoothing: a.smoothing,
        };
        ClassViews {
            side: self.model.image.0,
            crop_share: if a.crop_pct == 0.0 { rule } else { a.crop_pct },
            normalization: Normalization { mean: a.mean, std: a.std },
            augment: train.then_some(augment),
        }
    }
}

impl TaskConfig for ClassifyConfig {
    const TASK: &'static str = "classify";
    fn check(&self) -> Result<()> {
        self.model.check()?;
        if self.model.image.0 != self.model.image.1 {
            return Err(Error::config("image sides of a run")
                .expected("a square picture")
                .got(format!("{} x {}", self.model.image.0, self.model.image.1)));
        }
        self.views(true).validate()?;
        self.schedule.check()?;
        self.data_choice().check()?;
        self.training.check()?;
        if self.augment.std.iter().any(|s| !s.is_finite() || *s <= 0.0) {
            return Err(wrong("augment.std", "numbers above 0", format!("{:?}", self.augment.std)));
        }
        if !(1..=64).contains(&self.augment.repeats) {
            return Err(wrong("repeated-aug", "1 (off) to 64", self.augment.repeats));
        }
        if !(self.init_scale >= 0.0 && self.init_scale.is_finite()) {
            return Err(wrong("init-scale", "0 or a number above", self.init_scale));
        }
        Ok(())
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

impl ClassifyRecipe {
    /// Checks the numbers.
    ///
    /// # Errors
    /// The first that cannot work.
    pub fn check(&self) -> Result<()> {
        let at_least_one = [
            ("batch-size", self.batch as u64),
            ("accumulate", self.accumulate as u64),
            ("steps", self.steps),
        ];
        if let Some((flag, _)) = at_least_one.into_iter().find(|(_, n)| *n == 0) {
            return Err(wrong(flag, "1 or more", 0));
        }
        if !self.batch.is_multiple_of(self.accumulate) {
            return Err(wrong(
                "accumulate",
                format!("a divisor of the batch size {}", self.batch),
                self.accumulate,
            ));
        }
        if !(self.lr > 0.0 && self.lr.is_finite()) {
            return Err(wrong("lr", "a number above 0", self.lr));
        }
        for (flag, v) in
            [("min-lr", self.min_lr), ("weight-decay", self.weight_decay), ("clip-grad", self.clip)]
        {
            if !(v >= 0.0 && v.is_finite()) {
                return Err(wrong(flag, "0 or a number above", v));
            }
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err(wrong("layer-decay", "above 0, up to 1", self.layer_decay));
        }
        if !(0.0..1.0).contains(&self.ema) {
            return Err(wrong("model-ema-decay", "0 (off) or more, less than 1", self.ema));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PRESETS;

    #[test]
    fn every_preset_is_consistent() {
        for name in PRESETS {
            ClassifyConfig::preset(name).unwrap().check().unwrap();
        }
        let base = ClassifyConfig::preset("base").unwrap();
        assert_eq!((base.training.steps, base.training.warmup), (125_100, 25_020));
        assert_eq!(base.views(true).augment.unwrap().geometry.jitter, 0.0, "RandAugment replaces jitter");
        let mut off = base.clone();
        off.augment.randaugment.operations = 0;
        assert_eq!(off.views(true).augment.unwrap().geometry.jitter, 0.4);
    }

    #[test]
    fn mistakes_name_their_flag() {
        let at = |change: fn(&mut ClassifyConfig)| {
            let mut c = ClassifyConfig::preset("nano").unwrap();
            change(&mut c);
            c.check().unwrap_err().at
        };
        assert_eq!(at(|c| c.training.layer_decay = 1.5).as_deref(), Some("layer-decay"));
        assert_eq!(at(|c| c.augment.smoothing = 2.0).as_deref(), Some("smoothing"));
        assert_eq!(at(|c| c.augment.erasing = -1.0).as_deref(), Some("reprob"));
        assert_eq!(at(|c| c.augment.mixing.cutmix = f64::NAN).as_deref(), Some("cutmix"));
        assert_eq!(at(|c| c.training.ema = 1.0).as_deref(), Some("model-ema-decay"));
    }
}
