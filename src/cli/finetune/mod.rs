//! `beit finetune`: end-to-end training on a task with labels.

mod classify;
mod segment;
mod settings;

use crate::error::Result;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Train a classifier
    Classify(Box<classify::Args>),
    /// Train a segmenter: a class for every pixel
    Segment(Box<segment::Args>),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.task {
        Task::Classify(args) => classify::run(args),
        Task::Segment(args) => segment::run(args),
    }
}
