//! From what a person types to a source.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cifar::{self, Cifar};
use super::folder::{self, extension, walk};
use super::labels::{Parts, by_folder, explicit_parts, strip_common};
use super::listing::{Entry, Listing};
use super::split::Subset;
use super::{Source, tar};
use crate::data::synthetic::SyntheticSource;
use crate::{Error, Result};

/// What can be opened, for messages.
const KINDS: &str = "synthetic, a folder, .tar shards, CIFAR .bin files or a picture file";
/// Most names that a pattern with braces may stand for.
const MOST_SHARDS: usize = 100_000;

/// An opened data set.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The pictures to train on.
    pub source: Arc<dyn Source>,
    /// Held-out pictures, where the data set comes with some (folders `train` and `val` or `test`, CIFAR's test file).
    pub held_out: Option<Arc<dyn Source>>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Opened {
    fn plain(source: impl Source + 'static) -> Self {
        Opened { source: Arc::new(source), held_out: None, warnings: Vec::new() }
    }
}

/// Opens `synthetic[:COUNT[:SIDE]]`, a folder, `.tar` shards (also `a-{000..099}.tar`), CIFAR files or a picture.
///
/// The seed matters to the built-in scenes only.
pub fn open(spec: &str, seed: u64) -> Result<Opened> {
    if spec == "synthetic" || spec.starts_with("synthetic:") {
        return SyntheticSource::parse(spec, seed).map(Opened::plain);
    }
    let path = Path::new(spec);
    if !path.exists() && spec.contains('{') {
        return open_shards(&expand(spec)?, spec);
    }
    if path.is_dir() {
        return open_folder(path, spec);
    }
    if !path.exists() {
        return Err(Error::data("no such file or folder").at(spec).expected(KINDS));
    }
    match extension(path).as_str() {
        "tar" => open_shards(&[path.into()], spec),
        "bin" => Cifar::open(&[path.into()]).map(Opened::plain),
        "gz" | "tgz" | "zst" | "xz" | "bz2" | "zip" => {
            let e = Error::data("compressed archive").at(spec).expected("an uncompressed .tar");
            Err(e.hint("unpack it first"))
        }
        _ => open_picture(path),
    }
}

/// A picture that is named on its own must be readable.
fn open_picture(path: &Path) -> Result<Opened> {
    let meta = std::fs::metadata(path).map_err(|e| Error::io("cannot read picture", path, &e))?;
    let listing = Listing::new(vec![folder::entry(path, meta.len(), &[])], Vec::new());
    listing.load(0)?;
    Ok(Opened::plain(listing))
}

fn open_folder(path: &Path, spec: &str) -> Result<Opened> {
    let mut found = walk(path)?;
    found.shards.sort();
    let mut opened = if !found.pictures.is_empty() {
        arrange(found.pictures)
    } else if !found.shards.is_empty() {
        open_shards(&found.shards, spec)?
    } else if !found.binaries.is_empty() {
        open_cifar(found.binaries)?
    } else {
        return Err(nothing_found(spec, found.others));
    };
    opened.warnings.splice(0..0, found.warnings);
    Ok(opened)
}

fn nothing_found(spec: &str, others: usize) -> Error {
    Error::data("no pictures found")
        .at(spec)
        .expected(
            ".png, .jpg, .jpeg, .webp, .gif or .bmp files at any depth (or .tar shards, or CIFAR .bin files)",
        )
        .got(if others == 0 { "no files".to_string() } else { format!("{others} other files") })
}

fn open_cifar(binaries: Vec<PathBuf>) -> Result<Opened> {
    let (train, test) = cifar::parts(binaries);
    if train.is_empty() || test.is_empty() {
        let all: Vec<_> = train.into_iter().chain(test).collect();
        return Cifar::open(&all).map(Opened::plain);
    }
    let held_out: Arc<dyn Source> = Arc::new(Cifar::open(&test)?);
    Ok(Opened { held_out: Some(held_out), ..Opened::plain(Cifar::open(&train)?) })
}

