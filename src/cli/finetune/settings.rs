//! Flags of `beit finetune classify`. Preset first, then the file, then flags.

use crate::cli::overrides::{any_given, from_preset, named, set, with_file};
use crate::cli::recipe_flags::{RecipeFlags, set_recipe};
use crate::config::{ClassifyConfig, SCRATCH, TaskConfig};
use crate::data::RandAugment;
use crate::error::{Error, Result};

/// Flags that change the config.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Settings {
    #[command(flatten)]
    pub recipe: RecipeFlags,
    /// What the weights start from: a run or checkpoint folder, a file of any known library, or `scratch`
    #[arg(long, visible_alias = "finetune", value_name = "RUN_OR_FILE|scratch")]
    pub model: Option<String>,
    /// Complete set of values to start from: nano, micro, tiny, small, base, large [default: nano]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Labelled pictures: a folder with a folder per class, tar shards, CIFAR files, `synthetic` [default: synthetic]
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic")]
    pub data: Option<String>,
    /// Held-out pictures [default: the part that the data names, or a share]
    #[arg(long, visible_alias = "eval-data-path", value_name = "DIR")]
    pub val: Option<String>,
    /// Train on so many pictures of each class only, drawn at random
    #[arg(long, value_name = "N")]
    pub labels_per_class: Option<usize>,
    /// Last learning rate of the head
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_lr: Option<f64>,
    /// Passes over which the learning rate rises
    #[arg(long, value_name = "N", conflicts_with = "warmup_steps")]
    pub warmup_epochs: Option<u64>,
    /// Factor on the learning rate from one block to the one below it; 1 = the same for all [default: the preset's,
    /// from scratch 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub layer_decay: Option<f64>,
    /// Measure and save a moving average of the weights with this coefficient; 0 = off
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub model_ema_decay: Option<f64>,
    /// What the head sees: mean (of the patches) or cls
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,
    /// Factor on the head's initial weights
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub init_scale: Option<f32>,
    /// Side of the picture in pixels; position tables are resampled to it
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    pub image_size: Option<usize>,
    /// How: geometric, geometric-linear or uniform
    #[arg(long, value_name = "NAME")]
    pub resize_positions: Option<String>,
    /// Share of the short side that an evaluation crop keeps
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub crop_pct: Option<f64>,
    /// RandAugment as timm writes it, such as rand-m9-mstd0.5-inc1, or none
    #[arg(long, value_name = "POLICY")]
    pub aa: Option<String>,
    /// α of mixup; 0 = off
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mixup: Option<f64>,
    /// α of CutMix; 0 = off
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub cutmix: Option<f64>,
    /// Probability that a batch is mixed
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mixup_prob: Option<f64>,
    /// Probability of CutMix where both are on
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub mixup_switch_prob: Option<f64>,
    /// Repeated augmentation: every picture comes N times in a row with other changes
    #[arg(long, value_name = "N")]
    pub repeated_aug: Option<usize>,
    /// Label smoothing
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub smoothing: Option<f64>,
    /// Probability of random erasing
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub reprob: Option<f64>,
    /// Strength of colour jitter (only without RandAugment); 0 = off
    #[arg(long, visible_alias = "color-jitter", value_name = "X")]
    pub jitter: Option<f32>,
    /// Smallest share of the area that a random crop takes
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_scale: Option<f64>,
    /// Do not crop at random
    #[arg(long)]
    pub no_crop: bool,
}

impl Settings {
    /// Whether any flag that changes training was given.
    pub fn given(&self) -> bool {
        let mut without = self.clone();
        without.recipe.save_every = None;
        any_given(&without)
    }

    /// The merged config.
    ///
    /// # Errors
    /// If a file cannot be read or a value cannot work.
    pub fn merged(&self) -> Result<ClassifyConfig> {
        let preset = from_preset(self.preset.as_ref(), ClassifyConfig::preset)?;
        let mut c = with_file(preset, self.recipe.config.as_ref())?;
        // lower rates for lower layers keep what pre-training taught them; from scratch there is nothing to keep
        if self.model.as_deref().unwrap_or(&c.start) == SCRATCH && self.recipe.config.is_none() {
            c.training.layer_decay = 1.0;
        }
        self.apply_training(&mut c)?;
        self.apply_augment(&mut c)?;
        c.check()?;
        Ok(c)
    }

