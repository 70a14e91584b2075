//! A segmentation run: everything that `beit finetune segment` is determined by.

use super::{Cadence, DataChoice, SCRATCH, TaskConfig, preset, wrong};
use crate::data::Normalization;
use crate::data::segment::{SegmentAugment, SegmentChoice};
use crate::error::{Error, Result};
use crate::models::segmenter::SegmentHead;
use crate::models::upernet::UperNetConfig;
use crate::models::{RelPos, VitConfig};
use crate::ops::Precision;
use crate::tasks::segment::{SegmentModel, SegmentRecipe};
use crate::tasks::sliding::Slide;
use serde::{Deserialize, Serialize};

/// A segmentation run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentConfig {
    /// Name of the preset that the values started from.
    pub preset: String,
    /// Seed of every random draw.
    pub seed: u64,
    /// `synthetic`, a folder of pictures, or one with pictures and label maps in sub-folders.
    pub data: String,
    /// Folder of label maps, or empty to look for it in `data`.
    pub labels: String,
    /// Held-out pictures, or empty.
    pub val: String,
    /// Label maps of the held-out pictures.
    pub val_labels: String,
    /// Share of the pictures that is held out when nothing else names any.
    pub val_share: f64,
    /// Held-out pictures that are looked at in an evaluation while training, at most.
    pub val_images: usize,
    /// Training pictures, drawn at random; 0 = all.
    #[serde(default)]
    pub train_images: usize,
    /// 0 in a label map means unlabelled, class `k` is stored as `k + 1`.
    pub reduce_zero_label: bool,
    /// Number of classes; 0 = as many as the label maps or the names say.
    pub classes: usize,
    /// A file with a name of a class on every line, or empty.
    pub class_names: String,
    /// What the weights start from: a run, a checkpoint, a file of any known library, or `scratch`.
    pub start: String,
    /// The transformer.
    pub model: VitConfig,
    /// How it is trained.
    pub training: SegmentRecipe,
    /// Random changes of training pictures.
    pub augment: SegmentAugmentConfig,
    /// How whole pictures are segmented.
    pub slide: Slide,
    /// When things are written.
    pub schedule: Cadence,
    /// The head.
    pub head: SegmentHead,
}

/// Random changes of training pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentAugmentConfig {
    /// Smallest and largest scale.
    pub scale: (f64, f64),
    /// Largest share of one class in a crop.
    pub most_of_one: f64,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Change brightness, contrast, saturation and hue.
    pub photometric: bool,
    /// ImageNet statistics instead of 0.5 (the official recipe, whatever the backbone was trained with).
    pub imagenet_statistics: bool,
}

/// The segmentation run of a preset: the transformer of its pre-training with UPerNet, at 512 pixels for the published
/// sizes and their recipe (beit-spec §7.5); the small presets keep their pictures and train for minutes.
///
/// # Errors
/// If there is no such preset.
pub fn segment_preset(name: &str) -> Result<SegmentConfig> {
    let base = preset(name)?;
    let small = matches!(name, "nano" | "micro");
    let side = if small { base.model.image.0 } else { 512 };
    let model = VitConfig {
        image: (side, side),
        rel_pos: RelPos::PerLayer,
        drop_path: if small { 0.0 } else { 0.1 },
        ..base.model
    };
    let mut head = UperNetConfig::official(&model);
    if small {
        (head.channels, head.pool_scales) = (model.width / 2, vec![1, 2, 3]);
        head.auxiliary.iter_mut().for_each(|a| a.channels = model.width / 2);
    }
    let training = SegmentRecipe {
        steps: if small { 800 } else { 160_000 },
        batch: 16,
        accumulate: 1,
        recompute: !small,
        lr: if small { 1e-2 } else { 7e-4 },
        warmup: if small { 20 } else { 1500 },
        warmup_ratio: 1e-6,
        weight_decay: 0.05,
        betas: (0.9, 0.999),
        clip: if small { 1.0 } else { 0.0 },
        layer_decay: if small { 0.9 } else { 0.65 },
        over_all_pixels: false,
        precision: Precision::F32,
    };
    let schedule = match small {
        true => Cadence { log_every: 1, eval_every: 100, save_every: 100, keep: 2 },
        false => Cadence { log_every: 50, eval_every: 16_000, save_every: 4_000, keep: 2 },
    };
    Ok(SegmentConfig {
        preset: name.into(),
        seed: 0,
        data: "synthetic:2000".into(),
        labels: String::new(),
        val: String::new(),
        val_labels: String::new(),
        val_share: 0.05,
        val_images: 256,
        train_images: 0,
        reduce_zero_label: false,
        classes: 0,
        class_names: String::new(),
        start: SCRATCH.into(),
        model,
        training,
        augment: SegmentAugmentConfig {
            scale: if small { (0.75, 1.5) } else { (0.5, 2.0) },
            most_of_one: if small { 0.95 } else { 0.75 },
            flip: true,
            photometric: true,
            imagenet_statistics: true,
        },
        slide: Slide::default(),
        schedule,
        head: SegmentHead::Upernet(head),
    })
}

