//! Files of token ids: `ids.npy` or `ids.safetensors`, `index.jsonl`, and `ids.json`, which says what they were made from.
//!
//! Rows are appended and synced block by block to a file that ends in `.part`; `progress.json` says how many rows are
//! safe, so that a killed writer goes on where it was, and the same rows give the same bytes. The finished file gets its
//! name last; from then on nobody here writes to it, so it can be mapped into memory.

mod container;
mod lock;
mod mapped;
mod read;
mod write;

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

pub use container::Container;
pub use read::IdsFile;
pub use write::IdsWriter;

/// One JSON object a picture.
pub const INDEX: &str = "index.jsonl";
/// What the ids were made from.
pub const KEY: &str = "ids.json";
const PROGRESS: &str = "progress.json";
/// Largest key file that is read.
const KEY_BYTES: u64 = 1 << 20;

/// What ids depend on. Two sets with equal keys are equal, id for id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdsKey {
    /// Version of these files.
    pub format: u32,
    /// Kind of the file of the ids.
    #[serde(default, skip_serializing_if = "Container::is_npy")]
    pub container: Container,
    /// Hash of the tokenizer's weights.
    pub tokenizer: String,
    /// Vocabulary V.
    pub vocab: usize,
    /// Fingerprint of the list of pictures.
    pub data: String,
    /// Pictures.
    pub pictures: usize,
    /// Rows and columns of ids of a view.
    pub grid: (usize, usize),
    /// Pixels of a cell's side.
    pub cell: usize,
    /// Views a picture.
    pub views: usize,
    /// How views are cropped, mirrored and coloured, in words; `centre` = the centred square.
    pub augmentation: String,
    /// Seed of the augmentation.
    pub seed: u64,
}

/// Version of the files.
pub const FORMAT: u32 = 1;

impl IdsKey {
    /// Ids of a picture.
    pub fn row(&self) -> usize {
        self.views * self.grid.0 * self.grid.1
    }
    /// `[rows, h, w]`, or `[rows, views, h, w]` of more than one view.
    fn shape(&self, rows: usize) -> Vec<usize> {
        let views = (self.views != 1).then_some(self.views);
        [Some(rows), views, Some(self.grid.0), Some(self.grid.1)].into_iter().flatten().collect()
    }
    fn row_bytes(&self) -> u64 {
        (self.row() * self.container.width(self)) as u64
    }
    /// The first thing in which another key differs: its name, its value here, its value there.
    pub fn difference(&self, other: &IdsKey) -> Option<(&'static str, String, String)> {
        let say = |c: &IdsKey| {
            [
                ("format", format!("{} of {}", c.format, c.container.file())),
                ("tokenizer weights", c.tokenizer.chars().take(16).collect()),
                ("vocabulary", c.vocab.to_string()),
                ("pictures", format!("{} ({})", c.pictures, c.data)),
                ("grid", format!("{} x {} cells of {} pixels", c.grid.0, c.grid.1, c.cell)),
                ("views", c.views.to_string()),
                ("augmentation", c.augmentation.clone()),
                ("seed", c.seed.to_string()),
            ]
        };
        let pairs = say(self).into_iter().zip(say(other));
        pairs.filter(|(a, b)| a.1 != b.1).map(|((name, a), (_, b))| (name, a, b)).next()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// Rows of ids and lines of the index that are on the disk.
    rows: usize,
    /// Pictures gone through, readable or not.
    pictures: usize,
    /// Bytes of the index.
    index_bytes: u64,
}

/// What a folder holds: nothing yet, a part, or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Pictures gone through so far; 0 for a fresh folder.
    Part(usize),
    /// All of them.
    Finished,
}

/// How far the ids of a key are in a folder.
///
/// # Errors
/// If the folder holds ids of another key (the message names the first difference) or something else.
pub fn stand(dir: &Path, key: &IdsKey) -> Result<Stand> {
    if !dir.join(KEY).exists() {
        let strange = fs::read_dir(dir).ok().and_then(|mut d| d.next()).is_some();
        return match strange {
            false => Ok(Stand::Part(0)),
            true => Err(Error::config("the folder holds something else")
                .at(dir.display().to_string())
                .expected("an empty or a new folder, or one with token ids")),
        };
    }
    let found: IdsKey = read_json(&dir.join(KEY))?;
    if let Some((what, now, then)) = key.difference(&found) {
        return Err(Error::config(format!("stale token ids: other {what}"))
            .at(dir.display().to_string())
            .expected(now)
            .got(then)
            .hint("delete the folder, or choose another one"));
    }
    if dir.join(key.container.file()).exists() {
        return Ok(Stand::Finished);
    }
    match dir.join(PROGRESS).exists() {
        true => Ok(Stand::Part(read_json::<Progress>(&dir.join(PROGRESS))?.pictures)),
        false => Ok(Stand::Part(0)),
    }
}

fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let (what, path) = (what.to_string(), path.to_path_buf());
    move |e| Error::io(what.clone(), &path, &e)
}

fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    text
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path).map_err(failed("cannot read", path))?;
    let mut bytes = vec![];
    file.take(KEY_BYTES).read_to_end(&mut bytes).map_err(failed("cannot read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::data("not a file of token ids").at(path.display().to_string()).got(e.to_string()))
}

#[cfg(test)]
mod tests;
