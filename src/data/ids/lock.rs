//! Locks on the file of the ids: one writer, or any number of maps. The operating system holds them, so a killed process
//! leaves none behind.

use super::failed;
use crate::error::{Error, Result};
use fs4::{FileExt, TryLockError};
use std::fs::File;
use std::path::Path;

/// Keeps other writers and all readers away while the file is open.
pub(super) fn for_writing(file: &File, path: &Path) -> Result<()> {
    taken(FileExt::try_lock(file), path)
}

/// Keeps writers away while the file is open. File systems without locks are read without.
pub(super) fn for_reading(file: &File, path: &Path) -> Result<()> {
    match FileExt::try_lock_shared(file) {
        Err(TryLockError::Error(_)) => Ok(()),
        asked => taken(asked, path),
    }
}

fn taken(asked: std::result::Result<(), TryLockError>, path: &Path) -> Result<()> {
    match asked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::data("the token ids are in use by another process")
            .at(path.display().to_string())
            .hint("wait until it has finished, or choose another folder")),
        Err(TryLockError::Error(e)) => Err(failed("cannot lock", path)(e)),
    }
}
