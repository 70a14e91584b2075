//! `status.json`: whether a run is finished, and how far it is.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::io::atomic;

pub(super) const FILE: &str = "status.json";
/// Largest status file that is read, in bytes.
const FILE_BYTES: u64 = 1 << 16;

/// State of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Being trained, or killed while it was.
    Running,
    /// Stopped in an orderly way before its end.
    Stopped,
    /// Done.
    Finished,
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Running, stopped or finished.
    pub state: RunState,
    /// Kind of run: `pretrain`, `classify` and so on.
    #[serde(default = "pretrain")]
    pub task: String,
    /// Part of the run: `tokenizer`, `pretrain` and so on.
    pub phase: String,
    /// Step within the phase.
    pub step: u64,
    /// Counts the starts of all runs beside this one, in place of a clock.
    #[serde(default)]
    pub serial: u64,
}

/// Files written before there were other kinds.
fn pretrain() -> String {
    "pretrain".into()
}

impl Status {
    pub(super) fn to_json(&self) -> String {
        // numbers and strings always serialise
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads the status of the run in `dir`; nothing if it has none.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        match fs::metadata(&path) {
            Ok(about) if about.is_file() && about.len() <= FILE_BYTES => {}
            Ok(_) => return Err(Error::data("not a status file").at(path.display().to_string())),
            Err(_) => return Ok(None),
        }
        let bytes = fs::read(&path).map_err(|e| Error::io("cannot read", &path, &e))?;
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::data("malformed status file").at(path.display().to_string()).got(e.to_string())
        })
    }
}

/// One above the highest serial of the runs in `base`.
pub(super) fn next_serial(base: &Path) -> Result<u64> {
    let serials =
        atomic::entries(base)?.into_iter().filter_map(|(_, dir)| Some(Status::read(&dir).ok()??.serial));
    Ok(serials.max().unwrap_or(0).saturating_add(1))
}
