//! Checkpoints: `checkpoints/step-00000123/`, one folder per saved step, each with a manifest that covers every byte.
//!
//! There is no pointer to the newest one that could be torn: the newest folder whose manifest verifies is the newest.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::atomic;
use crate::error::{Error, Result};

/// Name of the manifest in a checkpoint.
pub const MANIFEST: &str = "MANIFEST.json";
/// Folder of the checkpoints in a run folder.
pub const CHECKPOINTS: &str = "checkpoints";
/// Version of the folder's layout; a later one is refused with a message.
const FORMAT: u32 = 1;
/// Largest manifest that is read, in bytes.
const MANIFEST_BYTES: u64 = 1 << 20;

/// Length and hash of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// What a checkpoint consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the folder's layout.
    pub format: u32,
    /// Version of the crate that wrote it.
    pub version: String,
    /// Training step after which it was saved.
    pub step: u64,
    /// The files by name.
    pub files: BTreeMap<String, FileRecord>,
    /// SHA-256 of this manifest with this field empty: it guards the manifest itself.
    pub sha256: String,
}

/// A checkpoint that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its folder.
    pub dir: PathBuf,
    /// Training step after which it was saved.
    pub step: u64,
    /// Its verified manifest.
    pub manifest: Manifest,
}

/// A checkpoint that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its folder.
    pub path: PathBuf,
    /// What is wrong, in one line.
    pub reason: String,
}

impl Found {
    /// Reads one of its files, verifying length and hash again.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let record = self.manifest.files.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.manifest.files.keys().map(String::as_str).collect();
            Error::checkpoint("checkpoint lacks a file")
                .at(self.dir.join(name).display().to_string())
                .expected(format!("one of {}", known.join(", ")))
        })?;
        read_verified(&self.dir, name, record)
    }
    /// Whether it has a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.manifest.files.contains_key(name)
    }
}

/// The checkpoint in a folder; its files are verified as they are read.
///
/// # Errors
/// If its manifest is missing or damaged.
pub fn at(dir: &Path) -> Result<Found> {
    let manifest = read_manifest(dir)?;
    Ok(Found { dir: dir.to_path_buf(), step: manifest.step, manifest })
}

/// Folder of the checkpoint of a step.
pub fn step_dir(run_dir: &Path, step: u64) -> PathBuf {
    run_dir.join(CHECKPOINTS).join(format!("step-{step:08}"))
}

/// Saves a checkpoint and returns its folder; when this returns, it is on the disk.
///
/// Saving the same bytes for the same step again does nothing. A damaged folder in the way is replaced;
/// a sound one with other content is never overwritten.
pub fn save(run_dir: &Path, step: u64, files: &[(String, Vec<u8>)]) -> Result<PathBuf> {
    let manifest = manifest_of(step, files)?;
    let dir = step_dir(run_dir, step);
    let parent = run_dir.join(CHECKPOINTS);
    if !parent.is_dir() {
        fs::create_dir_all(&parent).map_err(|e| Error::io("cannot create", &parent, &e))?;
        atomic::sync_dir(run_dir)?;
    }
    if fs::symlink_metadata(&dir).is_ok() {
        match verify(&dir) {
            Ok(present) if present == manifest => return Ok(dir),
            Ok(_) => {
                return Err(
                    Error::checkpoint("another checkpoint of this step exists").at(dir.display().to_string())
                );
            }
            Err(_) => atomic::remove_folder(&dir)?,
        }
    }
    let text = canonical(&manifest);
    let mut all: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    all.push((MANIFEST, text.as_bytes()));
    atomic::write_folder(&dir, &all)?;
    Ok(dir)
}

/// Reads every byte of a checkpoint and compares it with the manifest.
pub fn verify(dir: &Path) -> Result<Manifest> {
    let manifest = read_manifest(dir)?;
    for (name, record) in &manifest.files {
        read_verified(dir, name, record)?;
    }
    Ok(manifest)
}

/// The newest checkpoint that verifies, if any, and the newer ones that do not.
pub fn newest(run_dir: &Path) -> Result<(Option<Found>, Vec<Rejected>)> {
    let mut rejected = Vec::new();
    for (_, dir) in step_dirs(run_dir)?.into_iter().rev() {
        match verify(&dir) {
            Ok(manifest) => return Ok((Some(Found { dir, step: manifest.step, manifest }), rejected)),
            Err(e) => rejected.push(Rejected { path: dir, reason: e.to_string() }),
        }
    }
    Ok((None, rejected))
}

/// The checkpoint of one step.
pub fn of_step(run_dir: &Path, step: u64) -> Result<Found> {
    let dir = step_dir(run_dir, step);
    let manifest = verify(&dir)?;
    Ok(Found { dir, step, manifest })
}

