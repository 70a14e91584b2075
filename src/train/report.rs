//! `report.html`: the run on one page, beside the numbers to hold it against.

use super::run::Run;
use crate::error::Result;
use crate::runs::report::{Reference, Report, ReportPicture};
use serde_json::Value;

/// Writes the report of a run as it stands.
///
/// # Errors
/// If files of the run cannot be read or written.
pub fn write(run: &mut Run<'_>) -> Result<()> {
    let records = run.folder.records()?;
    let config = run.folder.read_config()?;
    let pictures = newest_sheets(run)?;
    let shown: Vec<ReportPicture<'_>> =
        pictures.iter().map(|(title, caption, png)| ReportPicture { title, caption, png }).collect();
    let facts = facts(run, &records);
    let report = Report {
        title: "BEiT pre-training",
        subtitle: &format!("preset {}, data {}", run.config.preset, run.config.data),
        facts: &facts,
        records: &records,
        references: &references(run, &records),
        pictures: &shown,
        config: &config,
    };
    run.folder.write(crate::runs::REPORT, report.to_html().as_bytes())
}

fn last(records: &[Value], key: &str) -> Option<f64> {
    records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64))
}

fn facts(run: &Run<'_>, records: &[Value]) -> Vec<(String, String)> {
    let keys = [
        ("held-out loss", "val_loss"),
        ("held-out accuracy", "val_mlm_acc"),
        ("tokenizer: mean absolute error", "val_mae"),
        ("tokenizer: ids in use", "codes_used"),
        ("codebook perplexity", "perplexity"),
    ];
    let mut facts: Vec<(String, String)> = keys
        .iter()
        .filter_map(|(name, key)| last(records, key).map(|v| ((*name).into(), format!("{v:.3}"))))
        .collect();
    facts.push(("training pictures".into(), run.pictures.train.len().to_string()));
    facts.push(("held-out pictures".into(), run.pictures.val.len().to_string()));
    facts
}

fn references(run: &Run<'_>, records: &[Value]) -> Vec<Reference> {
    let reference = |name: &str, value: f64, explanation: &str, chart: Option<&str>| Reference {
        name: name.into(),
        value,
        explanation: explanation.into(),
        chart: chart.map(String::from),
    };
    let mut all = vec![reference(
        "ln V",
        (run.config.model.vocab as f64).ln(),
        "loss of a uniform guess; where every run starts",
        Some("pretrain/loss"),
    )];
    let measured = [
        (
            "unigram entropy",
            "unigram_entropy",
            "best loss of a model that knows only how common each token is",
            Some("pretrain/loss"),
        ),
        (
            "per-position entropy",
            "position_entropy",
            "best loss of a model that knows only where a patch lies",
            Some("pretrain/loss"),
        ),
        (
            "commonest token",
            "commonest_share",
            "accuracy of always guessing the commonest token",
            Some("pretrain/accuracy"),
        ),
        (
            "flat colour",
            "val_flat_mae",
            "mean absolute error if every cell were its mean colour",
            Some("tokenizer/error"),
        ),
    ];
    for (name, key, explanation, chart) in measured {
        if let Some(value) = last(records, key) {
            all.push(reference(name, value, explanation, chart));
        }
    }
    let published =
        "the authors' own base run on ImageNet-1K after 300 epochs, 8192 ids: another task, another size";
    all.push(reference("published loss", 6.2994, published, None));
    all.push(reference("published accuracy", 0.0496, published, None));
    all
}

/// Title, caption and bytes of the newest sheet of each phase.
fn newest_sheets(run: &Run<'_>) -> Result<Vec<(String, String, Vec<u8>)>> {
    let dir = run.folder.dir().join("sheets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .map(|d| d.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    let mut sheets = Vec::new();
    for (phase, title, caption) in [
        (
            "pretrain",
            "Masked pre-training",
            "held-out pictures: hidden patches are filled with the decoded predictions",
        ),
        ("tokenizer", "Tokenizer", "held-out pictures and what is left of them in their tokens"),
    ] {
        if let Some(name) = names.iter().rev().find(|n| n.starts_with(phase)) {
            let path = dir.join(name);
            let png = std::fs::read(&path).map_err(|e| crate::Error::io("cannot read", &path, &e))?;
            sheets.push((title.to_string(), caption.to_string(), png));
        }
    }
    Ok(sheets)
}
