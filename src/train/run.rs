//! A pre-training run in a folder: tokenizer first (unless one is given), then masked pre-training, then the report.

use super::events::{Event, Phase};
use super::{phase_pretrain, phase_tokenizer, report};
use crate::config::RunConfig;
use crate::data::{BadSamples, Source, open, split};
use crate::error::{Error, Result};
use crate::io::checkpoint;
use crate::runs::{RunFolder, RunState};
use crate::session::Session;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the session of a phase; each phase has its own, so that nothing of the last one stays in memory.
pub type MakeSession<'a> = dyn FnMut() -> Result<Box<dyn Session>> + 'a;

/// Share of unreadable files at which a run stops.
const BAD_SHARE: f64 = 0.1;

/// A run under way.
pub struct Run<'a> {
    /// Its folder.
    pub folder: RunFolder,
    /// What it does.
    pub config: RunConfig,
    /// Training and held-out pictures.
    pub pictures: Pictures,
    /// Threads that prepare batches.
    pub workers: usize,
    make_session: &'a mut MakeSession<'a>,
    observer: &'a mut dyn FnMut(&Event),
    stop: Arc<AtomicBool>,
    left: Option<u64>,
}

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
    pub fn open(config: &RunConfig) -> Result<Pictures> {
        let all = open(&config.data, config.seed)?;
        let mut warnings = all.warnings;
        let (train, val) = match (config.val.as_str(), all.held_out) {
            ("", Some(held_out)) => (all.source, held_out),
            ("", None) => hold_out(&all.source, config, &mut warnings)?,
            (path, _) => {
                let held_out = open(path, config.seed)?;
                warnings.extend(held_out.warnings);
                (all.source, held_out.source)
            }
        };
        Ok(Pictures { train, val, bad: Arc::new(BadSamples::new(BAD_SHARE)), warnings })
    }
}

fn hold_out(
    all: &Arc<dyn Source>,
    config: &RunConfig,
    warnings: &mut Vec<String>,
) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    if all.len() < 2 || config.val_share == 0.0 {
        warnings
            .push("no held-out pictures: validation figures are measured on the training pictures".into());
        return Ok((all.clone(), all.clone()));
    }
    let share = config.val_share.max(1.5 / all.len() as f64).min(0.5);
    split(all.clone(), share, config.seed)
}

/// What [`Run::start`] needs beside the config.
pub struct RunOptions<'a> {
    /// A trained tokenizer: its checkpoint folder, its run folder, or a file.
    pub tokenizer: Option<&'a Path>,
    /// Threads that prepare batches.
    pub workers: usize,
    /// Stop in an orderly way after this many updates of this start.
    pub stop_after: Option<u64>,
    /// Set from outside to stop in an orderly way.
    pub stop: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All updates were done.
    Finished,
    /// It was stopped and can be resumed.
    Stopped,
}

impl<'a> Run<'a> {
    /// Prepares a run in a folder.
    pub fn new(
        folder: RunFolder,
        config: RunConfig,
        pictures: Pictures,
        options: &RunOptions<'_>,
        make_session: &'a mut MakeSession<'a>,
        observer: &'a mut dyn FnMut(&Event),
    ) -> Run<'a> {
        Run {
            folder,
            config,
            pictures,
            workers: options.workers,
            make_session,
            observer,
            stop: options.stop.clone(),
            left: options.stop_after,
        }
    }

    /// Trains until done or stopped.
    ///
    /// # Errors
    /// If data, device or disk fail, or training diverges; what was saved before stays.
    pub fn train(&mut self, options: &RunOptions<'_>) -> Result<Outcome> {
        for warning in self.pictures.warnings.clone() {
            self.tell(Event::Warning(warning));
        }
        let result = self.phases(options);
        let bad = self.pictures.bad.report();
        if bad.bad > 0 {
            let named: Vec<String> = bad.named.iter().map(|b| format!("{}: {}", b.name, b.reason)).collect();
            self.tell(Event::Warning(format!(
                "{} unreadable files were skipped: {}",
                bad.bad,
                named.join("; ")
            )));
        }
        result
    }

    fn phases(&mut self, options: &RunOptions<'_>) -> Result<Outcome> {
        let Some(tokenizer) = phase_tokenizer::run(self, options.tokenizer)? else {
            return self.stopped(Phase::Tokenizer);
        };
        if !phase_pretrain::run(self, &tokenizer)? {
            return self.stopped(Phase::Pretrain);
        }
        report::write(self)?;
        self.folder.write_status(RunState::Finished, Phase::Pretrain.name(), self.config.training.steps)?;
        Ok(Outcome::Finished)
    }

    fn stopped(&mut self, phase: Phase) -> Result<Outcome> {
        let step = self.newest_step(phase)?;
        report::write(self)?;
        self.folder.write_status(RunState::Stopped, phase.name(), step)?;
        Ok(Outcome::Stopped)
    }

    fn newest_step(&self, phase: Phase) -> Result<u64> {
        Ok(checkpoint::newest(&self.phase_dir(phase))?.0.map_or(0, |f| f.step))
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
    /// The folder that holds the checkpoints of a phase: the run's own for pre-training.
    pub fn phase_dir(&self, phase: Phase) -> PathBuf {
        match phase {
            Phase::Tokenizer => self.folder.dir().join("tokenizer"),
            Phase::Pretrain => self.folder.dir().to_path_buf(),
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
        checkpoint::prune(&dir, self.config.schedule.keep, best)?;
        Ok(path)
    }
    /// The newest sound checkpoint of a phase; damaged newer ones are reported.
    pub(super) fn newest(&mut self, phase: Phase) -> Result<Option<checkpoint::Found>> {
        let (found, rejected) = checkpoint::newest(&self.phase_dir(phase))?;
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