/// Deletes all but the `keep_last` newest sound checkpoints and the best one; returns the deleted folders.
///
/// At least two are kept, and they are read again first, so that one bad sector never takes the only good copy.
/// Damaged folders newer than the oldest kept one are left for a person to look at.
pub fn prune(run_dir: &Path, keep_last: usize, best: Option<u64>) -> Result<Vec<PathBuf>> {
    if keep_last < 2 {
        return Err(Error::config("too few checkpoints kept")
            .expected("2 or more")
            .got(keep_last.to_string()));
    }
    let mut sound = 0;
    let mut removed = Vec::new();
    for (step, dir) in step_dirs(run_dir)?.into_iter().rev() {
        if sound < keep_last {
            sound += usize::from(verify(&dir).is_ok());
        } else if best != Some(step) {
            atomic::remove_folder(&dir)?;
            removed.push(dir);
        }
    }
    Ok(removed)
}

/// Removes leftovers of killed saves and deletions; call it at start, under the run's lock.
pub fn sweep(run_dir: &Path) -> Result<Vec<PathBuf>> {
    atomic::sweep(&run_dir.join(CHECKPOINTS))
}

/// Folders named like checkpoints, oldest first.
fn step_dirs(run_dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut dirs: Vec<(u64, PathBuf)> = atomic::entries(&run_dir.join(CHECKPOINTS))?
        .into_iter()
        .filter_map(|(name, path)| Some((step_of(&name)?, path)))
        .collect();
    dirs.sort();
    Ok(dirs)
}

/// `step-00000123` → 123; other spellings of a number are not ours.
fn step_of(name: &str) -> Option<u64> {
    let step: u64 = name.strip_prefix("step-")?.parse().ok()?;
    (name == format!("step-{step:08}")).then_some(step)
}

fn manifest_of(step: u64, files: &[(String, Vec<u8>)]) -> Result<Manifest> {
    let mut records = BTreeMap::new();
    for (name, bytes) in files {
        let record = FileRecord { bytes: bytes.len() as u64, sha256: sha256_hex(bytes) };
        let taken = name == MANIFEST || records.insert(name.clone(), record).is_some();
        if taken || !atomic::is_plain_name(name) {
            return Err(Error::checkpoint("file name not allowed in a checkpoint")
                .at(name.escape_debug().to_string()));
        }
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut manifest = Manifest { format: FORMAT, version, step, files: records, sha256: String::new() };
    manifest.sha256 = sha256_hex(canonical(&manifest).as_bytes());
    Ok(manifest)
}

/// The one text of a manifest; a file that differs from it in any byte is damaged.
fn canonical(manifest: &Manifest) -> String {
    // plain numbers, strings and string-keyed maps always serialise
    let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
    text.push('\n');
    text
}

fn read_manifest(dir: &Path) -> Result<Manifest> {
    let path = dir.join(MANIFEST);
    let bytes = read_regular(&path, MANIFEST_BYTES)?;
    let damaged = |why: String| Error::checkpoint("damaged manifest").at(path.display().to_string()).got(why);
    // the version first, loosely: a later one may have other fields
    let format =
        serde_json::from_slice::<serde_json::Value>(&bytes).ok().and_then(|v| v.get("format")?.as_u64());
    if format.is_some_and(|format| format != u64::from(FORMAT)) {
        return Err(Error::checkpoint("checkpoint of another format, or a damaged manifest")
            .at(path.display().to_string())
            .expected(format!("format {FORMAT}"))
            .got(format!("{}", format.unwrap_or_default())));
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut unsigned = manifest.clone();
    unsigned.sha256.clear();
    if canonical(&manifest).as_bytes() != bytes
        || sha256_hex(canonical(&unsigned).as_bytes()) != manifest.sha256
    {
        return Err(damaged("its hash does not match".into()));
    }
    let name = dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if step_of(name).is_some_and(|step| step != manifest.step) {
        return Err(damaged(format!("it is of step {}", manifest.step)));
    }
    if let Some(bad) = manifest.files.keys().find(|name| !atomic::is_plain_name(name)) {
        return Err(damaged(format!("file name {}", bad.escape_debug())));
    }
    Ok(manifest)
}

fn read_verified(dir: &Path, name: &str, record: &FileRecord) -> Result<Vec<u8>> {
    let path = dir.join(name);
    let bytes = read_regular(&path, record.bytes)?;
    let damaged = || Error::checkpoint("damaged file in a checkpoint").at(path.display().to_string());
    if bytes.len() as u64 != record.bytes {
        return Err(damaged().expected(format!("{} bytes", record.bytes)).got(bytes.len().to_string()));
    }
    let sha256 = sha256_hex(&bytes);
    if sha256 != record.sha256 {
        return Err(damaged().expected(format!("SHA-256 {}", record.sha256)).got(sha256));
    }
    Ok(bytes)
}

/// A regular file of at most `limit` bytes; links and devices are not followed.
fn read_regular(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let about = fs::symlink_metadata(path).map_err(|e| Error::io("cannot read", path, &e))?;
    let refuse = |what: &str| Error::checkpoint(what).at(path.display().to_string());
    if !about.is_file() {
        return Err(refuse("not a regular file"));
    }
    if about.len() > limit {
        return Err(refuse("file too long").expected(format!("{limit} bytes")).got(about.len().to_string()));
    }
    fs::read(path).map_err(|e| Error::io("cannot read", path, &e))
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
