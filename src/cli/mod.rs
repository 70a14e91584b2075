//! The command line. One file per command; everything that prints is here.

#[macro_use]
mod stdout;

mod bench;
mod compare;
mod eval;
mod eval_segment;
mod export;
mod features;
mod finetune;
mod forward;
mod frozen;
mod gui;
mod import;
mod info;
mod launch;
mod model_files;
mod overrides;
mod plan;
mod predict;
mod predict_segment;
mod pretrain;
mod probe;
mod progress;
mod recipe_flags;
mod reconstruct;
mod runs;
mod settings;
mod tokenizer;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// BEiT pre-training of image transformers in WGSL compute shaders.
#[derive(Parser)]
#[command(name = "beit", version, about, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  beit pretrain                                 built-in pictures, preset nano: minutes on two CPU cores
  beit pretrain --data photos --preset micro    your own pictures
  beit finetune classify --model runs/pretrain-0001 --data photos   a folder per class
  beit pretrain --resume                        go on with the newest unfinished run
  beit compare                                  six methods, four tasks, one table
  beit reconstruct --model runs/pretrain-0001 --image cat.png --out sheet.png
  beit plan --preset base                       what one step would do and need
  beit info                                     adapters, and what would fit";

#[derive(Subcommand)]
enum Command {
    /// Train a tokenizer and a BEiT by masked image modelling
    Pretrain(Box<pretrain::Args>),
    /// Show what a model makes of hidden patches: pictures, tokens, confidence, attention
    Reconstruct(Box<reconstruct::Args>),
    /// Train a tokenizer, look at it, turn pictures into tokens
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Train a pre-trained or a fresh network on labels
    Finetune(finetune::Args),
    /// Pre-train by several methods, measure them all, and print the table
    Compare(Box<compare::Args>),
    /// Measure a classifier or segmenter on labelled pictures
    Eval(eval::Args),
    /// Labels with probabilities, or a class for every pixel, for pictures
    Predict(predict::Args),
    /// What the frozen features of every layer know about the classes
    Probe(probe::Args),
    /// Write the features of a frozen transformer to a file
    Features(features::Args),
    /// Show adapters, their limits, and which presets fit
    Info(info::Args),
    /// Show what one training step will do, before doing it: ops, dispatches, FLOPs, memory
    Plan(plan::Args),
    /// Time a training step and its kernels
    Bench(bench::Args),
    /// List run folders
    Runs(runs::Args),
    /// Open the window (the program beit-egui) on a model: masks, tokens, attention, training to watch
    Gui(gui::Args),
    /// Look at a model of any library, check it, take it over
    Import(import::Args),
    /// Run a model on given tensors, to compare its numbers with another program's
    Forward(forward::Args),
    /// Write a model for transformers, timm, the official code or OpenAI's dVAE
    Export(export::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Pretrain(args) => pretrain::run(&args),
        Command::Reconstruct(args) => reconstruct::run(&args),
        Command::Tokenizer(command) => tokenizer::run(&command),
        Command::Finetune(args) => finetune::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Probe(args) => probe::run(&args),
        Command::Features(args) => features::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Gui(args) => gui::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Forward(args) => forward::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
