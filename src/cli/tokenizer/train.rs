//! `beit tokenizer train`: a tokenizer of its own, for any number of pre-training runs.

use crate::cli::launch::{Command, RunFlags, launch};
use crate::cli::recipe_flags::RecipeFlags;
use crate::cli::settings::{Settings, network};
use crate::config::RunConfig;
use crate::error::Result;
use crate::models::{TokenizerModel, TokenizerNetwork};
use crate::ops::Caps;
use crate::runs::{METRICS, read_records};
use crate::tasks::tokenizer;
use crate::tasks::vq_kd::{self, TeacherPlan};
use crate::train::{Job, Pictures, Teacher, TokenizerConfig, TokenizerTraining, check_fits, distillation};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit tokenizer train --data photos --out runs/photo-tokens
  beit tokenizer train --preset micro --vocab 512 --beta 2 --steps 8000
  beit tokenizer train --network openai                the released network instead of nano's custom one
  beit tokenizer train --network vq-kd --teacher runs/pretrain-0001    ids from the features of a transformer
  beit tokenizer train --resume
  beit pretrain --data photos --tokenizer runs/photo-tokens")]
pub struct Args {
    /// Complete set of values to start from: nano, micro, tiny, small, base, large [default: nano]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// TOML file over the preset (`--print-config` shows all keys)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Pictures: a folder, a tar file, CIFAR files, or `synthetic` [default: synthetic]
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic")]
    data: Option<String>,
    /// Held-out pictures: a folder [default: a share of the data]
    #[arg(long, value_name = "DIR")]
    val: Option<String>,
    /// Seed of every random draw
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Updates; all schedules scale with them
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Pictures per update
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Network: `openai`, the released one; `custom`, about four times cheaper at the published width; `vq-kd`, which needs
    /// a teacher; sizes, recipe and number of updates follow [default: custom for nano, openai for the other presets]
    #[arg(long, value_name = "NAME", value_parser = network)]
    network: Option<TokenizerNetwork>,
    /// vq-kd: the transformer whose features are distilled: a run folder, a checkpoint or a file of any known library
    #[arg(long, value_name = "RUN_OR_FILE")]
    teacher: Option<String>,
    /// vq-kd: average number of cells of a batch below which a code starts anew; 0 = never
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    restart_below: Option<f64>,
    /// Number of ids
    #[arg(long, value_name = "V")]
    vocab: Option<usize>,
    /// Width of the first encoder group, or of all layers of the custom network (256 in both published ones), or of the
    /// transformers of vq-kd (768)
    #[arg(long, value_name = "N")]
    n_hid: Option<usize>,
    /// Side of the pictures in pixels
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Peak learning rate
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// KL weight at the end of its rise: larger spreads the ids, smaller draws sharper
    #[arg(long, value_name = "X")]
    beta: Option<f64>,
    /// Temperature at the end of its fall
    #[arg(long, value_name = "X")]
    tau: Option<f64>,
    /// Decode hard ids in training too, with the gradient of the relaxed ones
    #[arg(long)]
    straight_through: bool,
    /// Coefficient of the moving average, whose weights are the ones used afterwards
    #[arg(long, value_name = "X")]
    ema: Option<f64>,
    /// Strength of colour jitter; 0 = off
    #[arg(long, value_name = "X")]
    jitter: Option<f32>,
    /// Do not mirror pictures (digits, text)
    #[arg(long)]
    no_flip: bool,
    /// Do not crop at random
    #[arg(long)]
    no_crop: bool,
    /// Updates between checkpoints
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,
    /// Updates between evaluations
    #[arg(long, value_name = "N")]
    eval_every: Option<u64>,
    #[command(flatten)]
    run: RunFlags,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    launch(args, &args.run)
}

impl Args {
    /// Flags that pre-training knows too.
    fn settings(&self) -> Settings {
        Settings {
            preset: self.preset.clone(),
            data: self.data.clone(),
            val: self.val.clone(),
            tokenizer_steps: self.steps,
            network: self.network,
            jitter: self.jitter,
            no_crop: self.no_crop,
            recipe: RecipeFlags {
                config: self.config.clone(),
                seed: self.seed,
                no_flip: self.no_flip,
                save_every: self.save_every,
                eval_every: self.eval_every,
                ..RecipeFlags::default()
            },
            ..Settings::default()
        }
    }
    fn apply(&self, c: &mut RunConfig) -> Result<()> {
        self.apply_distillation(c)?;
        let t = &mut c.tokenizer_training;
        let numbers =
            [(&mut t.lr, self.lr), (&mut t.beta, self.beta), (&mut t.tau, self.tau), (&mut t.ema, self.ema)];
        for (to, from) in numbers {
            *to = from.unwrap_or(*to);
        }
        t.batch = self.batch_size.unwrap_or(t.batch);
        t.min_lr = t.min_lr.min(t.lr);
        t.straight_through |= self.straight_through;
        match (&mut c.tokenizer, self.n_hid) {
            (TokenizerModel::Dvae(d), Some(width)) => {
                // the decoder keeps its share
                d.n_init = (d.n_init * width / d.n_hid.max(1)).max(1);
                d.n_hid = width;
            }
            (TokenizerModel::VqKd(v), Some(width)) => {
                v.mlp = (v.mlp * width / v.width.max(1)).max(1);
                v.width = width;
            }
            (_, None) => {}
        }
        if let Some(vocab) = self.vocab {
            c.tokenizer.set_vocab(vocab);
            c.model.vocab = vocab;
        }
        if let Some(size) = self.size {
            let cell = c.tokenizer.stride();
            if size == 0 || !size.is_multiple_of(cell) {
                return Err(crate::Error::config("picture side does not fit the tokenizer")
                    .at("--size")
                    .expected(format!("a multiple of its cells of {cell} pixels"))
                    .got(size.to_string()));
            }
            let side = size / cell * c.model.patch;
            c.model.image = (side, side);
            if let TokenizerModel::VqKd(v) = &mut c.tokenizer {
                v.image = (size, size);
            }
            // The masks of a run that only trains a tokenizer are never drawn, but a config must be whole.
            let cells = (size / cell) * (size / cell);
            c.mask.num_mask_patches = (cells * 2 / 5).max(1);
            c.mask.min_block = c.mask.min_block.min(c.mask.num_mask_patches);
        }
        c.check()
    }

