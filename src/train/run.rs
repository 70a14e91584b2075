//! A run in a folder: what a job of any kind needs around its training loops.

use super::events::{Event, Phase};
use super::pictures::Pictures;
use super::report::{self, Story};
use super::state_json::StateJson;
use crate::config::Cadence;
use crate::error::{Error, Result};
use crate::io::checkpoint;
use crate::runs::{RunFolder, RunState};
use crate::session::Session;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the session of a phase; each phase has its own, so that nothing of the last one stays in memory.
pub type MakeSession<'a> = dyn FnMut() -> Result<Box<dyn Session>> + 'a;

/// What a run does: pre-training, fine-tuning, a probe.
pub trait Job {
    /// The pictures it works on.
    fn pictures(&self) -> &Pictures;
    /// The merged configuration, as it goes into the run folder.
    ///
    /// # Errors
    /// Never for a config that was checked.
    fn config(&self) -> Result<String>;
    /// When things are written.
    fn schedule(&self) -> &Cadence;
    /// Pictures of its largest batch.
    fn batch(&self) -> usize;
    /// Runs or resumes its phases in order, until done or stopped.
    ///
    /// # Errors
    /// If data, device or disk fail, or training diverges.
    fn phases(&mut self, run: &mut Run<'_>) -> Result<Stand>;
    /// What the report says beside the curves.
    fn story(&self, records: &[Value]) -> Story;
}

/// How far a job came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Whether it is done.
    pub outcome: Outcome,
    /// Its last phase so far.
    pub phase: Phase,
    /// Updates done in it.
    pub step: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All updates were done.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
}

/// What a [`Run`] needs beside its job.
pub struct RunOptions {
    /// Threads that prepare batches.
    pub workers: usize,
    /// Stop in an orderly way after this many updates of this start.
    pub stop_after: Option<u64>,
    /// Set from outside to stop in an orderly way.
    pub stop: Arc<AtomicBool>,
}

/// A run under way.
pub struct Run<'a> {
    /// Its folder.
    pub folder: RunFolder,
    /// When things are written.
    pub schedule: Cadence,
    /// Threads that prepare batches.
    pub workers: usize,
    make_session: &'a mut MakeSession<'a>,
    observer: &'a mut dyn FnMut(&Event),
    stop: Arc<AtomicBool>,
    left: Option<u64>,
}

impl<'a> Run<'a> {
    /// Prepares a run in a folder.
    pub fn new(
        folder: RunFolder,
        schedule: Cadence,
        options: &RunOptions,
        make_session: &'a mut MakeSession<'a>,
        observer: &'a mut dyn FnMut(&Event),
    ) -> Run<'a> {
        Run {
            folder,
            schedule,
            workers: options.workers,
            make_session,
            observer,
            stop: options.stop.clone(),
            left: options.stop_after,
        }
    }

    /// Works until done or stopped.
    ///
    /// # Errors
    /// If data, device or disk fail, or training diverges; what was saved before stays.
    pub fn work(&mut self, job: &mut dyn Job) -> Result<Outcome> {
        for warning in job.pictures().warnings.clone() {
            self.tell(Event::Warning(warning));
        }
        if let Some(repeats) = crate::data::samples::repeats(job.pictures().train.len(), job.batch()) {
            self.tell(Event::Warning(repeats));
        }
        let result = job.phases(self);
        if let Some(unreadable) = job.pictures().unreadable() {
            self.tell(Event::Warning(unreadable));
        }
        let Stand { outcome, phase, step } = result?;
        report::write(self, job)?;
        let state = match outcome {
            Outcome::Finished => RunState::Finished,
            Outcome::Stopped => RunState::Stopped,
        };
        self.folder.write_status(state, phase.name(), step)?;
        Ok(outcome)
    }

    /// Where a job stands that was stopped in `phase`.
    ///
    /// # Errors
    /// If the checkpoints cannot be listed.
    pub fn stopped(&self, phase: Phase) -> Result<Stand> {
        let step = checkpoint::newest(&self.phase_dir(phase))?.0.map_or(0, |f| f.step);
        Ok(Stand { outcome: Outcome::Stopped, phase, step })
    }

    /// A fresh session.
    ///
    /// # Errors
    /// If there is no device.
    pub fn session(&mut self) -> Result<Box<dyn Session>> {
        (self.make_session)()
    }
    /// Tells the observer.
    pub fn tell(&mut self, event: Event) {
        (self.observer)(&event);
    }
    /// Whether to stop before the next update.
    pub fn should_stop(&self) -> bool {
        self.left == Some(0) || self.stop.load(Ordering::Relaxed)
    }
    pub(super) fn count_step(&mut self) {
        self.left = self.left.map(|n| n.saturating_sub(1));
    }
    /// Seconds since 1970, for TensorBoard only.
    pub(super) fn wall_time(&self) -> f64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0.0, |d| d.as_secs_f64())
    }
    /// The folder that holds the checkpoints of a phase.
    pub fn phase_dir(&self, phase: Phase) -> PathBuf {
        match phase.folder() {
            "" => self.folder.dir().to_path_buf(),
            folder => self.folder.dir().join(folder),
        }
    }
    pub(super) fn save_checkpoint(
        &mut self,
        phase: Phase,
        step: u64,
        files: &[(String, Vec<u8>)],
        best: Option<u64>,
    ) -> Result<PathBuf> {
        let dir = self.phase_dir(phase);
        std::fs::create_dir_all(&dir).map_err(|e| Error::io("cannot create", &dir, &e))?;
        self.folder.check_space(files)?;
        let path = checkpoint::save(&dir, step, files)?;
        checkpoint::prune(&dir, self.schedule.keep, best)?;
        Ok(path)
    }
    /// The newest sound checkpoint of a phase; damaged newer ones are reported. What a killed start left behind goes
    /// first: half-written folders, and checkpoints that it saved but did not come to prune.
    pub(super) fn newest(&mut self, phase: Phase) -> Result<Option<checkpoint::Found>> {
        let dir = self.phase_dir(phase);
        checkpoint::sweep(&dir)?;
        let (found, rejected) = checkpoint::newest(&dir)?;
        if let Some(f) = &found
            && let Ok(state) = StateJson::parse(&f.read("state.json")?, "state.json")
        {
            checkpoint::prune(&dir, self.schedule.keep, state.best.map(|b| b.0))?;
        }
        for r in rejected {
            self.tell(Event::Warning(format!(
                "damaged checkpoint left aside: {}: {}",
                r.path.display(),
                r.reason
            )));
        }
        Ok(found)
    }
}
