//! Reading a finished set of ids, a view of a picture at a time.

use super::mapped::MappedFile;
use super::{INDEX, IdsKey, Stand, failed, stand};
use crate::data::batches::ViewIds;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A finished set of ids, for reading. Threads may read at the same time.
pub struct IdsFile {
    key: IdsKey,
    file: MappedFile,
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
        let file = MappedFile::open(&path)?;
        let (length, wanted) = (file.len(), first + rows as u64 * key.row_bytes());
        let headed = length >= first && file.read(0, first as usize)? == key.container.header(key, rows);
        if length != wanted || !headed || of_picture.len() != key.pictures {
            return Err(Error::data("damaged file of token ids")
                .at(path.display().to_string())
                .expected(format!("{rows} rows in {wanted} bytes"))
                .got(format!("{length} bytes"))
                .hint("delete the folder to make it again"));
        }
        Ok(IdsFile { key: key.clone(), file, path, of_picture })
    }

    /// What the ids were made from.
    pub fn key(&self) -> &IdsKey {
        &self.key
    }
}

impl ViewIds for IdsFile {
    fn views(&self) -> usize {
        self.key.views
    }

    fn ids(&self, picture: usize, view: usize) -> Result<Option<Vec<u32>>> {
        let Some(row) = self.of_picture.get(picture).copied().flatten() else { return Ok(None) };
        let width = self.key.container.width(&self.key);
        let own = self.key.row() / self.key.views * width;
        let row = self.key.container.header_bytes() + u64::from(row) * self.key.row_bytes();
        let bytes = self.file.read(row + (view % self.key.views * own) as u64, own)?;
        let ids: Vec<u32> = match width {
            2 => bytes.as_chunks::<2>().0.iter().map(|b| u32::from(u16::from_le_bytes(*b))).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect(),
        };
        match ids.iter().find(|&&id| id as usize >= self.key.vocab) {
            None => Ok(Some(ids)),
            Some(id) => Err(Error::data("damaged file of token ids")
                .at(self.path.display().to_string())
                .expected(format!("ids below {}", self.key.vocab))
                .got(format!("{id} for picture {picture}"))
                .hint("delete the folder to make it again")),
        }
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
