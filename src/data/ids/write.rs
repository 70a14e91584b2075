//! Writing a set of ids, block by block.

use super::{INDEX, IdsKey, KEY, PROGRESS, Progress, Stand, failed, pretty, read_json, stand};
use crate::error::{Error, Result};
use crate::io::atomic::{sync_dir, write_file};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a set of ids.
pub struct IdsWriter {
    dir: PathBuf,
    key: IdsKey,
    ids: File,
    index: File,
    rows: usize,
    pictures: usize,
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
            let (path, last) = (dir.join(format!("{name}.part")), dir.join(name));
            if !path.exists() && last.exists() {
                // killed while the files got their names
                fs::rename(&last, &path).map_err(failed("cannot rename", &last))?;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
            let mut file = file.map_err(failed("cannot open", &path))?;
            let there = file.metadata().map_err(failed("cannot read", &path))?.len();
            if there < length && progress.pictures > 0 {
                return Err(Error::data("damaged file of token ids")
                    .at(path.display().to_string())
                    .expected(format!("{length} bytes or more"))
                    .got(format!("{there} bytes"))
                    .hint("delete the folder to make it again"));
            }
            file.set_len(length).map_err(failed("cannot write", &path))?;
            file.seek(SeekFrom::End(0)).map_err(failed("cannot write", &path))?;
            Ok(file)
        };
        let length = key.container.header_bytes() + progress.rows as u64 * key.row_bytes();
        let mut ids = part(key.container.file(), length)?;
        let index = part(INDEX, progress.index_bytes)?;
        if progress.rows == 0 {
            let path = dir.join(key.container.file());
            ids.seek(SeekFrom::Start(0)).map_err(failed("cannot write", &path))?;
            ids.write_all(&key.container.header(key, 0)).map_err(failed("cannot write", &path))?;
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
        let bytes: Vec<u8> = match self.key.container.width(&self.key) {
            2 => ids.iter().flat_map(|&id| (id as u16).to_le_bytes()).collect(),
            _ => ids.iter().flat_map(|&id| id.to_le_bytes()).collect(),
        };
        let path = self.dir.join(self.key.container.file());
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
        let path = self.dir.join(self.key.container.file());
        let header = self.key.container.header(&self.key, self.rows);
        self.ids.seek(SeekFrom::Start(0)).map_err(failed("cannot write", &path))?;
        self.ids.write_all(&header).map_err(failed("cannot write", &path))?;
        self.ids.sync_all().map_err(failed("cannot sync", &path))?;
        for name in [INDEX, self.key.container.file()] {
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
