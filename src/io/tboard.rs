//! TensorBoard event files: scalars and PNG pictures.
//!
//! A file is a row of records `length: u64, crc(length): u32, payload, crc(payload): u32` (all little-endian,
//! the checksums CRC-32C in a masked form); a payload is an `Event` in protocol-buffer encoding.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A picture for TensorBoard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventImage<'a> {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The encoded file.
    pub png: &'a [u8],
}

/// Step and time of an event. The time only labels axes; training never depends on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    /// Training step.
    pub step: u64,
    /// Seconds since 1970.
    pub wall_time: f64,
}

/// The record that must come first in a file.
pub fn header_record(wall_time: f64) -> Vec<u8> {
    let mut event = event(Stamp { step: 0, wall_time });
    put_bytes(&mut event, 3, b"brain.Event:2");
    frame(&event)
}

/// The record that a resumed run starts with: viewers drop earlier values from this step on.
pub fn restart_record(at: Stamp) -> Vec<u8> {
    let mut event = event(at);
    put_bytes(&mut event, 7, &[0x08, 1]); // SessionLog { status: START }
    frame(&event)
}

/// One record with any number of scalars.
pub fn scalars_record(at: Stamp, values: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in values {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, tag.as_bytes());
        put_key(&mut value, 2, Wire::Fixed32);
        value.extend_from_slice(&number.to_le_bytes());
        put_bytes(&mut summary, 1, &value);
    }
    summary_record(at, &summary)
}

/// One record with a picture.
pub fn image_record(at: Stamp, tag: &str, image: EventImage) -> Vec<u8> {
    let mut picture = Vec::new();
    for (field, number) in [(1, image.height), (2, image.width), (3, 3)] {
        put_key(&mut picture, field, Wire::Varint); // field 3: colour space, 3 is RGB
        put_varint(&mut picture, u64::from(number));
    }
    put_bytes(&mut picture, 4, image.png);
    let mut value = Vec::new();
    put_bytes(&mut value, 1, tag.as_bytes());
    put_bytes(&mut value, 4, &picture);
    let mut summary = Vec::new();
    put_bytes(&mut summary, 1, &value);
    summary_record(at, &summary)
}

/// An event file that is appended to while a run trains.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Starts the next event file in `dir`. Names count up, so that they do not depend on the clock
    /// and a resumed run leaves the earlier file alone.
    pub fn create(dir: &Path, wall_time: f64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, &e))?;
        let mut number = 1u32;
        loop {
            let path = dir.join(format!("events.out.tfevents.{number:010}.beit"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let mut events = EventFile { file, path };
                    events.append(&header_record(wall_time))?;
                    return Ok(events);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && number < 100_000 => number += 1,
                Err(e) => return Err(Error::io("cannot create", &path, &e)),
            }
        }
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Adds scalars of one step.
    pub fn scalars(&mut self, at: Stamp, values: &[(&str, f32)]) -> Result<()> {
        self.append(&scalars_record(at, values))
    }
    /// Adds a picture.
    pub fn image(&mut self, at: Stamp, tag: &str, image: EventImage) -> Result<()> {
        self.append(&image_record(at, tag, image))
    }
    /// Marks that the run goes on from this step.
    pub fn restart(&mut self, at: Stamp) -> Result<()> {
        self.append(&restart_record(at))
    }
    fn append(&mut self, record: &[u8]) -> Result<()> {
        self.file.write_all(record).map_err(|e| Error::io("cannot write", &self.path, &e))
    }
}

#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

fn event(at: Stamp) -> Vec<u8> {
    let mut out = Vec::new();
    put_key(&mut out, 1, Wire::Fixed64);
    out.extend_from_slice(&at.wall_time.to_le_bytes());
    put_key(&mut out, 2, Wire::Varint);
    put_varint(&mut out, at.step);
    out
}

fn summary_record(at: Stamp, summary: &[u8]) -> Vec<u8> {
    let mut event = event(at);
    put_bytes(&mut event, 5, summary);
    frame(&event)
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(out, field << 3 | wire as u64);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, Wire::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, lowest first; the top bit says that more follow.
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&masked_crc(payload).to_le_bytes());
    out
}

/// Checksums inside checksummed data are rotated and shifted by a constant, as the format demands.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit-reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        // the table has an entry for every value of a byte
        let entry = CRC_TABLE.get(usize::from(crc as u8 ^ byte)).copied().unwrap_or(0);
        (crc >> 8) ^ entry
    })
}

static CRC_TABLE: [u32; 256] = crc_table();

#[allow(clippy::indexing_slicing)] // evaluated by the compiler, where a wrong index is a build error
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes records apart again, checking both checksums.
    fn payloads(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let crc = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(crc(8), masked_crc(&bytes[..8]));
            let payload = &bytes[12..12 + length];
            assert_eq!(crc(12 + length), masked_crc(payload));
            out.push(payload.to_vec());
            bytes = &bytes[16 + length..];
        }
        out
    }

    #[test]
    fn checksum_has_the_published_value() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283); // check value of the CRC catalogue
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
    }

    #[test]
    fn records_come_apart_again() {
        let at = Stamp { step: 300, wall_time: 1.5 };
        let mut file = header_record(0.0);
        file.extend(scalars_record(at, &[("loss", 5.25)]));
        file.extend(image_record(at, "sheet", EventImage { width: 2, height: 1, png: b"PNG" }));
        file.extend(restart_record(at));
        let records = payloads(&file);
        assert_eq!(records.len(), 4);
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        let mut expected = vec![0x09];
        expected.extend(1.5f64.to_le_bytes());
        expected.extend([0x10, 0xac, 0x02]); // step 300 as a varint
        expected.extend([0x2a, 13, 0x0a, 11, 0x0a, 4]);
        expected.extend(b"loss");
        expected.push(0x15);
        expected.extend(5.25f32.to_le_bytes());
        assert_eq!(records[1], expected);
        assert!(records[2].ends_with(b"\x0a\x05sheet\x22\x0b\x08\x01\x10\x02\x18\x03\x22\x03PNG"));
        assert!(records[3].ends_with(&[0x3a, 2, 0x08, 1]));
    }

    #[test]
    fn files_count_up() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..3 {
            let mut events = EventFile::create(dir.path(), 0.0).unwrap();
            events.scalars(Stamp { step: 1, wall_time: 0.0 }, &[("a", 1.0)]).unwrap();
            assert!(events.path().ends_with(format!("events.out.tfevents.{number:010}.beit")));
            assert_eq!(payloads(&std::fs::read(events.path()).unwrap()).len(), 2);
        }
    }
}
