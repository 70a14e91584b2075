//! The walk through a folder: sorted, at any depth, without hidden and special files, safe against link loops.

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::PICTURE_EXTENSIONS;
use super::listing::Entry;
use crate::{Error, Result};

/// Deeper folders are an error: no data set is laid out like that.
const DEEPEST: usize = 64;
/// More files than any data set that fits one folder.
const MOST_FILES: usize = 10_000_000;

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Found {
    /// Picture files in sorted order.
    pub pictures: Vec<Entry>,
    /// Tar archives.
    pub shards: Vec<PathBuf>,
    /// Files of the CIFAR kind (by their extension).
    pub binaries: Vec<PathBuf>,
    /// Other visible files.
    pub others: usize,
    /// Sub-folders that could not be read, with the reason.
    pub warnings: Vec<String>,
    seen: BTreeSet<PathBuf>,
}

/// The extension in lower case, or nothing.
pub fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Lists everything below `root`.
pub fn walk(root: &Path) -> Result<Found> {
    let mut found = Found::default();
    // Only the opened folder itself must be readable.
    fs::read_dir(root).map_err(|e| Error::io("cannot read folder", root, &e))?;
    visit(root, &mut Vec::new(), &mut found)?;
    Ok(found)
}

fn visit(dir: &Path, folders: &mut Vec<String>, found: &mut Found) -> Result<()> {
    if folders.len() > DEEPEST {
        return Err(
            Error::data(format!("folders nested more than {DEEPEST} deep")).at(dir.display().to_string())
        );
    }
    let listed = fs::canonicalize(dir).and_then(|real| Ok((real, fs::read_dir(dir)?)));
    let (real, list) = match listed {
        Ok(listed) => listed,
        Err(e) => {
            found.warnings.push(format!("folder {} cannot be read: {e}", dir.display()));
            return Ok(());
        }
    };
    // A link back to a folder above, or a second link to the same one, adds nothing.
    if !found.seen.insert(real) {
        return Ok(());
    }
    let mut entries: Vec<DirEntry> = list.filter_map(|e| e.ok()).filter(|e| !hidden(e)).collect();
    entries.sort_by_key(|e| e.file_name());
    for entry in entries {
        visit_entry(&entry.path(), folders, found)?;
    }
    Ok(())
}

fn hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().first() == Some(&b'.')
}

fn visit_entry(path: &Path, folders: &mut Vec<String>, found: &mut Found) -> Result<()> {
    // Follows links; a dangling one and special files (pipes, devices) count as nothing.
    let Ok(meta) = fs::metadata(path) else { return Ok(()) };
    if meta.is_dir() {
        folders.push(path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default());
        let result = visit(path, folders, found);
        folders.pop();
        return result;
    }
    if !meta.is_file() {
        return Ok(());
    }
    match extension(path).as_str() {
        e if PICTURE_EXTENSIONS.contains(&e) => found.pictures.push(entry(path, meta.len(), folders)),
        "tar" => found.shards.push(path.into()),
        "bin" => found.binaries.push(path.into()),
        _ => found.others += 1,
    }
    if found.pictures.len() > MOST_FILES {
        return Err(Error::data("too many files")
            .at(path.display().to_string())
            .expected(format!("{MOST_FILES}")));
    }
    Ok(())
}

/// A picture file as an entry.
pub fn entry(path: &Path, size: u64, folders: &[String]) -> Entry {
    Entry {
        name: path.display().to_string(),
        folders: folders.to_vec(),
        file: Arc::new(path.into()),
        offset: 0,
        size,
        label: None,
    }
}
