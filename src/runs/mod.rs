//! Run folders: what a training run leaves behind, and how it is taken up again.
//!
//! ```text
//! runs/pretrain-0001/
//!   config.toml          the merged configuration
//!   status.json          running, stopped or finished; phase and step
//!   metrics.jsonl        one record a line, with "phase" and "step"
//!   tensorboard/PHASE/   event files
//!   checkpoints/         step-00000123/ and so on
//!   sheets/              contact sheets
//!   report.html          one page with curves and pictures
//!   run.lock             held while a process works here
//! ```
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod lock;
mod metrics;
pub mod report;
mod status;

pub use crate::pictures::sheet;

use std::fs;
use std::path::{Path, PathBuf};

pub use metrics::{Metrics, read_records, truncate_after};
pub use status::{RunState, Status};

use crate::error::{Error, Result};
use crate::io::{atomic, checkpoint, tboard::EventFile};
use crate::ops::KernelChoices;
use lock::RunLock;

/// File of the merged configuration.
pub const CONFIG: &str = "config.toml";
/// File of what was chosen for the kernels of the adapter.
pub const KERNELS: &str = "kernels.json";
/// File of the metrics.
pub const METRICS: &str = "metrics.jsonl";
/// File of the report page.
pub const REPORT: &str = "report.html";
/// Largest config file that is read, in bytes.
const CONFIG_BYTES: u64 = 1 << 20;

/// A run folder that this process holds exclusively until the value is dropped or the process ends.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
    task: String,
    serial: u64,
    _lock: RunLock,
}

