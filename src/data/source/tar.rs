//! Reading tar archives in place: an index of the pictures is made once, nothing is ever extracted.
//!
//! Entries that belong together have the same name up to the first dot, as in WebDataset: `0001.jpg` is the
//! picture, `0001.cls` its label. Links, devices and anything unknown are passed over and counted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use super::PICTURE_EXTENSIONS;
use super::folder::extension;
use super::listing::Entry;
use crate::{Error, Result};

/// Bytes of a block: headers are one, contents are padded to whole ones.
const BLOCK: u64 = 512;
/// Largest entry that is used, bytes.
const LARGEST_ENTRY: u64 = 64 << 20;
/// Most entries of one archive.
const MOST_ENTRIES: usize = 1_000_000;
/// Largest extended header (a long name), bytes.
const LARGEST_NAME: u64 = 64 << 10;
/// Largest class number of a `.cls` entry; the names of all smaller ones are made up.
const LARGEST_LABEL: u32 = 99_999;

/// The pictures of an archive in their order, with warnings about what was passed over.
#[derive(Debug, Default)]
pub struct Shard {
    /// Pictures.
    pub entries: Vec<Entry>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// A header block, decoded.
struct Header {
    name: String,
    size: u64,
    kind: u8,
}

/// Name and size given by an extended header for the entry behind it.
#[derive(Default)]
struct Override {
    name: Option<String>,
    size: Option<u64>,
}

/// Walks over the headers of an archive.
struct Walk {
    reader: BufReader<File>,
    /// Length of the file.
    len: u64,
    /// Position of the reader.
    at: u64,
    skipped: usize,
    labels: HashMap<String, u32>,
}

/// Indexes an archive.
pub fn index(path: &Path) -> Result<Shard> {
    let failed = |e: std::io::Error| Error::io("cannot read archive", path, &e);
    let file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    let mut walk = Walk { reader: BufReader::new(file), len, at: 0, skipped: 0, labels: HashMap::new() };
    let mut shard = Shard::default();
    let file = Arc::new(path.to_path_buf());
    let mut given = Override::default();
    let mut count = 0;
    loop {
        let header = match walk.header() {
            Ok(Some(header)) => header,
            Ok(None) => break,
            Err(Stop::Io(e)) => return Err(failed(e)),
            Err(Stop::Damaged(what)) if count == 0 => {
                return Err(Error::data("not a tar archive").at(path.display().to_string()).got(what));
            }
            Err(Stop::Damaged(what)) => {
                shard
                    .warnings
                    .push(format!("archive {}: {what}; what lies behind is not used", path.display()));
                break;
            }
        };
        count += 1;
        if count > MOST_ENTRIES {
            shard
                .warnings
                .push(format!("archive {}: only the first {MOST_ENTRIES} entries are used", path.display()));
            break;
        }
        match walk.entry(header, &mut given, &file) {
            Ok(picture) => shard.entries.extend(picture),
            Err(Stop::Io(e)) => return Err(failed(e)),
            Err(Stop::Damaged(what)) => {
                shard
                    .warnings
                    .push(format!("archive {}: {what}; what lies behind is not used", path.display()));
                break;
            }
        }
    }
    if walk.skipped > 0 {
        let (n, path) = (walk.skipped, path.display());
        shard.warnings.push(format!("archive {path}: {n} links, special or oversized entries passed over"));
    }
    for entry in &mut shard.entries {
        entry.label = walk.labels.get(key(inner_name(entry))).copied();
    }
    Ok(shard)
}

/// Why a walk ends early.
enum Stop {
    Io(std::io::Error),
    Damaged(String),
}

impl From<std::io::Error> for Stop {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == ErrorKind::UnexpectedEof { Stop::Damaged("it is cut off".into()) } else { Stop::Io(e) }
    }
}

impl Walk {
    /// The next header; None at the end mark or the end of the file.
    fn header(&mut self) -> std::result::Result<Option<Header>, Stop> {
        if self.at == self.len {
            return Ok(None);
        }
        let mut block = [0u8; BLOCK as usize];
        self.reader.read_exact(&mut block)?;
        self.at += BLOCK;
        if block.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        parse_header(&block)
            .map(Some)
            .ok_or_else(|| Stop::Damaged(format!("no valid entry header at byte {}", self.at - BLOCK)))
    }

