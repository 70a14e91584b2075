//! What a run tells its observers: typed messages; front ends ignore what they do not know.

use std::path::PathBuf;

/// A part of a run: one training loop with metrics and checkpoints of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phase {
    name: &'static str,
    doing: &'static str,
    folder: &'static str,
}

impl Phase {
    /// Training the tokenizer.
    pub const TOKENIZER: Phase =
        Phase { name: "tokenizer", doing: "training the tokenizer", folder: "tokenizer" };
    /// Pre-training of the transformer.
    pub const PRETRAIN: Phase = Phase::new("pretrain", "pre-training");

    /// A phase whose checkpoints are the run's own; `doing` is said when it starts.
    pub const fn new(name: &'static str, doing: &'static str) -> Phase {
        Phase { name, doing, folder: "" }
    }
    /// Name in files and records.
    pub fn name(self) -> &'static str {
        self.name
    }
    /// What it does, for people.
    pub fn doing(self) -> &'static str {
        self.doing
    }
    /// Folder of its checkpoints below the run's; empty = the run's own.
    pub fn folder(self) -> &'static str {
        self.folder
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