    /// Flags that only a VQ-KD tokenizer has.
    fn apply_distillation(&self, c: &mut RunConfig) -> Result<()> {
        let own = match &mut c.tokenizer_training.distillation {
            Some(own) => own,
            None if self.teacher.is_none() && self.restart_below.is_none() => return Ok(()),
            None => {
                return Err(crate::Error::config("a flag of VQ-KD tokenizers")
                    .at(if self.teacher.is_some() { "--teacher" } else { "--restart-below" })
                    .expected("--network vq-kd beside it")
                    .got("a dVAE, which has no teacher"));
            }
        };
        if let Some(teacher) = &self.teacher {
            own.teacher.clone_from(teacher);
        }
        own.restart_below = self.restart_below.unwrap_or(own.restart_below);
        let dvae_only = [
            ("--beta", self.beta.is_some()),
            ("--tau", self.tau.is_some()),
            ("--straight-through", self.straight_through),
        ];
        if let Some((flag, _)) = dvae_only.iter().find(|f| f.1) {
            return Err(crate::Error::config("a flag of dVAE tokenizers").at(*flag).got("--network vq-kd"));
        }
        Ok(())
    }

    /// Checks that the training fits the device, and of a VQ-KD tokenizer that the teacher does.
    fn check_plans(c: &mut RunConfig, caps: &Caps, fresh: bool) -> Result<()> {
        let teacher = Teacher::of(c, fresh)?;
        let recipe = &c.tokenizer_training;
        let plans = match (&c.tokenizer, &teacher) {
            (TokenizerModel::VqKd(v), Some(teacher)) => {
                let layout = teacher.layout(caps)?;
                let taught = TeacherPlan { config: &teacher.config, layout: &layout };
                vq_kd::plans(v, &taught, (recipe, distillation(recipe)?), caps)?
            }
            (other, _) => tokenizer::plans(other.dvae()?, c.token_side(), recipe, caps)?,
        };
        check_fits("tokenizer training", &plans, caps)
    }
}

impl Command for Args {
    type Config = TokenizerConfig;
    const CALL: &'static str = "tokenizer train";
    fn merged(&self) -> Result<TokenizerConfig> {
        let mut config = self.settings().merged()?;
        self.apply(&mut config)?;
        Ok(TokenizerConfig(config))
    }
    fn given(&self) -> bool {
        let own = [self.lr, self.beta, self.tau, self.ema].iter().any(Option::is_some);
        let sizes = [self.batch_size, self.vocab, self.n_hid, self.size].iter().any(Option::is_some);
        let distilled = self.teacher.is_some() || self.restart_below.is_some();
        own || sizes || distilled || self.straight_through || self.settings().given()
    }
    fn save_every(&self) -> Option<u64> {
        self.save_every
    }
    fn job(
        &self,
        mut config: TokenizerConfig,
        pictures: Pictures,
        caps: &Caps,
        fresh: bool,
    ) -> Result<Box<dyn Job>> {
        Self::check_plans(&mut config.0, caps, fresh)?;
        Ok(Box::new(TokenizerTraining::new(config, pictures)))
    }
    fn print_result(&self, dir: &Path) -> Result<()> {
        let records = read_records(&dir.join(METRICS))?;
        let last = |key: &str| records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64));
        let get = |key: &str| last(key).unwrap_or(f64::NAN);
        if let Some(distance) = last("val_cosine_distance") {
            println!("held-out pictures: cosine distance to the teacher {distance:.4}");
        }
        println!(
            "held-out pictures: mean absolute error {:.4} (flat colour per picture {:.4}, per cell {:.4}), perplexity {:.1}, {:.0} ids in use, {:.0} \
             dead",
            get("val_mae"),
            get("val_flat_picture_mae"),
            get("val_flat_mae"),
            get("val_perplexity"),
            get("codes_used"),
            get("codes_dead")
        );
        println!(
            "more: beit tokenizer stats --tokenizer {0}\nuse it: beit pretrain --tokenizer {0}",
            dir.display()
        );
        Ok(())
    }
}