    /// Handles one entry and moves behind it; returns it if it is a picture.
    fn entry(
        &mut self,
        header: Header,
        given: &mut Override,
        file: &Arc<std::path::PathBuf>,
    ) -> std::result::Result<Option<Entry>, Stop> {
        let extended = matches!(header.kind, b'L' | b'x' | b'g' | b'K');
        let size = if extended { header.size } else { given.size.unwrap_or(header.size) };
        let start = self.at;
        if size > self.len.saturating_sub(start) {
            return Err(Stop::Damaged(format!("the entry at byte {} is cut off", start - BLOCK)));
        }
        let mut found = None;
        match header.kind {
            b'L' if size <= LARGEST_NAME => {
                let text = self.text(size)?;
                given.name = Some(text.trim_end_matches('\0').to_string());
            }
            b'x' if size <= LARGEST_NAME => {
                let text = self.text(size)?;
                extended_header(&text, given);
            }
            b'g' | b'K' | b'5' => {} // defaults for all entries, long link names, folders: nothing we need
            b'0' | 0 | b'7' if size <= LARGEST_ENTRY => {
                let name = given.name.take().unwrap_or(header.name);
                found = self.regular(clean(&name), size, file)?;
            }
            _ => self.skipped += 1,
        }
        if !extended {
            *given = Override::default();
        }
        self.seek(start + size.div_ceil(BLOCK) * BLOCK)?;
        Ok(found)
    }

    /// A regular file: a picture, a label, or something else.
    fn regular(
        &mut self,
        name: String,
        size: u64,
        file: &Arc<std::path::PathBuf>,
    ) -> std::result::Result<Option<Entry>, Stop> {
        let own = name.rsplit('/').next().unwrap_or("");
        let hidden = own.starts_with('.');
        match extension(Path::new(own)).as_str() {
            e if PICTURE_EXTENSIONS.contains(&e) && !hidden => {
                let mut folders: Vec<String> = name.split('/').map(String::from).collect();
                folders.pop();
                let name = format!("{}!{name}", file.display());
                Ok(Some(Entry { name, folders, file: file.clone(), offset: self.at, size, label: None }))
            }
            "cls" if size <= 32 => {
                let text = self.text(size)?;
                let label = text.trim().parse().ok().filter(|&l: &u32| l <= LARGEST_LABEL);
                self.labels.extend(label.map(|l| (key(&name).to_string(), l)));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn text(&mut self, size: u64) -> std::result::Result<String, Stop> {
        let mut bytes = vec![0; size as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at += size;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn seek(&mut self, to: u64) -> std::result::Result<(), Stop> {
        let to = to.min(self.len); // the padding of the last entry may be missing
        self.reader.seek_relative(to as i64 - self.at as i64)?;
        self.at = to;
        Ok(())
    }
}

/// The name inside of the archive.
fn inner_name(entry: &Entry) -> &str {
    entry.name.split_once('!').map_or("", |(_, name)| name)
}

/// What the parts of a sample have in common: the path up to the first dot of the file name.
fn key(name: &str) -> &str {
    let start = name.rfind('/').map_or(0, |i| i + 1);
    let dot = name.get(start..).and_then(|own| own.find('.')).map(|i| start + i);
    name.get(..dot.unwrap_or(name.len())).unwrap_or(name)
}

/// A name that is only a key: no way up, no control characters.
fn clean(name: &str) -> String {
    let parts = name.split('/').filter(|p| !matches!(*p, "" | "." | ".."));
    let visible =
        |p: &str| p.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    parts.map(visible).collect::<Vec<_>>().join("/")
}

fn parse_header(block: &[u8; BLOCK as usize]) -> Option<Header> {
    // The checksum is the sum of all bytes, its own field counted as blanks.
    let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
    let own: u64 = block.get(148..156)?.iter().map(|&b| u64::from(b)).sum();
    if number(block.get(148..156)?)? != sum - own + 8 * 32 {
        return None;
    }
    let text = |range: std::ops::Range<usize>| {
        let field = block.get(range).unwrap_or(&[]);
        let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
        String::from_utf8_lossy(field.get(..end).unwrap_or(&[])).into_owned()
    };
    let mut name = text(0..100);
    if block.get(257..263)? == b"ustar\0" && block.get(345) != Some(&0) {
        name = format!("{}/{name}", text(345..500));
    }
    Some(Header { name, size: number(block.get(124..136)?)?, kind: *block.get(156)? })
}

/// A number field: octal digits, or binary with the top bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |n, &b| n.checked_mul(256)?.checked_add(u64::from(b)));
    }
    let digits: Vec<u8> = field.iter().copied().filter(|b| !matches!(b, 0 | b' ')).collect();
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = b.checked_sub(b'0').filter(|d| *d < 8)?;
        n.checked_mul(8)?.checked_add(u64::from(digit))
    })
}

/// Reads `length key=value` lines; only the name and the size matter.
fn extended_header(text: &str, given: &mut Override) {
    for line in text.lines() {
        let Some((key, value)) = line.split_once(' ').and_then(|(_, pair)| pair.split_once('=')) else {
            continue;
        };
        match key {
            "path" => given.name = Some(value.to_string()),
            "size" => given.size = value.parse().ok(),
            _ => {}
        }
    }
}
