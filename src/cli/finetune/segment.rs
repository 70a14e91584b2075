//! `beit finetune segment`.

use crate::cli::launch::{Command, RunFlags, launch};
use crate::cli::overrides::{any_given, from_preset, last_numbers, set, with_file};
use crate::cli::recipe_flags::{RecipeFlags, set_recipe};
use crate::config::{SegmentConfig, TaskConfig, segment_preset};
use crate::error::Result;
use crate::models::segmenter::SegmentHead;
use crate::models::setr::SetrConfig;
use crate::ops::Caps;
use crate::train::{Job, Pictures, Segmentation};
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit finetune segment --model runs/pretrain-0001                   a pre-trained run, built-in scenes with exact maps
  beit finetune segment --model scratch --data photos --labels maps  two folders, files of the same names
  beit finetune segment --preset base --model beit-base/ --data ADEChallengeData2016 --reduce-zero-label
  beit finetune segment --head setr-pup --model runs/pretrain-0001   the decoder of the paper's own table
  beit finetune segment --resume                                     go on with the newest unfinished run";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunFlags,
}

/// Flags that change the config. Preset first, then the file, then flags.
#[derive(clap::Args, Debug, Clone, Default)]
struct Settings {
    #[command(flatten)]
    recipe: RecipeFlags,
    /// What the weights start from: a run or checkpoint folder, a file of any known library, or `scratch`
    #[arg(long, visible_alias = "finetune", value_name = "RUN_OR_FILE|scratch")]
    model: Option<String>,
    /// Complete set of values to start from: nano, micro, tiny, small, base, large [default: nano]
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// Pictures: a folder (with images/ and annotations/ or the like in it, or with --labels), or `synthetic`
    #[arg(long, visible_alias = "data-path", value_name = "DIR|synthetic")]
    data: Option<String>,
    /// Label maps: PNG files whose grey values or palette indices are the classes
    #[arg(long, value_name = "DIR")]
    labels: Option<String>,
    /// Held-out pictures [default: the part that the data names, or a share]
    #[arg(long, visible_alias = "eval-data-path", value_name = "DIR")]
    val: Option<String>,
    /// Label maps of the held-out pictures
    #[arg(long, value_name = "DIR")]
    val_labels: Option<String>,
    /// 0 in a label map means unlabelled, class k is stored as k + 1 (ADE20K)
    #[arg(long)]
    reduce_zero_label: bool,
    /// Number of classes [default: as many as names or label maps say]
    #[arg(long, visible_alias = "nb-classes", value_name = "N")]
    classes: Option<usize>,
    /// A file with the name of a class on every line
    #[arg(long, value_name = "FILE")]
    class_names: Option<String>,
    /// Decoder: upernet or setr-pup
    #[arg(long, value_name = "NAME", value_parser = ["upernet", "setr-pup"])]
    head: Option<String>,
    /// Side of a crop in pixels
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    image_size: Option<usize>,
    /// Factor of the learning rate from one block to the one below it
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    layer_decay: Option<f64>,
    /// Do not change colours
    #[arg(long)]
    no_photometric: bool,
    /// Train on so many pictures only, drawn at random
    #[arg(long, value_name = "N")]
    train_images: Option<usize>,
    /// Held-out pictures that are looked at in an evaluation, at most
    #[arg(long, value_name = "N")]
    val_images: Option<usize>,
}

impl Settings {
    fn given(&self) -> bool {
        let mut without = self.clone();
        without.recipe.save_every = None;
        any_given(&without)
    }

    fn merged(&self) -> Result<SegmentConfig> {
        let mut c =
            with_file(from_preset(self.preset.as_ref(), segment_preset)?, self.recipe.config.as_ref())?;
        self.apply(&mut c);
        c.check()?;
        Ok(c)
    }

    fn apply(&self, c: &mut SegmentConfig) {
        set_recipe!(c, &self.recipe);
        set(&mut c.start, &self.model);
        set(&mut c.data, &self.data);
        set(&mut c.labels, &self.labels);
        set(&mut c.val, &self.val);
        set(&mut c.val_labels, &self.val_labels);
        set(&mut c.classes, &self.classes);
        set(&mut c.class_names, &self.class_names);
        set(&mut c.training.layer_decay, &self.layer_decay);
        set(&mut c.val_images, &self.val_images);
        set(&mut c.train_images, &self.train_images);
        c.reduce_zero_label |= self.reduce_zero_label;
        c.augment.photometric &= !self.no_photometric;
        if let Some(side) = self.image_size {
            c.model.image = (side, side);
        }
        if self.head.as_deref() == Some("setr-pup") {
            // 256 channels beside the 768 of a base model
            c.head = SegmentHead::SetrPup(SetrConfig {
                channels: (c.model.width / 3).clamp(16, 256),
                ..SetrConfig::default()
            });
        }
        self.recipe.shorten_warmup(&mut c.training.warmup, c.training.steps, 10);
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    launch(args, &args.run)
}

impl Command for Args {
    type Config = SegmentConfig;
    const CALL: &'static str = "finetune segment";
    fn merged(&self) -> Result<SegmentConfig> {
        self.settings.merged()
    }
    fn given(&self) -> bool {
        self.settings.given()
    }
    fn save_every(&self) -> Option<u64> {
        self.settings.recipe.save_every
    }
    fn pictures(&self, config: &SegmentConfig) -> Result<Pictures> {
        Segmentation::pictures(config)
    }
    fn job(
        &self,
        config: SegmentConfig,
        pictures: Pictures,
        caps: &Caps,
        fresh: bool,
    ) -> Result<Box<dyn Job>> {
        let mut job = Segmentation::prepare(config, pictures, self.settings.image_size, fresh)?;
        if fresh {
            job.apply_epochs(self.settings.recipe.epochs);
        }
        job.check(caps)?;
        Ok(Box::new(job))
    }
    fn print_result(&self, dir: &Path) -> Result<()> {
        let [miou, macc, aacc] = last_numbers(dir, ["val_miou", "val_macc", "val_aacc"])?;
        println!("held-out pictures: mIoU {miou:.4}, mean accuracy {macc:.4}, pixel accuracy {aacc:.4}");
        println!("by class: {}", dir.join("classes.json").display());
        println!("report: {}", dir.join(crate::runs::REPORT).display());
        Ok(())
    }
}
