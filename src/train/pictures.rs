//! Training and held-out pictures of a run.

use crate::config::DataChoice;
use crate::data::{BadSamples, Source, open, split};
use crate::error::Result;
use std::sync::Arc;

/// Share of unreadable files at which a run stops.
pub(super) const BAD_SHARE: f64 = 0.1;

/// Training and held-out pictures.
#[derive(Clone)]
pub struct Pictures {
    /// To train on.
    pub train: Arc<dyn Source>,
    /// To measure on.
    pub val: Arc<dyn Source>,
    /// Files that could not be read.
    pub bad: Arc<BadSamples>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Pictures {
    /// Opens what a config names.
    ///
    /// # Errors
    /// If there are no pictures.
    pub fn open(choice: &DataChoice<'_>) -> Result<Pictures> {
        let all = open(choice.data, choice.seed)?;
        let mut warnings = all.warnings;
        let (train, val) = match (choice.val, all.held_out) {
            ("", Some(held_out)) => (all.source, held_out),
            ("", None) => hold_out(&all.source, choice, &mut warnings)?,
            (path, _) => {
                let held_out = open(path, choice.seed)?;
                warnings.extend(held_out.warnings);
                (all.source, held_out.source)
            }
        };
        Ok(Pictures { train, val, bad: Arc::new(BadSamples::new(BAD_SHARE)), warnings })
    }

    /// One line about the files that could not be read, if there were any.
    pub fn unreadable(&self) -> Option<String> {
        let bad = self.bad.report();
        let named: Vec<String> = bad.named.iter().map(|b| format!("{}: {}", b.name, b.reason)).collect();
        (bad.bad > 0).then(|| format!("unreadable files skipped: {}: {}", bad.bad, named.join("; ")))
    }
}

fn hold_out(
    all: &Arc<dyn Source>,
    choice: &DataChoice<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    if all.len() < 2 || choice.val_share == 0.0 {
        warnings
            .push("no held-out pictures: validation figures are measured on the training pictures".into());
        return Ok((all.clone(), all.clone()));
    }
    split(all.clone(), choice.val_share, choice.seed)
}
