//! `beit finetune classify`.

use super::settings::Settings;
use crate::cli::launch::{Command, RunFlags, launch};
use crate::cli::overrides::last_numbers;
use crate::config::ClassifyConfig;
use crate::error::Result;
use crate::ops::Caps;
use crate::train::{Classification, Job, Pictures};
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit finetune classify --model runs/pretrain-0001 --data photos        a pre-trained run, a folder per class
  beit finetune classify --model scratch --preset nano --data photos     the same without pre-training
  beit finetune classify --model beit-base/ --data photos --image-size 384
  beit finetune classify --model runs/classify-0001 --data other         intermediate fine-tuning: the command again
  beit finetune classify --resume                                        go on with the newest unfinished run";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunFlags,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    launch(args, &args.run)
}

impl Command for Args {
    type Config = ClassifyConfig;
    const CALL: &'static str = "finetune classify";
    fn merged(&self) -> Result<ClassifyConfig> {
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
        config: ClassifyConfig,
        pictures: Pictures,
        caps: &Caps,
        fresh: bool,
    ) -> Result<Box<dyn Job>> {
        let mut job = Classification::prepare(config, pictures, self.settings.image_size, fresh)?;
        if fresh {
            job.apply_epochs(self.settings.recipe.epochs, self.settings.warmup_epochs);
        }
        job.check(caps)?;
        Ok(Box::new(job))
    }
    fn print_result(&self, dir: &Path) -> Result<()> {
        let [top1, top5, loss] = last_numbers(dir, ["val_acc1", "val_acc5", "val_loss"])?;
        println!("held-out pictures: top-1 {top1:.4}, top-5 {top5:.4}, loss {loss:.4}");
        println!("by class: {}", dir.join("classes.json").display());
        println!("report: {}", dir.join(crate::runs::REPORT).display());
        Ok(())
    }
}
