//! `beit probe`: how much the frozen features of every layer know about the classes.

use super::frozen::FrozenFlags;
use crate::error::{Error, Result};
use crate::inference::knn::{self, KnnOptions, Labelled};
use crate::inference::linear::{self, LinearOptions};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(clap::Subcommand)]
enum Kind {
    /// One linear classifier for each layer, on class token and mean of the patches
    Linear(LinearArgs),
    /// The votes of the nearest training pictures
    Knn(KnnArgs),
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  beit probe linear --model runs/pretrain-0001 --data photos")]
struct LinearArgs {
    #[command(flatten)]
    frozen: FrozenFlags,
    /// Passes over the training features
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    epochs: u64,
    /// Peak learning rate
    #[arg(long, value_name = "X", default_value_t = 4e-3)]
    lr: f64,
    /// Features per update
    #[arg(long, value_name = "N", default_value_t = 1024)]
    probe_batch: usize,
    /// Decoupled weight decay
    #[arg(long, value_name = "X", default_value_t = 1e-4)]
    weight_decay: f64,
    /// Bring every feature to mean 0 and deviation 1 first
    #[arg(long)]
    standardize: bool,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  beit probe knn --model runs/pretrain-0001 --data photos --k 20")]
struct KnnArgs {
    #[command(flatten)]
    frozen: FrozenFlags,
    /// Neighbours that vote
    #[arg(long, value_name = "N", default_value_t = 20)]
    k: usize,
    /// Temperature of their weights
    #[arg(long, value_name = "X", default_value_t = 0.07)]
    temperature: f64,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.kind {
        Kind::Linear(args) => linear_probe(args),
        Kind::Knn(args) => knn_probe(args),
    }
}

fn positive(flag: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::config("wrong value").at(flag).expected("a number above 0").got(value.to_string()))
}

fn linear_probe(args: &LinearArgs) -> Result<ExitCode> {
    positive("--lr", args.lr)?;
    let frozen = args.frozen.labelled()?;
    let options = LinearOptions {
        epochs: args.epochs,
        lr: args.lr,
        batch: args.probe_batch,
        weight_decay: args.weight_decay,
        standardize: args.standardize,
        ..LinearOptions::paper(frozen.classes.len(), args.frozen.seed)
    };
    let found = linear::probe(frozen.device.session()?, &frozen.train, &frozen.test, &options)?;
    if !args.json {
        println!("{} training and {} held-out pictures", frozen.train.len(), frozen.test.len());
        println!("layer   top-1   top-5    loss");
    }
    for (layer, r) in found.iter().enumerate() {
        if args.json {
            let (top1, top5, loss) = (r.top1(), r.top5(), r.loss());
            println!("{}", json!({"layer": layer + 1, "top1": top1, "top5": top5, "loss": loss}));
        } else {
            println!("{:5}  {:6.4}  {:6.4}  {:6.4}", layer + 1, r.top1(), r.top5(), r.loss());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn knn_probe(args: &KnnArgs) -> Result<ExitCode> {
    positive("--temperature", args.temperature)?;
    if args.k == 0 {
        return Err(Error::config("wrong value").at("--k").expected("1 or more").got("0"));
    }
    let frozen = args.frozen.labelled()?;
    let all = |labels: &[Option<u32>]| labels.iter().copied().collect::<Option<Vec<u32>>>();
    let (Some(labels), Some(wanted)) = (all(&frozen.train.labels), all(&frozen.test.labels)) else {
        return Err(Error::data("pictures without labels").at(args.frozen.data.clone()));
    };
    let options = KnnOptions { k: args.k, temperature: args.temperature, classes: frozen.classes.len() };
    if !args.json {
        println!("{} training and {} held-out pictures", frozen.train.len(), frozen.test.len());
        println!("layer   class token   mean of patches");
    }
    for layer in 0..frozen.train.cls.len() {
        let accuracy = |known: &[f32], queries: &[f32]| -> Result<f64> {
            let known = Labelled { features: known, labels: &labels, width: frozen.train.width };
            Ok(knn::accuracy(&knn::classify(known, queries, options)?, &wanted))
        };
        let cls = accuracy(&frozen.train.cls[layer], &frozen.test.cls[layer])?;
        let mean = accuracy(&frozen.train.mean[layer], &frozen.test.mean[layer])?;
        if args.json {
            println!("{}", json!({"layer": layer + 1, "cls": cls, "mean": mean, "k": args.k}));
        } else {
            println!("{:5}        {cls:6.4}            {mean:6.4}", layer + 1);
        }
    }
    Ok(ExitCode::SUCCESS)
}
