//! The part of `beit eval` that measures segmenters.

use crate::data::segment::{SegmentChoice, open_segments};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::segmenter::{Loaded, table_json};
use crate::tasks::sliding::Slide;
use std::path::Path;
use std::process::ExitCode;

/// Flags for segmenters.
#[derive(clap::Args, Debug, Clone, Default)]
#[command(next_help_heading = "Segmenters")]
pub struct Flags {
    /// Label maps of the pictures in --data: PNG files whose grey values or palette indices are the classes
    #[arg(long, value_name = "DIR")]
    pub labels: Option<String>,
    /// 0 in a label map means unlabelled, class k is stored as k + 1 (ADE20K)
    #[arg(long)]
    pub reduce_zero_label: bool,
    /// Six scales and mirror images, as in the published multi-scale figures
    #[arg(long)]
    pub multi_scale: bool,
    /// Distance of neighbouring windows as a share of their side [default: 2/3]
    #[arg(long, value_name = "X")]
    pub stride: Option<f64>,
}

impl Flags {
    /// How pictures are segmented: as while training, unless flags say otherwise.
    ///
    /// # Errors
    /// If a value cannot work.
    pub fn slide(&self, trained: &Slide) -> Result<Slide> {
        let mut slide = if self.multi_scale { Slide::multi_scale() } else { trained.clone() };
        if let Some(stride) = self.stride {
            slide.stride = stride;
        }
        slide.check()?;
        Ok(slide)
    }
}

/// What is measured.
pub struct Task<'a> {
    /// The segmenter.
    pub model: &'a Path,
    /// Labelled pictures.
    pub data: &'a str,
    /// The held-out part, or the one to train on.
    pub held_out: bool,
    /// Seed of `synthetic`.
    pub seed: u64,
    /// Part of an adapter's name.
    pub adapter: Option<&'a str>,
    /// Machine-readable.
    pub json: bool,
}

/// Measures a segmenter on labelled pictures.
///
/// # Errors
/// If model, pictures or label maps cannot be used together.
pub fn run(task: &Task<'_>, flags: &Flags) -> Result<ExitCode> {
    let device = Device::choose(task.adapter)?.device;
    let mut model = Loaded::open(task.model, device.session()?)?;
    let names = model.description.names.clone();
    let synthetic = task.data == "synthetic" || task.data.starts_with("synthetic:");
    let pictures = open_segments(&SegmentChoice {
        data: task.data,
        labels: flags.labels.as_deref().unwrap_or(""),
        val: "",
        val_labels: "",
        // Scenes are split as in training; of folders everything is measured unless they name a held-out part.
        val_share: if synthetic { 0.05 } else { 0.0 },
        seed: task.seed,
        reduce_zero: flags.reduce_zero_label,
        classes: if synthetic { 0 } else { names.len() },
        class_names: "",
    })?;
    if pictures.names.len() != names.len() {
        return Err(Error::data("pictures of another number of classes than the model")
            .at(task.data)
            .expected(names.len().to_string())
            .got(pictures.names.len().to_string()));
    }
    let source = if task.held_out { pictures.val } else { pictures.train };
    let slide = flags.slide(&model.description.slide)?;
    let counts = model.measure(source.as_ref(), &slide, |text| eprintln!("{text}"))?;
    if task.json {
        println!("{:#}", table_json(&counts, &names));
        return Ok(ExitCode::SUCCESS);
    }
    let q = counts.quality();
    println!("{} pictures, {} pixels counted, {} ignored", source.len(), q.pixels_counted, q.pixels_ignored);
    println!("mIoU {:.4}   mAcc {:.4}   aAcc {:.4}   mDice {:.4}\n", q.miou, q.m_acc, q.a_acc, q.m_dice);
    let width = names.iter().map(|n| n.chars().count()).max().unwrap_or(5).clamp(5, 40);
    println!("{:width$}      IoU      Acc     Dice    labelled   predicted", "class");
    let ratio = |r: Option<f64>| r.map_or("      -".to_string(), |r| format!("{r:7.4}"));
    for (name, c) in names.iter().zip(counts.per_class()) {
        println!(
            "{name:width$}  {}  {}  {}  {:10}  {:10}",
            ratio(c.iou),
            ratio(c.accuracy),
            ratio(c.dice),
            c.labelled,
            c.predicted
        );
    }
    Ok(ExitCode::SUCCESS)
}
