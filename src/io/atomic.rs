//! Durable writes: a reader sees the old content or the new, also after a kill or a power cut.
//!
//! The order is the same everywhere: create under a temporary name that must not exist, write, sync the file,
//! rename, sync the folder. Only then is the write reported as done.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Prefix of folders that are about to be deleted.
const TRASH: &str = ".trash-";
/// End of temporary names, which start with a dot.
const TEMP: &str = ".tmp";
/// How many temporary names are tried; earlier ones are taken by what a killed process left.
const ATTEMPTS: u32 = 64;

/// Replaces or creates a file.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let (temp, file) = create_temp(path, |temp| OpenOptions::new().write(true).create_new(true).open(temp))?;
    let done = fill(file, &temp, bytes).and_then(|()| rename(&temp, path));
    if done.is_err() {
        let _ = fs::remove_file(&temp); // best effort: the sweep at the next start removes it otherwise
    }
    done?;
    sync_parent(path)
}

/// Creates a folder with all of its files at once. The folder must not exist yet; names are plain file names.
pub fn write_folder(path: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    if let Some((name, _)) = files.iter().find(|(name, _)| !is_plain_name(name)) {
        return Err(
            Error::new(crate::ErrorKind::Io, "file name not allowed").at(name.escape_debug().to_string())
        );
    }
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::new(crate::ErrorKind::Io, "folder exists already").at(path.display().to_string()));
    }
    let (temp, ()) = create_temp(path, |temp| fs::create_dir(temp))?;
    let done = fill_folder(&temp, files).and_then(|()| rename(&temp, path));
    if done.is_err() {
        let _ = fs::remove_dir_all(&temp); // best effort, as above
    }
    done?;
    sync_parent(path)
}

/// Deletes a folder so that no reader finds it half deleted: it is first renamed out of sight.
pub fn remove_folder(path: &Path) -> Result<()> {
    let name = file_name(path)?;
    for attempt in 0..ATTEMPTS {
        let trash = path.with_file_name(format!("{TRASH}{name}.{attempt}"));
        if fs::symlink_metadata(&trash).is_ok() {
            continue;
        }
        rename(path, &trash)?;
        sync_parent(path)?;
        return fs::remove_dir_all(&trash).map_err(|e| Error::io("cannot delete", &trash, &e));
    }
    Err(Error::new(crate::ErrorKind::Io, "too many half-deleted folders").at(path.display().to_string()))
}

/// Removes what killed processes left in `dir`: temporary files and folders, and trash. Returns their paths.
///
/// Call it only while holding the run's lock, so that no other process is writing there. Links are removed,
/// never followed. A folder that does not exist has nothing to sweep.
pub fn sweep(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for (name, path) in entries(dir)? {
        if !is_leftover(&name) {
            continue;
        }
        let kind = fs::symlink_metadata(&path).map_err(|e| Error::io("cannot look at", &path, &e))?;
        let done = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        done.map_err(|e| Error::io("cannot delete a leftover", &path, &e))?;
        removed.push(path);
    }
    Ok(removed)
}

/// Names and paths in a folder, sorted; names that are not UTF-8 are none of ours and left out.
pub(crate) fn entries(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let listing = match fs::read_dir(dir) {
        Ok(listing) => listing,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("cannot list", dir, &e)),
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|e| Error::io("cannot list", dir, &e))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name is one that this module gives to unfinished or half-deleted things.
pub(crate) fn is_leftover(name: &str) -> bool {
    let temp = name.starts_with('.') && name.ends_with(TEMP);
    temp || name.starts_with(TRASH)
}

/// Letters, digits, `.`, `-`, `_`, not starting with a dot: one path component on every system.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.bytes().all(allowed)
}

/// Creates something under a temporary name beside `path`: exclusively, so that a planted link is never followed.
fn create_temp<T>(path: &Path, create: impl Fn(&Path) -> std::io::Result<T>) -> Result<(PathBuf, T)> {
    let name = file_name(path)?;
    let mut taken = None;
    for attempt in 0..ATTEMPTS {
        let temp = path.with_file_name(format!(".{name}.{}.{attempt}{TEMP}", process_id()));
        match create(&temp) {
            Ok(made) => return Ok((temp, made)),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => taken = Some((temp, e)),
            Err(e) => return Err(Error::io("cannot create", &temp, &e)),
        }
    }
    match taken {
        Some((temp, e)) => Err(Error::io("cannot create a temporary file", &temp, &e)),
        None => Err(Error::new(crate::ErrorKind::Io, "cannot create a temporary file")),
    }
}

fn fill(mut file: File, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|e| Error::io("cannot write", path, &e))?;
    file.sync_all().map_err(|e| Error::io("cannot sync", path, &e))
}

fn fill_folder(dir: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    for (name, bytes) in files {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        fill(file.map_err(|e| Error::io("cannot create", &path, &e))?, &path, bytes)?;
    }
    sync_dir(dir)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| Error::io("cannot rename into place", to, &e))
}

fn sync_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(dir) if dir != Path::new("") => sync_dir(dir),
        _ => sync_dir(Path::new(".")),
    }
}

/// Makes renames in a folder durable. Only Unix lets a folder be opened and synced.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io("cannot sync the folder", dir, &e))?;
    }
    Ok(())
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::new(crate::ErrorKind::Io, "not a file name").at(path.display().to_string()))
}

/// Number of this process; browsers have none.
fn process_id() -> u32 {
    if cfg!(target_arch = "wasm32") { 0 } else { std::process::id() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_replaced_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(entries(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn folder_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("step-1");
        write_folder(&path, &[("a", b"1"), ("b", b"2")]).unwrap();
        assert_eq!(fs::read(path.join("b")).unwrap(), b"2");
        assert!(write_folder(&path, &[("a", b"3")]).is_err());
        assert_eq!(fs::read(path.join("a")).unwrap(), b"1");
        for name in ["../x", "", ".hidden", "a/b", "a\0"] {
            assert!(write_folder(&dir.path().join("other"), &[(name, b"1")]).is_err(), "{name:?}");
        }
        assert_eq!(entries(dir.path()).unwrap().len(), 1);
        remove_folder(&path).unwrap();
        assert!(entries(dir.path()).unwrap().is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn planted_links_are_neither_followed_nor_harmed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, b"precious").unwrap();
        let path = dir.path().join("a.json");
        let planted = dir.path().join(format!(".a.json.{}.0.tmp", process_id()));
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        write_file(&path, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(sweep(dir.path()).unwrap(), [planted]);
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn sweep_takes_only_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".step-9.1.0.tmp/deep")).unwrap();
        fs::create_dir(dir.path().join(".trash-step-8.0")).unwrap();
        fs::write(dir.path().join("notes.tmp"), b"mine").unwrap();
        fs::write(dir.path().join(".hidden"), b"mine").unwrap();
        assert_eq!(sweep(dir.path()).unwrap().len(), 2);
        assert_eq!(entries(dir.path()).unwrap().len(), 2);
        assert!(sweep(&dir.path().join("none")).unwrap().is_empty());
    }
}