fn open_shards(paths: &[PathBuf], spec: &str) -> Result<Opened> {
    let missing: Vec<_> = paths.iter().filter(|p| !p.exists()).map(|p| p.display().to_string()).collect();
    if let Some(first) = missing.first() {
        let e = Error::data("missing archive").at(first.clone());
        return Err(e.got(format!("{} of {} archives missing", missing.len(), paths.len())));
    }
    let (mut entries, mut warnings) = (Vec::new(), Vec::new());
    for path in paths {
        let shard = tar::index(path)?;
        entries.extend(shard.entries);
        warnings.extend(shard.warnings);
    }
    if entries.is_empty() {
        let e = Error::data("no pictures found in archive").at(spec);
        return Err(e.expected("entries ending in .png, .jpg, .jpeg, .webp, .gif or .bmp"));
    }
    let mut opened = arrange(entries);
    opened.warnings.splice(0..0, warnings);
    Ok(opened)
}

/// Finds classes and an explicit split in the folders of the entries.
fn arrange(mut entries: Vec<Entry>) -> Opened {
    let mut warnings = Vec::new();
    drop_annotations(&mut entries, &mut warnings);
    let mut folders: Vec<_> = entries.iter().map(|e| e.folders.clone()).collect();
    strip_common(&mut folders);
    let parts = explicit_parts(&mut folders);
    let classes = label(&mut entries, &folders);
    let all: Arc<dyn Source> = Arc::new(Listing::new(entries, classes));
    let Some(Parts { train_name, held_out_name, train, held_out }) = parts else {
        return Opened { source: all, held_out: None, warnings };
    };
    let (n, m) = (train.len(), held_out.len());
    warnings.push(format!(
        "training on the {n} pictures in {train_name}/, holding out the {m} in {held_out_name}/"
    ));
    let held_out: Arc<dyn Source> = Arc::new(Subset::new(all.clone(), held_out));
    Opened { source: Arc::new(Subset::new(all, train)), held_out: Some(held_out), warnings }
}

/// In the layout of ADE20K the label maps are PNG files too; they are not pictures to train on.
fn drop_annotations(entries: &mut Vec<Entry>, warnings: &mut Vec<String>) {
    let within = |e: &Entry, name: &str| e.folders.iter().any(|f| f == name);
    if entries.iter().any(|e| within(e, "images")) && entries.iter().any(|e| within(e, "annotations")) {
        let before = entries.len();
        entries.retain(|e| !within(e, "annotations"));
        warnings
            .push(format!("{} label maps in annotations/ are not used as pictures", before - entries.len()));
    }
}

/// Labels that came with the pictures, or else one class per folder.
fn label(entries: &mut [Entry], folders: &[Vec<String>]) -> Vec<String> {
    if let Some(largest) = entries.iter().filter_map(|e| e.label).max() {
        return (0..=largest).map(|i| i.to_string()).collect();
    }
    let classes = by_folder(folders);
    for (entry, label) in entries.iter_mut().zip(classes.labels) {
        entry.label = label;
    }
    classes.names
}

/// Expands every `{first..last}`; as many digits as `first` is written with.
fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let wrong = || Error::config("wrong pattern").at(pattern).expected("a range such as {000..099}");
    let Some((before, rest)) = pattern.split_once('{') else { return Ok(vec![pattern.into()]) };
    let (range, after) = rest.split_once('}').ok_or_else(wrong)?;
    let (first, last) = range.split_once("..").ok_or_else(wrong)?;
    let number = |s: &str| s.parse::<usize>().map_err(|_| wrong());
    let (low, high) = (number(first)?, number(last)?);
    let mut all = Vec::new();
    if high < low || high - low >= MOST_SHARDS {
        return Err(wrong().got(format!("{{{range}}}")));
    }
    for i in low..=high {
        all.extend(expand(&format!("{before}{i:0width$}{after}", width = first.len()))?);
        if all.len() > MOST_SHARDS {
            return Err(wrong().got(format!("more than {MOST_SHARDS} names")));
        }
    }
    Ok(all)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
