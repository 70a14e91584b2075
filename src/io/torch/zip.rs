//! The zip container of `torch.save`: stored entries only, read through the central directory.

use super::{Storages, bad, shown};
use crate::error::Result;
use crate::io::limits::FileLimits;
use std::collections::BTreeMap;

/// Entries beside the storages: the pickle, byte order, versions.
const OTHER_ENTRIES: usize = 64;
/// Optimiser state has up to three storages for each tensor of the model.
const STORAGES: usize = 4;

/// Name to bytes.
pub(super) struct Archive<'a> {
    entries: BTreeMap<String, &'a [u8]>,
    /// Folder in the archive that everything lies in.
    root: String,
    len: usize,
}

impl<'a> Archive<'a> {
    pub fn read(bytes: &'a [u8], limits: &FileLimits) -> Result<Self> {
        let directory = Directory::find(bytes)?;
        let most = STORAGES * limits.tensors + OTHER_ENTRIES;
        if directory.entries > most as u64 {
            return Err(bad("too many entries in a zip file")
                .expected(format!("at most {most}"))
                .got(directory.entries.to_string()));
        }
        let mut entries = BTreeMap::new();
        let mut at = directory.offset;
        for _ in 0..directory.entries {
            let entry = Entry::parse(bytes, &mut at)?;
            let data = entry.data(bytes).map_err(|e| e.at(shown(&entry.name)))?;
            let name = entry.name;
            if entries.insert(name.clone(), data).is_some() {
                return Err(bad("an entry of a zip file is given twice").at(shown(&name)));
            }
        }
        let mut roots = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let root = match (roots.next(), roots.next()) {
            (Some(root), None) => root.to_owned(),
            _ => return Err(bad("a zip file that torch.save did not write").expected("one data.pkl")),
        };
        let archive = Archive { entries, root, len: bytes.len() };
        if archive.entries.contains_key(&format!("{}constants.pkl", archive.root)) {
            return Err(bad("a TorchScript program").expected("a file of torch.save"));
        }
        if archive.entries.get(&format!("{}byteorder", archive.root)).is_some_and(|&order| order != b"little")
        {
            return Err(bad("a file with the other byte order").expected("little"));
        }
        Ok(archive)
    }
    /// The pickle.
    pub fn pickle(&self) -> Result<&'a [u8]> {
        let found = self.entries.get(&format!("{}data.pkl", self.root)).copied();
        found.ok_or_else(|| bad("a zip file without data.pkl"))
    }
}

impl Storages for Archive<'_> {
    fn bytes(&self, key: &str, elements: usize, width: usize) -> Result<&[u8]> {
        let found = self.entries.get(&format!("{}data/{key}", self.root)).copied();
        let found =
            found.ok_or_else(|| bad("a storage that the file lacks").got(format!("data/{}", shown(key))))?;
        if elements.checked_mul(width) != Some(found.len()) {
            return Err(bad("a storage of another length")
                .at(format!("data/{}", shown(key)))
                .expected(format!("{elements} elements of {width} bytes"))
                .got(format!("{} bytes", found.len())));
        }
        Ok(found)
    }
    fn file_len(&self) -> usize {
        self.len
    }
}

/// Where the central directory is.
struct Directory {
    offset: usize,
    entries: u64,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u64::from(u16::from_le_bytes(*part)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u64::from(u32::from_le_bytes(*part)))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let part = bytes.get(at..)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*part))
}

impl Directory {
    /// Finds the end record (22 bytes, no comment: torch writes none) and, if it is there, that of zip64.
    fn find(bytes: &[u8]) -> Result<Self> {
        let damaged = || {
            bad("truncated or damaged zip file").expected("a file of torch.save that ends with its directory")
        };
        let end = bytes
            .len()
            .checked_sub(22)
            .filter(|&at| bytes.get(at..).is_some_and(|b| b.starts_with(b"PK\x05\x06")));
        let end = end.ok_or_else(damaged)?;
        let (mut entries, mut offset) =
            u16_at(bytes, end + 10).zip(u32_at(bytes, end + 16)).ok_or_else(damaged)?;
        let locator =
            end.checked_sub(20).filter(|&at| bytes.get(at..).is_some_and(|b| b.starts_with(b"PK\x06\x07")));
        if let Some(locator) = locator {
            let at =
                u64_at(bytes, locator + 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(damaged)?;
            if !bytes.get(at..).is_some_and(|b| b.starts_with(b"PK\x06\x06")) {
                return Err(damaged());
            }
            let field =
                |delta: usize| at.checked_add(delta).and_then(|at| u64_at(bytes, at)).ok_or_else(damaged);
            (entries, offset) = (field(32)?, field(48)?);
        }
        Ok(Directory { offset: usize::try_from(offset).map_err(|_| damaged())?, entries })
    }
}

/// A record of the central directory.
struct Entry {
    name: String,
    method: u64,
    flags: u64,
    packed: u64,
    size: u64,
    header: u64,
}

impl Entry {
    /// Parses the record at `at` and moves `at` behind it.
    fn parse(bytes: &[u8], at: &mut usize) -> Result<Self> {
        let begin = *at;
        Self::parse_at(bytes, at)
            .ok_or_else(|| bad("damaged directory of a zip file").at(format!("byte {begin}")))
    }
    fn parse_at(bytes: &[u8], at: &mut usize) -> Option<Self> {
        let record = bytes.get(*at..)?;
        if !record.starts_with(b"PK\x01\x02") {
            return None;
        }
        let (name_len, extra_len, comment_len) =
            (u16_at(record, 28)? as usize, u16_at(record, 30)? as usize, u16_at(record, 32)? as usize);
        let name = std::str::from_utf8(record.get(46..46 + name_len)?).ok()?.to_owned();
        let extra = record.get(46 + name_len..46 + name_len + extra_len)?;
        let mut entry = Entry {
            name,
            flags: u16_at(record, 8)?,
            method: u16_at(record, 10)?,
            packed: u32_at(record, 20)?,
            size: u32_at(record, 24)?,
            header: u32_at(record, 42)?,
        };
        entry.widen(extra)?;
        *at = at.checked_add(46 + name_len + extra_len + comment_len)?;
        Some(entry)
    }
    /// Fields that do not fit 32 bits stand in the zip64 extra field, in this order.
    fn widen(&mut self, mut extra: &[u8]) -> Option<()> {
        while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let body = extra.get(4..4 + len as usize)?;
            if id == 1 {
                let mut fields = body.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b));
                for field in [&mut self.size, &mut self.packed, &mut self.header] {
                    if *field == u64::from(u32::MAX) {
                        *field = fields.next()?;
                    }
                }
            }
            extra = extra.get(4 + len as usize..)?;
        }
        Some(())
    }
    /// The entry's bytes, behind its local header.
    fn data<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8]> {
        if self.method != 0 || self.packed != self.size || self.flags & 1 != 0 {
            return Err(
                bad("a compressed or encrypted entry in a zip file").expected("stored, as torch.save does")
            );
        }
        self.stored(bytes)
            .ok_or_else(|| bad("an entry outside its zip file").expected(format!("{} bytes", self.size)))
    }
    fn stored<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let local = bytes.get(usize::try_from(self.header).ok()?..)?;
        if !local.starts_with(b"PK\x03\x04") {
            return None;
        }
        let begin = 30 + u16_at(local, 26)? as usize + u16_at(local, 28)? as usize;
        local.get(begin..begin.checked_add(usize::try_from(self.size).ok()?)?)
    }
}
