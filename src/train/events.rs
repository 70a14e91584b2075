//! What a run tells its observers: typed messages; front ends ignore what they do not know.

use serde::Serialize;
use std::path::PathBuf;

/// Parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Training the tokenizer.
    Tokenizer,
    /// Masked pre-training.
    Pretrain,
}

impl Phase {
    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Tokenizer => "tokenizer",
            Phase::Pretrain => "pretrain",
        }
    }
}

/// A message of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A phase begins or goes on at `first` of `total` updates.
    Started {
        /// Which phase.
        phase: Phase,
        /// First update of this start.
        first: u64,
        /// All updates.
        total: u64,
    },
    /// Numbers of one update, in the order in which they are shown.
    Step {
        /// Which phase.
        phase: Phase,
        /// 1-based number of the update.
        step: u64,
        /// Name and value.
        metrics: Vec<(&'static str, f64)>,
        /// Images per second since the last message.
        images_per_second: f64,
    },
    /// Numbers on held-out pictures.
    Eval {
        /// Which phase.
        phase: Phase,
        /// Updates done.
        step: u64,
        /// Name and value.
        metrics: Vec<(&'static str, f64)>,
    },
    /// A picture was written.
    Picture {
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Its folder.
        path: PathBuf,
    },
    /// Something the user should know.
    Warning(String),
    /// Something the user may like to know.
    Note(String),
    /// The phase ended; `done` is false if it was stopped.
    Ended {
        /// Which phase.
        phase: Phase,
        /// Updates done.
        step: u64,
        /// Whether all updates were done.
        done: bool,
    },
}