    fn apply_training(&self, c: &mut ClassifyConfig) -> Result<()> {
        set_recipe!(c, &self.recipe);
        set(&mut c.start, &self.model);
        set(&mut c.data, &self.data);
        set(&mut c.val, &self.val);
        set(&mut c.labels_per_class, &self.labels_per_class);
        let t = &mut c.training;
        set(&mut t.min_lr, &self.min_lr);
        set(&mut t.layer_decay, &self.layer_decay);
        set(&mut t.ema, &self.model_ema_decay);
        if self.recipe.steps.is_some() {
            self.recipe.shorten_warmup(&mut t.warmup, t.steps, 5);
        }
        set(&mut c.init_scale, &self.init_scale);
        if let Some(side) = self.image_size {
            c.model.image = (side, side);
        }
        named(&mut c.pool, &self.pool, "--pool", "mean, cls")?;
        let ways = "geometric, geometric-linear, uniform";
        named(&mut c.resize, &self.resize_positions, "--resize-positions", ways)
    }

    fn apply_augment(&self, c: &mut ClassifyConfig) -> Result<()> {
        let a = &mut c.augment;
        set(&mut a.crop_pct, &self.crop_pct);
        set(&mut a.mixing.mixup, &self.mixup);
        set(&mut a.mixing.cutmix, &self.cutmix);
        set(&mut a.mixing.probability, &self.mixup_prob);
        set(&mut a.mixing.switch, &self.mixup_switch_prob);
        set(&mut a.smoothing, &self.smoothing);
        set(&mut a.repeats, &self.repeated_aug);
        set(&mut a.erasing, &self.reprob);
        set(&mut a.jitter, &self.jitter);
        set(&mut a.min_scale, &self.min_scale);
        a.crop &= !self.no_crop;
        if let Some(policy) = &self.aa {
            a.randaugment = parse_policy(policy)?;
        }
        Ok(())
    }
}

/// `none`, or `rand-mM[-nN][-mstdS][-pP][-inc1]`. The operations are always those whose effect grows with the magnitude.
fn parse_policy(policy: &str) -> Result<RandAugment> {
    let wrong = || {
        let e = Error::config("no such augmentation policy").at("--aa").got(policy);
        e.expected("none, or rand-m9-mstd0.5-inc1 with numbers of your own (m, n, mstd, p)")
    };
    if policy == "none" || policy.is_empty() {
        return Ok(RandAugment { operations: 0, ..RandAugment::PUBLISHED });
    }
    let mut out = RandAugment { deviation: 0.0, ..RandAugment::PUBLISHED };
    for part in policy.strip_prefix("rand-").ok_or_else(wrong)?.split('-') {
        let split = part.find(|c: char| c.is_ascii_digit()).ok_or_else(wrong)?;
        let (key, value) = part.split_at(split);
        let number: f64 = value.parse().map_err(|_| wrong())?;
        match key {
            "m" => out.magnitude = number,
            "n" if number >= 0.0 => out.operations = number as usize,
            "mstd" => out.deviation = number,
            "p" => out.probability = number,
            "inc" if number == 1.0 => {}
            _ => return Err(wrong()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        assert_eq!(parse_policy("rand-m9-mstd0.5-inc1").unwrap(), RandAugment::PUBLISHED);
        assert_eq!(parse_policy("none").unwrap().operations, 0);
        let p = parse_policy("rand-m5-n3-p0.8").unwrap();
        assert_eq!((p.magnitude, p.operations, p.probability, p.deviation), (5.0, 3, 0.8, 0.0));
        for wrong in ["randm9", "auto", "rand-9", "rand-m", "rand-x3", "rand-inc2"] {
            assert!(parse_policy(wrong).is_err(), "{wrong}");
        }
    }
}
