//! `metrics.jsonl`: one JSON object a line, each with the `phase` and the `step` it belongs to.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::io::atomic;

/// The metrics file, open for appending.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
}

impl Metrics {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let file = opened.map_err(|e| Error::io("cannot open the metrics", path, &e))?;
        Ok(Metrics { file, path: path.to_owned() })
    }

    /// Adds a record, an object with at least `phase` (a string) and `step` (a whole number).
    pub fn append(&mut self, record: &Value) -> Result<()> {
        if place(record).is_none() {
            return Err(Error::data("metrics record without a place")
                .expected("phase and step")
                .got(record.to_string()));
        }
        // one write a line: a kill leaves whole lines or one torn last line, which reading drops
        let line = format!("{record}\n");
        self.file.write_all(line.as_bytes()).map_err(|e| Error::io("cannot write", &self.path, &e))
    }

    /// Makes the records durable; call it before a checkpoint is saved.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("cannot sync", &self.path, &e))
    }
}

/// All records of a metrics file; none if it does not exist. A torn last line is left out.
pub fn read_records(path: &Path) -> Result<Vec<Value>> {
    Ok(read_lines(path)?.into_iter().map(|(_, record)| record).collect())
}

/// Drops the records after `step` of `phase` and those of phases that follow it; returns how many lines went.
///
/// Phases follow each other in the file, so what stands before the first record of `phase` is earlier work and stays.
pub fn truncate_after(path: &Path, phase: &str, step: u64) -> Result<usize> {
    let Ok(before) = fs::read(path) else { return Ok(0) };
    let lines = read_lines(path)?;
    let mut seen = false;
    let mut kept = String::new();
    let mut dropped = 0;
    for (line, record) in &lines {
        let Some((its_phase, its_step)) = place(record) else { continue };
        seen |= its_phase == phase;
        let keep = if its_phase == phase { its_step <= step } else { !seen };
        if keep {
            kept.push_str(line);
            kept.push('\n');
        } else {
            dropped += 1;
        }
    }
    if kept.as_bytes() != before {
        atomic::write_file(path, kept.as_bytes())?;
    }
    Ok(dropped)
}

fn place(record: &Value) -> Option<(&str, u64)> {
    Some((record.get("phase")?.as_str()?, record.get("step")?.as_u64()?))
}

/// The lines as they stand, with their records.
fn read_lines(path: &Path) -> Result<Vec<(String, Value)>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("cannot read the metrics", path, &e)),
    };
    // only what ends in a line feed was written whole
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let record: Value = serde_json::from_str(line).map_err(|e| {
            Error::data("malformed metrics record")
                .at(format!("{}, line {}", path.display(), number + 1))
                .got(e.to_string())
                .hint("remove that line")
        })?;
        lines.push((line.to_owned(), record));
    }
    Ok(lines)
}
