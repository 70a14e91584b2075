//! `beit eval`: a classifier or segmenter measured on labelled pictures.

use super::eval_segment;
use super::launch::workers;
use crate::data::{BadSamples, Samples, Source, check_classes, open, with_classes};
use crate::device::Device;
use crate::error::Result;
use crate::inference::LoadedClassifier;
use crate::interop::{self, Want};
use crate::segmenter::is_segmenter;
use crate::tasks::ranking::Ranking;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const EXAMPLES: &str = "Examples:
  beit eval --model runs/classify-0001 --data photos          the held-out part that the data names, else all of it
  beit eval --model runs/classify-0001 --data photos --json   machine-readable, with every class
  beit eval --model runs/segment-0001 --data photos --labels maps --multi-scale";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A classifier or segmenter: a run or checkpoint folder, or a file of any known library
    #[arg(long, value_name = "RUN_OR_FILE")]
    model: PathBuf,
    /// Labelled pictures
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic")]
    data: String,
    /// Which part, where the data names several: held-out, train
    #[arg(long, value_name = "PART", default_value = "held-out", value_parser = ["held-out", "train"])]
    part: String,
    /// Pictures of this side instead of the model's; position tables are resampled
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    image_size: Option<usize>,
    /// Share of the short side that the evaluation crop keeps [default: the model's]
    #[arg(long, value_name = "X", default_value_t = 0.0, hide_default_value = true)]
    crop_pct: f64,
    /// Pictures per batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Seed of `synthetic`
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    segmenters: eval_segment::Flags,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if is_segmenter(&args.model) {
        let task = eval_segment::Task {
            model: &args.model,
            data: &args.data,
            held_out: args.part == "held-out",
            seed: args.seed,
            adapter: args.adapter.as_deref(),
            json: args.json,
        };
        return eval_segment::run(&task, &args.segmenters);
    }
    let model = interop::open(&args.model, Want::Vit)?;
    let opened = open(&args.data, args.seed)?;
    check_classes(opened.source.as_ref(), &args.data)?;
    let source = match opened.held_out {
        Some(held_out) if args.part == "held-out" => held_out,
        _ => opened.source,
    };
    let device = Device::choose(args.adapter.as_deref())?.device;
    let mut classifier = LoadedClassifier::new(
        device.session()?,
        &model,
        (args.batch_size as usize).min(source.len().max(1)),
        args.image_size,
        args.crop_pct,
    )?;
    let (source, note) = with_classes(source, classifier.classes(), &args.data)?;
    note.iter().for_each(|note| eprintln!("warning: {note}"));
    let bad = Arc::new(BadSamples::new(0.1));
    let samples = Samples::in_order(source.clone(), args.seed, bad.clone())?;
    let ranking = classifier.measure(samples, workers())?;
    let skipped = bad.report().bad;
    if args.json {
        println!("{:#}", as_json(&ranking, classifier.classes(), skipped));
    } else {
        show(&ranking, classifier.classes(), source.as_ref());
        if skipped > 0 {
            eprintln!("warning: {skipped} unreadable files were skipped");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::NAN } else { part as f64 / whole as f64 }
}

fn as_json(r: &Ranking, classes: &[String], skipped: usize) -> serde_json::Value {
    let row = |(name, c): (&String, &crate::tasks::ranking::ClassCounts)| {
        json!({
            "class": name, "count": c.count, "top1": c.top1, "top5": c.top5,
            "false_positives": c.false_positives, "recall": share(c.top1, c.count),
            "precision": share(c.top1, c.top1 + c.false_positives),
        })
    };
    let rows: Vec<_> = classes.iter().zip(r.classes()).map(row).collect();
    json!({
        "count": r.count(), "top1": r.top1(), "top5": r.top5(), "loss": r.loss(),
        "unreadable": skipped, "classes": rows,
    })
}

fn show(r: &Ranking, classes: &[String], source: &dyn Source) {
    println!("{} of {} pictures", r.count(), source.len());
    println!("top-1 {:.4}   top-5 {:.4}   loss {:.4}\n", r.top1(), r.top5(), r.loss());
    let width = classes.iter().map(|c| c.chars().count()).max().unwrap_or(5).clamp(5, 40);
    println!("{:width$}  pictures   recall  precision   top-5", "class");
    for (name, c) in classes.iter().zip(r.classes()) {
        let precision = share(c.top1, c.top1 + c.false_positives);
        println!(
            "{name:width$}  {:8}  {:7.4}    {precision:7.4}  {:6.4}",
            c.count,
            share(c.top1, c.count),
            share(c.top5, c.count)
        );
    }
}
