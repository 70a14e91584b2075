//! `beit tokenizer`: train, encode, reconstruct, stats.

mod encode;
mod reconstruct;
mod stats;
mod train;

use crate::data::{Picture, Source, open};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::models::mim::TOKENIZER;
use crate::session::Session;
use crate::train::{Tokenizer, page_bytes, trained_side};
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Cells on a side of a picture where nothing says how large the tokenizer's pictures are (beit-spec §1).
const CELLS: usize = 14;

#[derive(Subcommand)]
pub enum Command {
    /// Train a tokenizer
    Train(Box<train::Args>),
    /// Turn pictures into token ids: a NumPy or safetensors file and an index
    Encode(encode::Args),
    /// Show what is left of pictures in their tokens
    Reconstruct(reconstruct::Args),
    /// Measure the codebook: usage, perplexity, errors, and draw what each id decodes to
    Stats(stats::Args),
}

/// Runs a command.
pub fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Train(args) => train::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Reconstruct(args) => reconstruct::run(args),
        Command::Stats(args) => stats::run(args),
    }
}

/// Which tokenizer, where it runs, how large its pictures are.
#[derive(clap::Args)]
pub struct Choice {
    /// The tokenizer: a run folder, a checkpoint folder or a weights file
    #[arg(long, value_name = "RUN_OR_FILE")]
    tokenizer: PathBuf,
    /// Side of its pictures in pixels; of a VQ-KD tokenizer no other works [default: as it was trained, else 14 cells]
    #[arg(long, value_name = "N")]
    size: Option<usize>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
}

/// A tokenizer in a session.
pub struct Loaded {
    pub tokenizer: Tokenizer,
    pub session: Box<dyn Session>,
    /// Side of its pictures in pixels.
    pub side: usize,
}

impl Choice {
    /// Opens and loads it.
    ///
    /// # Errors
    /// If there is none, or the side does not fit its cells.
    pub fn load(&self) -> Result<Loaded> {
        let device = Device::choose(self.adapter.as_deref())?.device;
        let tokenizer = Tokenizer::open(&self.tokenizer, page_bytes(&device.caps()))?;
        let cell = tokenizer.config.stride();
        let own = tokenizer.config.fixed_grid().map(|grid| grid.0 * cell);
        let known = own.or_else(|| trained_side(&self.tokenizer)).unwrap_or(CELLS * cell);
        let side = self.size.unwrap_or(known);
        if side == 0 || side % cell != 0 || side > 8192 {
            return Err(Error::config("picture side does not fit the tokenizer")
                .at("--size")
                .expected(format!("a multiple of its cells of {cell} pixels, up to 8192"))
                .got(side.to_string()));
        }
        tokenizer.config.check_grid((side / cell, side / cell)).map_err(|e| e.at("--size"))?;
        let mut session = device.session()?;
        session.add_store(&tokenizer.layout, &[PageKind::Param])?;
        for (p, page) in tokenizer.pages.iter().enumerate() {
            session.write_page(TOKENIZER, PageKind::Param, p, page)?;
        }
        Ok(Loaded { tokenizer, session, side })
    }
}

impl Loaded {
    /// Rows and columns of ids.
    pub fn grid(&self) -> (usize, usize) {
        let n = self.side / self.tokenizer.config.stride();
        (n, n)
    }
}

/// Sets of pictures.
pub type Sources = Vec<Arc<dyn Source>>;

/// All pictures that a person names, training and held-out ones.
///
/// # Errors
/// If there are none.
pub fn pictures(spec: &str, seed: u64) -> Result<(Sources, Vec<String>)> {
    let opened = open(spec, seed)?;
    Ok((std::iter::once(opened.source).chain(opened.held_out).collect(), opened.warnings))
}

/// The readable ones of the first `most` pictures with their names; unreadable ones are named in a warning.
///
/// # Errors
/// If none can be read.
pub fn readable(sources: &[Arc<dyn Source>], most: usize) -> Result<Vec<(String, Picture)>> {
    let all = sources.iter().flat_map(|s| (0..s.len()).map(move |i| (s, i)));
    let (mut found, mut bad) = (Vec::new(), 0);
    for (source, i) in all.take(most) {
        match source.load(i) {
            Ok(sample) => found.push((source.name(i), sample.picture)),
            Err(e) => {
                bad += 1;
                eprintln!("warning: skipped {}: {e}", source.name(i));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::data("none of the pictures can be read").got(format!("{bad} unreadable")));
    }
    Ok(found)
}

/// The last part of a name.
pub fn own_name(name: &str) -> &str {
    Path::new(name).file_name().and_then(|n| n.to_str()).unwrap_or(name)
}
