//! `report.html`: the run on one page, beside the numbers to hold it against.

use super::events::Phase;
use super::run::{Job, Run};
use crate::error::Result;
use crate::runs::report::{Reference, Report, ReportPicture};
use serde_json::Value;

/// What a job adds to the curves of its report.
#[derive(Debug, Clone, Default)]
pub struct Story {
    /// Headline.
    pub title: String,
    /// One line under it.
    pub subtitle: String,
    /// Figures for the top of the page: label and value.
    pub facts: Vec<(String, String)>,
    /// Numbers to compare with.
    pub references: Vec<Reference>,
    /// Contact sheets to show, the newest of each phase: phase, title, caption.
    pub sheets: Vec<(Phase, &'static str, &'static str)>,
}

/// Writes the report of a run as it stands.
///
/// # Errors
/// If files of the run cannot be read or written.
pub fn write(run: &mut Run<'_>, job: &dyn Job) -> Result<()> {
    let records = run.folder.records()?;
    let config = run.folder.read_config()?;
    let mut story = job.story(&records);
    story.facts.push(("training pictures".into(), job.pictures().train.len().to_string()));
    story.facts.push(("held-out pictures".into(), job.pictures().val.len().to_string()));
    let pictures = newest_sheets(run, &story)?;
    let shown: Vec<ReportPicture<'_>> =
        pictures.iter().map(|(title, caption, png)| ReportPicture { title, caption, png }).collect();
    let report = Report {
        title: &story.title,
        subtitle: &story.subtitle,
        facts: &story.facts,
        records: &records,
        references: &story.references,
        pictures: &shown,
        config: &config,
    };
    run.folder.write(crate::runs::REPORT, report.to_html().as_bytes())
}

/// The last value of a key.
pub fn last(records: &[Value], key: &str) -> Option<f64> {
    records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64))
}

/// The last values of keys, where there are any, with three decimals.
pub fn last_facts(records: &[Value], keys: &[(&str, &str)]) -> Vec<(String, String)> {
    let fact = |(name, key): &(&str, &str)| Some(((*name).into(), format!("{:.3}", last(records, key)?)));
    keys.iter().filter_map(fact).collect()
}

/// A number to compare with; `chart` is where it is drawn as a line.
pub fn reference(name: &str, value: f64, explanation: &str, chart: Option<&str>) -> Reference {
    Reference { name: name.into(), value, explanation: explanation.into(), chart: chart.map(String::from) }
}

/// Title, caption and bytes of the newest sheet of each phase.
fn newest_sheets(run: &Run<'_>, story: &Story) -> Result<Vec<(&'static str, &'static str, Vec<u8>)>> {
    let dir = run.folder.dir().join("sheets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .map(|d| d.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.sort();
    let mut sheets = Vec::new();
    for &(phase, title, caption) in &story.sheets {
        let of_phase = |n: &&String| n.strip_prefix(phase.name()).is_some_and(|rest| rest.starts_with('-'));
        if let Some(name) = names.iter().rev().find(of_phase) {
            let path = dir.join(name);
            let png = std::fs::read(&path).map_err(|e| crate::Error::io("cannot read", &path, &e))?;
            sheets.push((title, caption, png));
        }
    }
    Ok(sheets)
}
