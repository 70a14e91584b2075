//! Files of token ids: `ids.npy` (NumPy, u16 or u32), `index.jsonl` and `ids.json`, which says what they were made from.
//!
//! Rows are appended and synced block by block to `ids.npy.part`; `progress.json` says how many rows are safe, so that
//! a killed writer goes on where it was, and the same rows give the same bytes. The finished file gets its name last.

use crate::error::{Error, Result};
use crate::io::atomic::{sync_dir, write_file};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The ids.
pub const IDS: &str = "ids.npy";
/// One JSON object a row.
pub const INDEX: &str = "index.jsonl";
/// What the ids were made from.
pub const KEY: &str = "ids.json";
const PROGRESS: &str = "progress.json";
/// Length of our NumPy headers, magic included: the shape may grow without moving the data.
const HEADER: u64 = 192;
/// Files up to this size are kept in memory.
const IN_MEMORY: u64 = 256 << 20;
/// Largest key file that is read.
const KEY_BYTES: u64 = 1 << 20;

/// What ids depend on. Two sets with equal keys are equal, id for id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IdsKey {
    /// Version of these files.
    pub format: u32,
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
    /// Bytes of an id.
    fn width(&self) -> usize {
        if self.vocab <= 1 << 16 { 2 } else { 4 }
    }
    fn row_bytes(&self) -> u64 {
        (self.row() * self.width()) as u64
    }
    /// The NumPy header of `rows` rows: `[rows, h, w]`, or `[rows, views, h, w]` of more than one view.
    fn header(&self, rows: usize) -> Vec<u8> {
        let views = if self.views == 1 { String::new() } else { format!("{}, ", self.views) };
        let shape = format!("({rows}, {views}{}, {})", self.grid.0, self.grid.1);
        let kind = if self.width() == 2 { "<u2" } else { "<u4" };
        let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let mut out = b"\x93NUMPY\x01\x00".to_vec();
        out.extend((HEADER as u16 - 10).to_le_bytes());
        out.extend(text.as_bytes());
        out.resize(HEADER as usize - 1, b' ');
        out.push(b'\n');
        out
    }
    /// The first thing in which another key differs: its name, its value here, its value there.
    pub fn difference(&self, other: &IdsKey) -> Option<(&'static str, String, String)> {
        let say = |c: &IdsKey| {
            [
                ("format", c.format.to_string()),
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

/// Writes a set of ids.
pub struct IdsWriter {
    dir: PathBuf,
    key: IdsKey,
    ids: File,
    index: File,
    rows: usize,
    pictures: usize,
}

fn failed(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let (what, path) = (what.to_string(), path.to_path_buf());
    move |e| Error::io(what.clone(), &path, &e)
}

/// What a folder holds: nothing yet, a part, or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Pictures gone through so far; 0 for a fresh folder.
    Part(usize),
    /// All of them.
    Finished,
}

impl IdsWriter {
    /// Starts a set in a folder, or goes on with the unfinished one there.
    ///
    /// # Errors
    /// If the folder holds ids of another key, a finished set, or other files.
    pub fn open(dir: &Path, key: &IdsKey) -> Result<IdsWriter> {
        let progress = match stand(dir, key)? {
            Stand::Finished => {
                return Err(Error::config("these ids are finished").at(dir.display().to_string()));
            }
            Stand::Part(0) => Progress { rows: 0, pictures: 0, index_bytes: 0 },
            Stand::Part(_) => read_json(&dir.join(PROGRESS))?,
        };
        fs::create_dir_all(dir).map_err(failed("cannot create", dir))?;
        if progress.pictures == 0 {
            write_file(&dir.join(KEY), &pretty(key))?;
        }
        let part = |name: &str, length: u64| -> Result<File> {
            let path = dir.join(format!("{name}.part"));
            let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
            let mut file = file.map_err(failed("cannot open", &path))?;
            file.set_len(length).map_err(failed("cannot write", &path))?;
            file.seek(SeekFrom::End(0)).map_err(failed("cannot write", &path))?;
            Ok(file)
        };
        let mut ids = part(IDS, HEADER + progress.rows as u64 * key.row_bytes())?;
        let index = part(INDEX, progress.index_bytes)?;
        if progress.rows == 0 {
            let path = dir.join(IDS);
            ids.seek(SeekFrom::Start(0)).map_err(failed("cannot write", &path))?;
            ids.write_all(&key.header(0)).map_err(failed("cannot write", &path))?;
        }
        Ok(IdsWriter {
            dir: dir.to_path_buf(),
            key: key.clone(),
            ids,
            index,
            rows: progress.rows,
            pictures: progress.pictures,
        })
    }

    /// Pictures gone through already.
    pub fn pictures(&self) -> usize {
        self.pictures
    }
    /// Rows written.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends whole rows of ids and a JSON line for each of `pictures` pictures, of which unreadable ones have a line
    /// but no row; then makes them durable.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn append(&mut self, ids: &[u32], lines: &[serde_json::Value]) -> Result<()> {
        let bytes: Vec<u8> = match self.key.width() {
            2 => ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect(),
            _ => ids.iter().flat_map(|&id| id.to_le_bytes()).collect(),
        };
        let path = self.dir.join(IDS);
        self.ids.write_all(&bytes).map_err(failed("cannot write", &path))?;
        self.ids.sync_data().map_err(failed("cannot sync", &path))?;
        let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
        let path = self.dir.join(INDEX);
        self.index.write_all(text.as_bytes()).map_err(failed("cannot write", &path))?;
        self.index.sync_data().map_err(failed("cannot sync", &path))?;
        self.rows += ids.len() / self.key.row().max(1);
        self.pictures += lines.len();
        let index_bytes = self.index.stream_position().map_err(failed("cannot write", &path))?;
        let progress = Progress { rows: self.rows, pictures: self.pictures, index_bytes };
        write_file(&self.dir.join(PROGRESS), &pretty(&progress))
    }

    /// Gives the files their final names.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn finish(mut self) -> Result<()> {
        let path = self.dir.join(IDS);
        let header = self.key.header(self.rows);
        self.ids.seek(SeekFrom::Start(0)).map_err(failed("cannot write", &path))?;
        self.ids.write_all(&header).map_err(failed("cannot write", &path))?;
        self.ids.sync_all().map_err(failed("cannot sync", &path))?;
        for name in [INDEX, IDS] {
            let (from, to) = (self.dir.join(format!("{name}.part")), self.dir.join(name));
            fs::rename(from, &to).map_err(failed("cannot rename into place", &to))?;
        }
        let progress = self.dir.join(PROGRESS);
        if progress.exists() {
            fs::remove_file(&progress).map_err(failed("cannot delete", &progress))?;
        }
        sync_dir(&self.dir)
    }
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
    if dir.join(IDS).exists() {
        return Ok(Stand::Finished);
    }
    match dir.join(PROGRESS).exists() {
        true => Ok(Stand::Part(read_json::<Progress>(&dir.join(PROGRESS))?.pictures)),
        false => Ok(Stand::Part(0)),
    }
}

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
        let path = dir.join(IDS);
        let of_picture = read_index(&dir.join(INDEX))?;
        let rows = of_picture.iter().flatten().count();
        let mut file = File::open(&path).map_err(failed("cannot read", &path))?;
        let length = file.metadata().map_err(failed("cannot read", &path))?.len();
        let wanted = HEADER + rows as u64 * key.row_bytes();
        let mut header = vec![0; HEADER as usize];
        let headed = file.read_exact(&mut header).is_ok() && header == key.header(rows);
        if length != wanted || !headed || of_picture.len() != key.pictures {
            return Err(Error::data("damaged file of token ids")
                .at(path.display().to_string())
                .expected(format!("{rows} rows in {wanted} bytes"))
                .got(format!("{length} bytes"))
                .hint("delete the folder to make it again"));
        }
        let rows = if length <= IN_MEMORY {
            let mut all = Vec::with_capacity((length - HEADER) as usize);
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
        let own = self.key.row() / self.key.views * self.key.width();
        let at = u64::from(row) * self.key.row_bytes() + (view % self.key.views * own) as u64;
        let mut bytes = vec![0; own];
        match &self.rows {
            Rows::Memory(all) => {
                let from = at as usize;
                bytes.copy_from_slice(all.get(from..from + own).unwrap_or(&vec![0; own]));
            }
            Rows::Disk(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let read = file.seek(SeekFrom::Start(HEADER + at)).and_then(|_| file.read_exact(&mut bytes));
                read.map_err(failed("cannot read", &self.path))?;
            }
        }
        Ok(Some(match self.key.width() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> IdsKey {
        IdsKey {
            format: FORMAT,
            tokenizer: "aa".repeat(32),
            vocab: 300,
            data: "d".into(),
            pictures: 3,
            grid: (1, 2),
            cell: 4,
            views: 2,
            augmentation: "centre".into(),
            seed: 1,
        }
    }

    fn write(dir: &Path, stop_after: Option<usize>) {
        let mut w = IdsWriter::open(dir, &key()).unwrap();
        for p in w.pictures()..3 {
            if stop_after == Some(p) {
                return;
            }
            let first = 10 * p as u32;
            match p {
                1 => w.append(&[], &[json!({"picture": 1, "error": "broken"})]).unwrap(),
                _ => {
                    let line = json!({"picture": p, "row": w.rows()});
                    w.append(&[first, first + 1, first + 2, 299], &[line]).unwrap();
                }
            }
        }
        w.finish().unwrap();
    }

    #[test]
    fn a_killed_writer_goes_on_and_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
        write(&whole, None);
        write(&parts, Some(2));
        assert_eq!(stand(&parts, &key()).unwrap(), Stand::Part(2));
        assert!(IdsFile::open(&parts, &key()).is_err());
        // what was written after the last sync does not count
        let path = parts.join("ids.npy.part");
        let mut torn = fs::read(&path).unwrap();
        torn.extend([9; 7]);
        fs::write(&path, torn).unwrap();
        write(&parts, None);
        for name in [IDS, INDEX, KEY] {
            assert_eq!(fs::read(whole.join(name)).unwrap(), fs::read(parts.join(name)).unwrap(), "{name}");
        }
        assert_eq!(fs::read_dir(&parts).unwrap().count(), 3);
        let file = IdsFile::open(&whole, &key()).unwrap();
        assert_eq!(file.ids(0, 1).unwrap(), Some(vec![2, 299]));
        assert_eq!(file.ids(1, 0).unwrap(), None);
        assert_eq!(file.ids(2, 2).unwrap(), Some(vec![20, 21]));
        let bytes = fs::read(whole.join(IDS)).unwrap();
        assert!(bytes.starts_with(
            b"\x93NUMPY\x01\x00\xb6\x00{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2, 1, 2), }"
        ));
        assert_eq!(bytes.len() as u64, HEADER + 2 * 8);
        assert!(IdsWriter::open(&whole, &key()).is_err());
    }

    #[test]
    fn stale_and_damaged_sets_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), None);
        let says = |change: fn(&mut IdsKey)| {
            let mut k = key();
            change(&mut k);
            IdsFile::open(dir.path(), &k).unwrap_err().to_string()
        };
        assert!(says(|k| k.tokenizer = "bb".repeat(32)).contains("other tokenizer weights"));
        assert!(says(|k| k.data = "e".into()).contains("other pictures"));
        assert!(says(|k| k.augmentation = "x".into()).contains("other augmentation"));
        assert!(says(|k| k.seed = 2).contains("other seed: "));
        let path = dir.path().join(IDS);
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, bytes).unwrap();
        assert!(says(|_| ()).contains("damaged"));
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.txt"), "words").unwrap();
        assert!(IdsWriter::open(other.path(), &key()).is_err_and(|e| e.exit_code() == 2));
    }
}
