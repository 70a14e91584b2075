//! A finished file mapped into memory, for reading: the one place of the crate with `unsafe` code.
//!
//! A map shows the file as it is now, so somebody who changes the file changes what is read, and somebody who makes it
//! shorter takes pages away: touching those ends the process (SIGBUS on Unix). Against that:
//!
//! - The writers of this crate give a file its name when it is whole, cut only files that are not, and hold an exclusive
//!   lock meanwhile. Each map holds a shared lock on its file as long as it lives; replacing the file by renaming
//!   another over it leaves the map the old one.
//! - Other programs need not ask for locks. So the length of the file is compared with that of the map before each
//!   reading, and a file that became shorter is an error. What is left is a cut between this question and the copy that
//!   follows it, a few hundred nanoseconds later, and a disk that fails.
//! - Nothing refers into the map. Bytes are copied out one by one by reads that the compiler neither repeats nor leaves
//!   out, so that bytes which change are wrong bytes and nothing worse; the reader of ids checks their range.

use super::{failed, lock};
use crate::error::{Error, Result};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file in the address space of the process.
pub(super) struct MappedFile {
    map: MmapRaw,
    /// Holds the lock, and knows the length of the file at any time.
    file: File,
    path: PathBuf,
}

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    /// If it is being written, cannot be read, or does not fit into the address space.
    pub(super) fn open(path: &Path) -> Result<MappedFile> {
        let file = File::open(path).map_err(failed("cannot read", path))?;
        lock::for_reading(&file, path)?;
        let map = MmapOptions::new().map_raw_read_only(&file).map_err(failed("cannot map", path))?;
        Ok(MappedFile { map, file, path: path.to_path_buf() })
    }

    /// Bytes of the file when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The bytes `at..at + length`.
    ///
    /// # Errors
    /// If the file is or became shorter than that.
    pub(super) fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let now = self.file.metadata().map_err(failed("cannot read", &self.path))?.len();
        let end = at.checked_add(length as u64);
        if now < self.len() || end.is_none_or(|end| end > self.len()) {
            return Err(Error::data(
                "a file became shorter while it was read, or never was as long as it says",
            )
            .at(self.path.display().to_string())
            .expected(format!("{} bytes", end.unwrap_or(u64::MAX).max(self.len())))
            .got(format!("{now} bytes"))
            .hint("delete the folder to make it again"));
        }
        let first = at as usize;
        // SAFETY: `first + length` is at most the length of the map, which lives as long as `self`, and bytes have no
        // alignment and no invalid values. The memory may be written by others at any time: hence no reference to it, and
        // volatile reads. That its pages exist was seen above; the rest is said at the head of this file.
        #[allow(unsafe_code)]
        let byte = |i: usize| unsafe { self.map.as_ptr().add(i).read_volatile() };
        Ok((first..first + length).map(byte).collect())
    }
}
