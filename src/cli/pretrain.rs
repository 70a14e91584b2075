//! `beit pretrain`: the main job.

use super::launch::{Command, RunFlags, launch};
use super::settings::Settings;
use crate::config::{Method, RunConfig};
use crate::error::Result;
use crate::ops::Caps;
use crate::train::{
    Job, Pictures, Pretraining, Supervised, Teacher, Tokenizer, check_memory, check_shared, page_bytes,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit pretrain                                     built-in pictures, preset nano
  beit pretrain --data photos --out runs/photos     your own pictures
  beit pretrain --data digits --no-flip --jitter 0  pictures that must not be mirrored
  beit pretrain --tokenizer runs/pretrain-0001      reuse a tokenizer
  beit pretrain --network openai                    the released dVAE's network instead of nano's custom one
  beit pretrain --method dino --data photos         another method on the same network
  beit pretrain --method supervised --data photos   on the labels of a folder per class
  beit pretrain --masking uniform                   an ablation: no blocks
  beit pretrain --predict-all --masking none        another: all tokens, nothing hidden
  beit pretrain --resume                            go on with the newest unfinished run
  beit pretrain --adapter llvmpipe                  run the shaders on a software driver";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Reuse a trained tokenizer: a run folder, a checkpoint folder or a tokenizer.safetensors
    #[arg(long, value_name = "RUN_OR_FILE", conflicts_with = "network")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    run: RunFlags,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    launch(args, &args.run)
}

impl Command for Args {
    type Config = RunConfig;
    const CALL: &'static str = "pretrain";
    fn merged(&self) -> Result<RunConfig> {
        self.settings.merged()
    }
    fn given(&self) -> bool {
        self.settings.given()
    }
    fn save_every(&self) -> Option<u64> {
        self.settings.recipe.save_every
    }
    fn job(
        &self,
        mut config: RunConfig,
        mut pictures: Pictures,
        caps: &Caps,
        fresh: bool,
    ) -> Result<Box<dyn Job>> {
        if fresh {
            self.settings.apply_epochs(&mut config, pictures.train.len())?;
        }
        if let Some(path) = &self.tokenizer {
            if config.method == Method::Beit {
                let tokenizer = Tokenizer::open(path, page_bytes(caps))?;
                config.tokenizer = tokenizer.config.clone();
                config.check()?;
                check_shared(&config, &tokenizer, &pictures.train)?;
            } else {
                let name = config.method.name();
                pictures.warnings.push(format!("--tokenizer is not used: the method {name} has no tokens"));
            }
        }
        if config.method == Method::Beit && self.tokenizer.is_none() && fresh {
            // a tokenizer with a teacher that is to be trained first
            Teacher::of(&mut config, true)?;
        }
        if matches!(config.method, Method::Supervised(_)) {
            return Ok(Box::new(Supervised::prepare(config, pictures, caps)?));
        }
        check_memory(&config, caps)?;
        Ok(Box::new(Pretraining { config, pictures, tokenizer: self.tokenizer.clone() }))
    }
    fn print_result(&self, dir: &Path) -> Result<()> {
        super::runs::print_result(dir)
    }
}
