//! `beit runs`: run folders, how far they are and how well they did.

use crate::error::{Error, Result};
use crate::runs::{METRICS, Status, read_records};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  beit runs --dir runs")]
pub struct Args {
    /// Folder that holds the runs
    #[arg(long, default_value = "runs", value_name = "DIR")]
    dir: PathBuf,
    /// One JSON object per run
    #[arg(long)]
    json: bool,
}

/// What is shown of a run's last evaluation, where it has it: name and key.
const ACCURACIES: [(&str, &str); 5] = [
    ("accuracy", "val_mlm_acc"),
    ("colours", "val_colour_acc"),
    ("pairs", "val_pair_acc"),
    ("top-1", "val_acc1"),
    ("mIoU", "val_miou"),
];

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.dir.exists() {
        eprintln!("no runs yet: there is no folder {}", args.dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let read = std::fs::read_dir(&args.dir).map_err(|e| Error::io("cannot list runs", &args.dir, &e))?;
    let mut dirs: Vec<PathBuf> =
        read.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir()).collect();
    dirs.sort();
    for dir in dirs {
        let Some(status) = Status::read(&dir)? else { continue };
        let records = read_records(&dir.join(METRICS)).unwrap_or_default();
        let loss = last(&records, "val_loss");
        let found = ACCURACIES.iter().filter_map(|(name, key)| Some((*name, *key, last(&records, key)?)));
        let found: Vec<(&str, &str, f64)> = found.collect();
        if args.json {
            let mut line =
                serde_json::json!({"run": dir.display().to_string(), "status": status, "val_loss": loss});
            found.iter().for_each(|(_, key, value)| line[*key] = (*value).into());
            println!("{line}");
        } else {
            let number = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.3}"));
            let accuracies: String = found.iter().map(|(name, _, v)| format!("  {name} {v:.3}")).collect();
            println!(
                "{}  {}: {:?} in {} at {}  held-out loss {}{accuracies}",
                dir.display(),
                status.task,
                status.state,
                status.phase,
                status.step,
                number(loss),
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn last(records: &[Value], key: &str) -> Option<f64> {
    records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64))
}

/// What a finished pre-training found, beside the numbers that it must be held against.
pub fn print_result(dir: &Path) -> Result<()> {
    let records = read_records(&dir.join(METRICS))?;
    if last(&records, "val_mlm_acc").is_some() {
        print_tokens(&records);
    } else {
        let found = FOUND.iter().filter_map(|(name, key)| Some((name, last(&records, key)?)));
        found.for_each(|(name, value)| println!("{name} {value:.4}"));
    }
    println!("report: {}", dir.join(crate::runs::REPORT).display());
    Ok(())
}

/// Figures of the other methods, each with what it must be held against behind it.
const FOUND: [(&str, &str); 15] = [
    ("held-out pictures: loss", "val_loss"),
    ("  variance of the pixels (guess of their mean)", "pixel_variance"),
    ("  the right flat colour for each patch", "flat_patch_mse"),
    ("  ln 512 (uniform guess)", "ln_v"),
    ("  entropy of the colours", "unigram_entropy"),
    ("  share of right colours", "val_colour_acc"),
    ("  share of the commonest colour", "commonest_share"),
    ("  top-1", "val_acc1"),
    ("  top-5", "val_acc5"),
    ("  entropy of the mean target (stays high)", "val_mean_entropy"),
    ("  mean entropy of the targets (falls)", "val_target_entropy"),
    ("  ln of the number of prototypes", "ln_k"),
    ("  pairs found", "val_pair_acc"),
    ("  spread of the keys (1 even, 0 collapsed)", "val_spread"),
    ("  loss of a uniform guess", "ln_pairs"),
];

fn print_tokens(records: &[Value]) {
    let get = |key: &str| last(records, key).unwrap_or(f64::NAN);
    println!("held-out pictures, predicted tokens:");
    println!("  loss {:.3} nat", get("val_loss"));
    println!("    ln V                  {:.3}  (uniform guess)", get("ln_v"));
    println!("    unigram entropy       {:.3}  (knows how common each token is)", get("unigram_entropy"));
    println!("    per-position entropy  {:.3}  (knows where the patch lies)", get("position_entropy"));
    if let Some(masked) = last(records, "masked_position_entropy") {
        println!("      of masked patches   {masked:.3}  (masks lie more in the middle)");
    }
    println!(
        "  accuracy {:.3}; share of the commonest token {:.3}",
        get("val_mlm_acc"),
        get("commonest_share")
    );
    // a tokenizer that was given has no figures of its training here
    let of_training = if last(records, "val_mae").is_none() {
        String::new()
    } else {
        format!(
            ", {:.0} ids in use, mean absolute error {:.4} (flat colour per picture {:.4}, per cell {:.4})",
            get("codes_used"),
            get("val_mae"),
            get("val_flat_picture_mae"),
            get("val_flat_mae")
        )
    };
    println!("tokenizer: codebook perplexity {:.1}{of_training}", get("perplexity"));
}