impl RunFolder {
    /// Starts a run of a kind (`pretrain`, `classify` and so on) in `dir`, which must not exist or be empty.
    pub fn create(dir: &Path, task: &str) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io("cannot create the run folder", dir, &e))?;
        // locked before the folder is looked at, so that of two processes only one starts
        let lock = RunLock::acquire(dir)?;
        let foreign = |name: &str| name != lock::FILE && !atomic::is_leftover(name);
        if let Some((name, _)) = atomic::entries(dir)?.iter().find(|(name, _)| foreign(name)) {
            return Err(Error::config("the run folder is not empty")
                .at(dir.display().to_string())
                .expected("an empty or a new folder")
                .got(name.clone())
                .hint("go on with it by --resume, or choose another --out"));
        }
        Self::start(dir, task.to_owned(), lock)
    }

    /// Takes up an existing run.
    pub fn open(dir: &Path) -> Result<Self> {
        if !dir.join(CONFIG).is_file() {
            return Err(Error::config("not a run folder")
                .at(dir.display().to_string())
                .expected(format!("a folder with a {CONFIG}"))
                .hint("leave out --resume to start a new run"));
        }
        let lock = RunLock::acquire(dir)?;
        let task = Status::read(dir)?.map_or_else(|| "pretrain".to_owned(), |s| s.task);
        Self::start(dir, task, lock)
    }

    /// Starts a run in a fresh folder `base/task-NNNN`, numbered one above the highest there.
    pub fn new_default(base: &Path, task: &str) -> Result<Self> {
        fs::create_dir_all(base).map_err(|e| Error::io("cannot create", base, &e))?;
        let number_of = |name: &str| name.strip_prefix(task)?.strip_prefix('-')?.parse::<u32>().ok();
        let highest = atomic::entries(base)?.iter().filter_map(|(name, _)| number_of(name)).max();
        let mut number = highest.unwrap_or(0).saturating_add(1);
        loop {
            let dir = base.join(format!("{task}-{number:04}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Self::create(&dir, task),
                // another process was quicker
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number = number.saturating_add(1),
                Err(e) => return Err(Error::io("cannot create the run folder", &dir, &e)),
            }
        }
    }

    fn start(dir: &Path, task: String, lock: RunLock) -> Result<Self> {
        atomic::sweep(dir)?;
        checkpoint::sweep(dir)?;
        atomic::sweep(&dir.join("sheets"))?;
        let base = match dir.parent() {
            Some(base) if base != Path::new("") => base,
            _ => Path::new("."),
        };
        let serial = status::next_serial(base)?;
        Ok(RunFolder { dir: dir.to_owned(), task, serial, _lock: lock })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The kind of run.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Writes the merged configuration, TOML text.
    pub fn write_config(&self, text: &str) -> Result<()> {
        self.write(CONFIG, text.as_bytes())
    }

    /// The configuration that the run was started with, TOML text.
    pub fn read_config(&self) -> Result<String> {
        self.read_small(&self.dir.join(CONFIG))
    }

    /// A file that people may have edited.
    fn read_small(&self, path: &Path) -> Result<String> {
        let length = fs::metadata(path).map_err(|e| Error::io("cannot read", path, &e))?.len();
        if length > CONFIG_BYTES {
            return Err(Error::config("file of a run too large")
                .at(path.display().to_string())
                .expected(format!("at most {CONFIG_BYTES} bytes"))
                .got(length.to_string()));
        }
        fs::read_to_string(path).map_err(|e| Error::io("cannot read", path, &e))
    }

    /// Writes what was chosen for its kernels.
    pub fn write_kernels(&self, choices: &KernelChoices) -> Result<()> {
        let text = serde_json::to_string_pretty(choices)
            .map_err(|e| Error::config("choices of kernels").got(e.to_string()))?;
        self.write(KERNELS, text.as_bytes())
    }

    /// What was chosen for its kernels when it was started; `None` on the CPU.
    pub fn read_kernels(&self) -> Result<Option<KernelChoices>> {
        let path = self.dir.join(KERNELS);
        if !path.exists() {
            return Ok(None);
        }
        let text = self.read_small(&path)?;
        let choices = serde_json::from_str(&text);
        choices.map(Some).map_err(|e| {
            Error::config("damaged file of a run").at(path.display().to_string()).got(e.to_string())
        })
    }

    /// Writes where the run stands.
    pub fn write_status(&self, state: RunState, phase: &str, step: u64) -> Result<()> {
        let status =
            Status { state, task: self.task.clone(), phase: phase.to_owned(), step, serial: self.serial };
        self.write(status::FILE, status.to_json().as_bytes())
    }

    /// Where the run stood when it last said so.
    pub fn status(&self) -> Result<Option<Status>> {
        Status::read(&self.dir)
    }

    /// Opens the metrics for appending.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::open(&self.dir.join(METRICS))
    }

    /// All metrics so far.
    pub fn records(&self) -> Result<Vec<serde_json::Value>> {
        read_records(&self.dir.join(METRICS))
    }

    /// Drops the metrics after a step of a phase, and those of later phases; returns how many.
    /// With it a resumed run ends with the same metrics as one that never stopped.
    pub fn truncate_metrics_after(&self, phase: &str, step: u64) -> Result<usize> {
        truncate_after(&self.dir.join(METRICS), phase, step)
    }

    /// Starts a TensorBoard event file for a phase; `wall_time` in seconds since 1970.
    pub fn events(&self, phase: &str, wall_time: f64) -> Result<EventFile> {
        EventFile::create(&self.dir.join("tensorboard").join(phase), wall_time)
    }

    /// Refuses to start a save when the disk has less than 1.2 times its size left.
    pub fn check_space(&self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let size: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let needed = size + size / 5;
        // a file system that does not tell is given the benefit of the doubt: the write itself reports a full disk
        if let Ok(free) = fs4::available_space(&self.dir)
            && free < needed
        {
            return Err(Error::new(crate::ErrorKind::Io, "not enough space for a checkpoint")
                .at(self.dir.display().to_string())
                .expected(format!("{needed} bytes free"))
                .got(free.to_string()));
        }
        Ok(())
    }

    /// Saves a checkpoint of the run itself; see [`RunFolder::check_space`].
    pub fn save_checkpoint(&self, step: u64, files: &[(String, Vec<u8>)]) -> Result<PathBuf> {
        self.check_space(files)?;
        checkpoint::save(&self.dir, step, files)
    }

    /// Writes a file of the run durably; `name` may contain folders (`sheets/step-0100.png`).
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("cannot create", parent, &e))?;
        }
        atomic::write_file(&path, bytes)
    }
}

/// The unfinished run of a kind under `base` that was started or taken up last. No clock is asked: every start is
/// numbered.
pub fn newest_unfinished(base: &Path, task: &str) -> Result<Option<PathBuf>> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for (_, dir) in atomic::entries(base)? {
        // a folder whose status cannot be read is not a run to go on with
        let Ok(Some(status)) = Status::read(&dir) else { continue };
        let later = newest.as_ref().is_none_or(|(serial, _)| status.serial >= *serial);
        if status.state != RunState::Finished && status.task == task && later {
            newest = Some((status.serial, dir));
        }
    }
    Ok(newest.map(|(_, dir)| dir))
}

#[cfg(test)]
mod tests;