impl SegmentConfig {
    /// Where labelled pictures come from.
    pub fn choice(&self) -> SegmentChoice<'_> {
        SegmentChoice {
            data: &self.data,
            labels: &self.labels,
            val: &self.val,
            val_labels: &self.val_labels,
            val_share: self.val_share,
            seed: self.seed,
            reduce_zero: self.reduce_zero_label,
            classes: self.classes,
            class_names: &self.class_names,
        }
    }
    /// The network; the number of classes must be known.
    pub fn network(&self) -> SegmentModel {
        SegmentModel { vit: self.model.clone(), head: self.head.clone(), classes: self.classes }
    }
    /// Random changes of training pictures.
    pub fn augmentation(&self) -> SegmentAugment {
        let a = &self.augment;
        SegmentAugment {
            scale: a.scale,
            most_of_one: a.most_of_one,
            flip: a.flip,
            photometric: a.photometric,
        }
    }
    /// Scaling of the transformer's input.
    pub fn normalization(&self) -> Normalization {
        if self.augment.imagenet_statistics { Normalization::IMAGENET } else { Normalization::HALF }
    }
    fn check_ranges(&self) -> Result<()> {
        let t = &self.training;
        for (flag, value) in [
            ("steps", t.steps),
            ("batch-size", t.batch as u64),
            ("accumulate", t.accumulate as u64),
            ("val-images", self.val_images as u64),
        ] {
            if value == 0 {
                return Err(wrong(flag, "1 or more", 0));
            }
        }
        if !t.batch.is_multiple_of(t.accumulate) {
            return Err(wrong(
                "accumulate",
                format!("a divisor of the batch size {}", t.batch),
                t.accumulate,
            ));
        }
        if !(t.lr > 0.0 && t.lr.is_finite()) {
            return Err(wrong("lr", "a number above 0", t.lr));
        }
        for (flag, value) in [("weight-decay", t.weight_decay), ("clip-grad", t.clip)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(wrong(flag, "0 or a number above", value));
            }
        }
        if !(t.layer_decay > 0.0 && t.layer_decay <= 1.0) {
            return Err(wrong("layer-decay", "above 0 and at most 1", t.layer_decay));
        }
        if self.classes == 1 || self.classes > 255 {
            return Err(wrong("classes", "2 to 255", self.classes));
        }
        Ok(())
    }
}

impl TaskConfig for SegmentConfig {
    const TASK: &'static str = "segment";
    fn check(&self) -> Result<()> {
        self.model.check()?;
        if let SegmentHead::Upernet(head) = &self.head {
            head.check(&self.model)?;
        }
        self.augmentation().validate()?;
        self.slide.check()?;
        self.schedule.check()?;
        self.check_ranges()?;
        if self.labels.is_empty() || !(self.data == "synthetic" || self.data.starts_with("synthetic:")) {
            return self.data_choice().check();
        }
        Err(Error::config("the built-in scenes bring their own label maps").at("--labels"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PRESETS, from_toml, merge_file, to_toml};
    use crate::models::setr::SetrConfig;

    #[test]
    fn presets_check_and_travel_through_toml() {
        for name in PRESETS {
            let mut c = segment_preset(name).unwrap();
            c.check().unwrap();
            assert_eq!(from_toml::<SegmentConfig>(&to_toml(&c).unwrap(), "x").unwrap(), c);
            c.head = SegmentHead::SetrPup(SetrConfig::default());
            assert_eq!(from_toml::<SegmentConfig>(&to_toml(&c).unwrap(), "x").unwrap(), c);
        }
        let merged = merge_file(&segment_preset("nano").unwrap(), "[training]\nlr = 1\n", "x").unwrap();
        assert_eq!(merged.training.lr, 1.0);
    }

    #[test]
    fn wrong_values_are_named() {
        let base = segment_preset("nano").unwrap();
        for (change, word) in [
            ("classes = 1", "classes"),
            ("[training]\naccumulate = 3", "accumulate"),
            ("[training]\nlayer-decay = 0", "layer-decay"),
            ("[slide]\nstride = 0", "stride"),
            ("[augment]\nscale = [2, 1]", "scale"),
            ("labels = \"x\"", "--labels"),
        ] {
            let e = merge_file(&base, change, "x").and_then(|c| c.check()).unwrap_err().to_string();
            assert!(e.contains(word), "{change}: {e}");
        }
    }
}
