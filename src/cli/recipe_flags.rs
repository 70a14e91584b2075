//! Flags of the recipe, which every training of a transformer has, under one spelling.

use crate::config::Cadence;
use crate::ops::Precision;
use std::path::PathBuf;

/// Flags of `[training]`, the schedule and what goes with them.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct RecipeFlags {
    /// TOML file over the preset (`--print-config` shows all keys)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seed of every random draw
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Updates
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub steps: Option<u64>,
    /// Passes over the pictures, instead of --steps
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// Pictures per update
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Micro-batches per update: less memory, same numbers (but batch norm sees one at a time)
    #[arg(long, value_name = "N")]
    pub accumulate: Option<usize>,
    /// Compute each block twice instead of keeping its activations: less memory, more time
    #[arg(long)]
    pub recompute: bool,
    /// Of activations and matrix products on a GPU: f32, or f16 with dynamic loss scaling [default: f32]
    #[arg(long, value_name = "NAME")]
    pub precision: Option<Precision>,
    /// Peak learning rate, in fine-tuning that of the head
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Updates over which the learning rate rises
    #[arg(long, value_name = "N")]
    pub warmup_steps: Option<u64>,
    /// Decoupled weight decay
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Largest global gradient norm; 0 = no clipping
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub clip_grad: Option<f64>,
    /// Stochastic depth of the last block
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub drop_path: Option<f32>,
    /// Do not mirror pictures (digits, text)
    #[arg(long)]
    pub no_flip: bool,
    /// Updates between checkpoints
    #[arg(long, value_name = "N")]
    pub save_every: Option<u64>,
    /// Updates between evaluations
    #[arg(long, value_name = "N")]
    pub eval_every: Option<u64>,
}

impl RecipeFlags {
    /// Over how many updates the learning rate rises where nobody said so and the preset's rise would not end: a
    /// `share`-th of them.
    pub fn shorten_warmup(&self, warmup: &mut u64, steps: u64, share: u64) {
        if self.warmup_steps.is_none() && *warmup >= steps {
            *warmup = steps / share;
        }
    }

    /// Puts the schedule's flags in place.
    pub fn set_schedule(&self, schedule: &mut Cadence) {
        super::overrides::set(&mut schedule.save_every, &self.save_every);
        super::overrides::set(&mut schedule.eval_every, &self.eval_every);
    }
}

/// Puts the flags in place in a config with the common names: `seed`, `training`, `model`, `augment`, `schedule`.
macro_rules! set_recipe {
    ($config:expr, $flags:expr) => {{
        let (c, f) = (&mut *$config, $flags);
        $crate::cli::overrides::set(&mut c.seed, &f.seed);
        $crate::cli::overrides::set(&mut c.training.steps, &f.steps);
        $crate::cli::overrides::set(&mut c.training.batch, &f.batch_size);
        $crate::cli::overrides::set(&mut c.training.accumulate, &f.accumulate);
        $crate::cli::overrides::set(&mut c.training.lr, &f.lr);
        $crate::cli::overrides::set(&mut c.training.warmup, &f.warmup_steps);
        $crate::cli::overrides::set(&mut c.training.weight_decay, &f.weight_decay);
        $crate::cli::overrides::set(&mut c.training.clip, &f.clip_grad);
        $crate::cli::overrides::set(&mut c.model.drop_path, &f.drop_path);
        $crate::cli::overrides::set(&mut c.training.precision, &f.precision);
        c.training.recompute |= f.recompute;
        c.augment.flip &= !f.no_flip;
        f.set_schedule(&mut c.schedule);
    }};
}
pub(crate) use set_recipe;
