//! Which files belong to a model: from what the user names to weights and the configs beside them.

use super::Want;
use crate::error::{Error, Result};
use crate::io::checkpoint::{self, CHECKPOINTS, MANIFEST};
use std::path::{Path, PathBuf};

/// Weights of a transformer in a folder, best first.
const VIT: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Weights of a tokenizer in a checkpoint of ours.
const TOKENIZER: &str = "tokenizer.safetensors";
/// Ends of the names of weight files.
pub(super) const ENDINGS: [&str; 6] = ["safetensors", "pth", "pt", "bin", "pkl", "ckpt"];

/// The files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The weights, or the index of their shards.
    pub weights: PathBuf,
    /// The decoder's weights, where a dVAE comes in two files and `weights` is its encoder.
    pub decoder: Option<PathBuf>,
    /// Folder whose manifest vouches for the files.
    pub checkpoint: Option<PathBuf>,
}

impl Found {
    fn one(weights: PathBuf) -> Self {
        Found { weights, decoder: None, checkpoint: None }
    }
    /// A file beside the weights, if it is there.
    pub fn beside(&self, name: &str) -> Option<PathBuf> {
        let path = self.weights.with_file_name(name);
        path.is_file().then_some(path)
    }
}

/// Finds the files.
pub(super) fn find(path: &Path, want: Want) -> Result<Found> {
    let about = std::fs::metadata(path).map_err(|e| Error::io("cannot read the model", path, &e))?;
    if !about.is_dir() {
        return Ok(dvae_halves(path).unwrap_or_else(|| Found::one(path.to_path_buf())));
    }
    if want != Want::Tokenizer
        && let Some(found) = vit_in(path)?
    {
        return Ok(found);
    }
    if want != Want::Vit
        && let Some(found) = dvae_in(path)?
    {
        return Ok(found);
    }
    only_file_in(path, want)
}

fn vit_in(dir: &Path) -> Result<Option<Found>> {
    if let Some(name) = VIT.into_iter().find(|name| dir.join(name).is_file()) {
        // a tokenizer that was imported or exported lies under the same file name
        let weights = dir.join(name);
        return Ok(Some(Found { checkpoint: manifest_in(dir), ..Found::one(weights) }));
    }
    let has = |found: &checkpoint::Found| VIT.into_iter().find(|name| found.has(name));
    let newest = if dir.join(CHECKPOINTS).is_dir() { newest(dir)? } else { None };
    Ok(newest.and_then(|found| {
        let name = has(&found)?;
        Some(Found { checkpoint: Some(found.dir.clone()), ..Found::one(found.dir.join(name)) })
    }))
}

fn dvae_in(dir: &Path) -> Result<Option<Found>> {
    if dir.join(TOKENIZER).is_file() {
        return Ok(Some(Found { checkpoint: manifest_in(dir), ..Found::one(dir.join(TOKENIZER)) }));
    }
    if let Some(found) = ENDINGS.into_iter().find_map(|end| dvae_halves(&dir.join(format!("encoder.{end}"))))
    {
        return Ok(Some(found));
    }
    for run in [dir.join("tokenizer"), dir.to_path_buf()] {
        if run.join(CHECKPOINTS).is_dir()
            && let Some(found) = newest(&run)?.filter(|found| found.has(TOKENIZER))
        {
            return Ok(Some(Found {
                checkpoint: Some(found.dir.clone()),
                ..Found::one(found.dir.join(TOKENIZER))
            }));
        }
    }
    Ok(None)
}

fn manifest_in(dir: &Path) -> Option<PathBuf> {
    dir.join(MANIFEST).is_file().then(|| dir.to_path_buf())
}

/// The newest sound checkpoint; an error if there are some and none is sound.
fn newest(run: &Path) -> Result<Option<checkpoint::Found>> {
    let (found, rejected) = checkpoint::newest(run)?;
    match (found, rejected.into_iter().next()) {
        (None, Some(bad)) => Err(Error::checkpoint("no sound checkpoint in the run folder")
            .at(bad.path.display().to_string())
            .got(bad.reason)),
        (found, _) => Ok(found),
    }
}

/// `encoder.pkl` and its `decoder.pkl`, named by either.
fn dvae_halves(path: &Path) -> Option<Found> {
    let (stem, end) = (path.file_stem()?.to_str()?, path.extension()?.to_str()?);
    if !matches!(stem, "encoder" | "decoder") {
        return None;
    }
    let (encoder, decoder) =
        (path.with_file_name(format!("encoder.{end}")), path.with_file_name(format!("decoder.{end}")));
    (encoder.is_file() && decoder.is_file()).then(|| Found { decoder: Some(decoder), ..Found::one(encoder) })
}

/// The only weight file of a folder.
fn only_file_in(dir: &Path, want: Want) -> Result<Found> {
    let mut files = Vec::new();
    for (name, path) in crate::io::atomic::entries(dir)? {
        let end = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default();
        if ENDINGS.contains(&end) && path.is_file() {
            files.push((name, path));
        }
    }
    let (looked_for, what) = match want {
        Want::Tokenizer => {
            (format!("{TOKENIZER}, encoder.* with decoder.*, or a run's {CHECKPOINTS}/"), "tokenizer")
        }
        _ => (format!("{}, or a run's {CHECKPOINTS}/", VIT.join(", ")), "model"),
    };
    match files.as_slice() {
        [(_, path)] => Ok(Found::one(path.clone())),
        [] => Err(Error::data(format!("no {what} found")).at(dir.display().to_string()).expected(looked_for)),
        many => {
            let names: Vec<String> = many.iter().map(|(name, _)| name.clone()).collect();
            Err(Error::data(format!("more than one weight file and none is the {what}"))
                .at(dir.display().to_string())
                .expected(looked_for)
                .got(crate::io::fit::list(&names))
                .hint("name the file"))
        }
    }
}
