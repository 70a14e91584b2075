//! `beit predict`: labels with probabilities, or a class for every pixel, for pictures.

use super::{eval_segment, predict_segment};
use crate::data::open;
use crate::device::Device;
use crate::error::Result;
use crate::inference::LoadedClassifier;
use crate::interop::{self, Want};
use crate::segmenter::is_segmenter;
use crate::tasks::ranking::top;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit predict --model runs/classify-0001 cat.jpg
  beit predict --model runs/classify-0001 photos/ --top 1 --json
  beit predict --model runs/segment-0001 photos/ --out seen     overlays with legends, and label maps";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A classifier or segmenter: a run or checkpoint folder, or a file of any known library
    #[arg(long, value_name = "RUN_OR_FILE")]
    model: PathBuf,
    /// A picture, a folder of pictures, or anything else that --data of other commands takes
    #[arg(value_name = "PICTURE_OR_FOLDER")]
    pictures: String,
    /// Labels to show for each picture
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Pictures of this side instead of the model's
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    image_size: Option<usize>,
    /// Share of the short side that is kept [default: the model's]
    #[arg(long, value_name = "X", default_value_t = 0.0, hide_default_value = true)]
    crop_pct: f64,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Folder of the results of a segmenter
    #[arg(long, value_name = "DIR", default_value = "predictions")]
    out: PathBuf,
    #[command(flatten)]
    segmenters: eval_segment::Flags,
}

/// Pictures in memory at a time.
const CHUNK: usize = 16;

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if is_segmenter(&args.model) {
        let task = predict_segment::Task {
            model: &args.model,
            pictures: &args.pictures,
            out: &args.out,
            top: args.top,
            adapter: args.adapter.as_deref(),
            json: args.json,
        };
        return predict_segment::run(&task, &args.segmenters);
    }
    let model = interop::open(&args.model, Want::Vit)?;
    let opened = open(&args.pictures, 0)?;
    let sources = [Some(opened.source), opened.held_out].into_iter().flatten();
    let device = Device::choose(args.adapter.as_deref())?.device;
    let all: usize = sources.clone().map(|s| s.len()).sum();
    let batch = CHUNK.min(all.max(1));
    let mut classifier =
        LoadedClassifier::new(device.session()?, &model, batch, args.image_size, args.crop_pct)?;
    let mut failed = 0;
    for source in sources {
        let indices: Vec<usize> = (0..source.len()).collect();
        for part in indices.chunks(CHUNK) {
            let (mut names, mut pictures) = (vec![], vec![]);
            for &i in part {
                match source.load(i) {
                    Ok(sample) => {
                        names.push(source.name(i));
                        pictures.push(sample.picture);
                    }
                    Err(e) => {
                        failed += 1;
                        eprintln!("warning: {e}");
                    }
                }
            }
            for (name, logits) in names.iter().zip(classifier.logits(&pictures)?) {
                show(args, name, &logits, classifier.classes());
            }
        }
    }
    Ok(if failed == all { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(args: &Args, name: &str, logits: &[f32], classes: &[String]) {
    let best = top(logits, args.top.max(1));
    if args.json {
        let labels: Vec<_> =
            best.iter().map(|&(c, p)| json!({"class": classes[c], "probability": p})).collect();
        println!("{}", json!({"picture": name, "labels": labels}));
    } else {
        let labels: Vec<String> = best.iter().map(|&(c, p)| format!("{} {p:.3}", classes[c])).collect();
        println!("{name}  {}", labels.join("  "));
    }
}
