//! Reading a finished set of ids, a view of a picture at a time.

use super::{INDEX, IdsKey, Stand, failed, stand};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files up to this size are kept in memory.
const IN_MEMORY: u64 = 256 << 20;

enum Rows {
    Memory(Vec<u8>),
    Disk(Mutex<File>),
}

/// A finished set of ids, for reading. Threads may read at the same time.
pub struct IdsFile {
    key: IdsKey,
    rows: Rows,
    path: PathBuf,
    /// Row of each picture; unreadable pictures have none.
    of_picture: Vec<Option<u32>>,
}

impl std::fmt::Debug for IdsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdsFile({}, {} pictures)", self.path.display(), self.of_picture.len())
    }
}

impl IdsFile {
    /// Opens the finished ids of a key.
    ///
    /// # Errors
    /// If they are stale, unfinished or damaged.
    pub fn open(dir: &Path, key: &IdsKey) -> Result<IdsFile> {
        if stand(dir, key)? != Stand::Finished {
            return Err(Error::data("token ids are not finished").at(dir.display().to_string()));
        }
        let path = dir.join(key.container.file());
        let first = key.container.header_bytes();
        let of_picture = read_index(&dir.join(INDEX))?;
        let rows = of_picture.iter().flatten().count();
        let mut file = File::open(&path).map_err(failed("cannot read", &path))?;
        let length = file.metadata().map_err(failed("cannot read", &path))?.len();
        let wanted = first + rows as u64 * key.row_bytes();
        let mut header = vec![0; first as usize];
        let headed = file.read_exact(&mut header).is_ok() && header == key.container.header(key, rows);
        if length != wanted || !headed || of_picture.len() != key.pictures {
            return Err(Error::data("damaged file of token ids")
                .at(path.display().to_string())
                .expected(format!("{rows} rows in {wanted} bytes"))
                .got(format!("{length} bytes"))
                .hint("delete the folder to make it again"));
        }
        let rows = if length <= IN_MEMORY {
            let mut all = Vec::with_capacity((length - first) as usize);
            file.read_to_end(&mut all).map_err(failed("cannot read", &path))?;
            Rows::Memory(all)
        } else {
            Rows::Disk(Mutex::new(file))
        };
        Ok(IdsFile { key: key.clone(), rows, path, of_picture })
    }

    /// What the ids were made from.
    pub fn key(&self) -> &IdsKey {
        &self.key
    }

    /// The ids `[h·w]` of a view of a picture; `None` for a picture that could not be read.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn ids(&self, picture: usize, view: usize) -> Result<Option<Vec<u32>>> {
        let Some(row) = self.of_picture.get(picture).copied().flatten() else { return Ok(None) };
        let own = self.key.row() / self.key.views * self.key.container.width(&self.key);
        let at = u64::from(row) * self.key.row_bytes() + (view % self.key.views * own) as u64;
        let mut bytes = vec![0; own];
        match &self.rows {
            Rows::Memory(all) => {
                let from = at as usize;
                bytes.copy_from_slice(all.get(from..from + own).unwrap_or(&vec![0; own]));
            }
            Rows::Disk(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file
                    .seek(SeekFrom::Start(self.key.container.header_bytes() + at))
                    .and_then(|_| file.read_exact(&mut bytes));
                read.map_err(failed("cannot read", &self.path))?;
            }
        }
        Ok(Some(match self.key.container.width(&self.key) {
            2 => bytes.as_chunks::<2>().0.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
        }))
    }
}

/// Row of each picture from the lines of the index.
fn read_index(path: &Path) -> Result<Vec<Option<u32>>> {
    let file = BufReader::new(File::open(path).map_err(failed("cannot read", path))?);
    let mut all = Vec::new();
    for line in file.lines() {
        let line = line.map_err(failed("cannot read", path))?;
        let value: serde_json::Value = serde_json::from_str(&line).map_err(|e| {
            Error::data("damaged index of token ids").at(path.display().to_string()).got(e.to_string())
        })?;
        all.push(value.get("row").and_then(serde_json::Value::as_u64).and_then(|r| u32::try_from(r).ok()));
    }
    Ok(all)
}
