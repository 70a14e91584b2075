//! Writing a set of ids, block by block.

use super::{INDEX, IdsKey, KEY, PROGRESS, Progress, Stand, failed, lock, pretty, read_json, stand};
use crate::error::{Error, Result};
use crate::io::atomic::{sync_dir, write_file};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a set of ids. The file of the ids is locked meanwhile.
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
    /// If the folder holds ids of another key, a finished set, or other files, or if another process is writing there.
    pub fn open(dir: &Path, key: &IdsKey) -> Result<IdsWriter> {
        safe_so_far(dir, key)?;
        fs::create_dir_all(dir).map_err(failed("cannot create", dir))?;
        if !dir.join(KEY).exists() {
            write_file(&dir.join(KEY), &pretty(key))?;
        }
        let path = dir.join(format!("{}.part", key.container.file()));
        let mut ids = open_part(&path)?;
        lock::for_writing(&ids, &path)?;
        // Another process may have gone on, or have finished, since this one looked: only now nobody can.
        let progress = safe_so_far(dir, key)?;
        let length = key.container.header_bytes() + progress.rows as u64 * key.row_bytes();
        cut(&mut ids, length, progress.pictures, &path)?;
        if progress.rows == 0 {
            ids.seek(SeekFrom::Start(0)).map_err(failed("cannot write", &path))?;
            ids.write_all(&key.container.header(key, 0)).map_err(failed("cannot write", &path))?;
        }
        let (path, last) = (dir.join(format!("{INDEX}.part")), dir.join(INDEX));
        if !path.exists() && last.exists() {
            // killed while the files got their names, of which that of the ids is the last
            fs::rename(&last, &path).map_err(failed("cannot rename", &last))?;
        }
        let mut index = open_part(&path)?;
        cut(&mut index, progress.index_bytes, progress.pictures, &path)?;
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

/// How far an unfinished set is on the disk.
fn safe_so_far(dir: &Path, key: &IdsKey) -> Result<Progress> {
    match stand(dir, key)? {
        Stand::Finished => Err(Error::config("these ids are finished").at(dir.display().to_string())),
        Stand::Part(0) => Ok(Progress { rows: 0, pictures: 0, index_bytes: 0 }),
        Stand::Part(_) => read_json(&dir.join(PROGRESS)),
    }
}

fn open_part(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(path);
    file.map_err(failed("cannot open", path))
}

/// Takes off what was written after the last sync, and goes to the end.
fn cut(file: &mut File, length: u64, pictures: usize, path: &Path) -> Result<()> {
    let there = file.metadata().map_err(failed("cannot read", path))?.len();
    if there < length && pictures > 0 {
        return Err(Error::data("damaged file of token ids")
            .at(path.display().to_string())
            .expected(format!("{length} bytes or more"))
            .got(format!("{there} bytes"))
            .hint("delete the folder to make it again"));
    }
    file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed("cannot write", path))?;
    Ok(())
}
