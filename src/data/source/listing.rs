//! A list of encoded pictures, in files of their own or inside of archives.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Sample, Source, no_such, short_hash};
use crate::data::decode::{ImageLimits, decode};
use crate::{Error, Result};

/// One encoded picture.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What messages call it.
    pub name: String,
    /// Folders below the opened one, for labels.
    pub folders: Vec<String>,
    /// Where its bytes are.
    pub file: Arc<PathBuf>,
    /// First byte in that file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Label that came with it (as opposed to one by folder).
    pub label: Option<u32>,
}

/// Pictures with their classes.
pub struct Listing {
    entries: Vec<Entry>,
    classes: Vec<String>,
    limits: ImageLimits,
}

impl Listing {
    /// The labels of the entries are indices into `classes`.
    pub fn new(entries: Vec<Entry>, classes: Vec<String>) -> Self {
        Listing { entries, classes, limits: ImageLimits::default() }
    }
}

impl Source for Listing {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        let entry = self.entries.get(index).ok_or_else(|| no_such(index, self.len()))?;
        let picture = read(entry, &self.limits)
            .and_then(|bytes| decode(&bytes, &self.limits))
            .map_err(|e| e.at(entry.name.clone()))?;
        Ok(Sample { picture, label: entry.label, segmentation: None })
    }

    fn name(&self, index: usize) -> String {
        self.entries.get(index).map_or_else(String::new, |e| e.name.clone())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn labels(&self) -> Option<Vec<Option<u32>>> {
        Some(self.entries.iter().map(|e| e.label).collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for e in &self.entries {
            // The folders and the file name identify an entry wherever the data set has been moved to.
            let own = e.name.rsplit(['/', '\\']).next().unwrap_or("");
            hash.update(format!("{}/{own}\0{}\0{:?}\n", e.folders.join("/"), e.size, e.label));
        }
        short_hash(hash)
    }
}

/// The bytes of an entry, refused unread when there are too many.
fn read(entry: &Entry, limits: &ImageLimits) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::io("cannot read picture", &entry.file, &e);
    let mut file = File::open(entry.file.as_path()).map_err(failed)?;
    if entry.size > limits.file_bytes {
        let e = Error::data("picture file too large");
        return Err(e
            .expected(format!("at most {} bytes", limits.file_bytes))
            .got(format!("{}", entry.size)));
    }
    if entry.offset > 0 {
        file.seek(SeekFrom::Start(entry.offset)).map_err(failed)?;
    }
    let mut bytes = Vec::with_capacity(entry.size as usize);
    file.take(entry.size).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < entry.size {
        let e = Error::data("picture file became shorter since it was listed");
        return Err(e.expected(format!("{} bytes", entry.size)).got(format!("{}", bytes.len())));
    }
    Ok(bytes)
}
