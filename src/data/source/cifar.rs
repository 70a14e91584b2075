//! The binary files of CIFAR-10 and CIFAR-100: records of label bytes and 32x32 pictures, one plane per colour.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Sample, Source, no_such, short_hash};
use crate::data::picture::Picture;
use crate::{Error, Result};

/// Pixels of one plane.
const PLANE: usize = 32 * 32;
/// Bytes of a picture.
const PIXELS: usize = 3 * PLANE;

/// Records of one or more files.
pub struct Cifar {
    files: Vec<BinaryFile>,
    /// Label bytes of a record: 1, or 2 (coarse, fine) of which the last counts.
    label_bytes: usize,
    classes: Vec<String>,
}

struct BinaryFile {
    path: PathBuf,
    records: usize,
}

/// The training and the held-out files of a folder, by their names.
pub fn parts(mut files: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let is_test = |p: &PathBuf| p.file_stem().is_some_and(|s| s.to_string_lossy().starts_with("test"));
    files.sort();
    files.into_iter().partition(|p| !is_test(p))
}

impl Cifar {
    /// Opens files of one kind.
    pub fn open(paths: &[PathBuf]) -> Result<Cifar> {
        let mut files = Vec::new();
        let mut kind = None;
        for path in paths {
            let size = fs::metadata(path).map_err(|e| Error::io("cannot read file", path, &e))?.len();
            let label_bytes = label_bytes(path, size)?;
            if *kind.get_or_insert(label_bytes) != label_bytes {
                return Err(Error::data("CIFAR-10 and CIFAR-100 files mixed").at(path.display().to_string()));
            }
            files.push(BinaryFile {
                path: path.clone(),
                records: (size / (label_bytes + PIXELS) as u64) as usize,
            });
        }
        let label_bytes = kind.unwrap_or(1);
        let classes = class_names(paths.first().and_then(|p| p.parent()), label_bytes);
        Ok(Cifar { files, label_bytes, classes })
    }

    /// The file of a record and its number there.
    fn locate(&self, index: usize) -> Option<(&BinaryFile, usize)> {
        let mut rest = index;
        for file in &self.files {
            if rest < file.records {
                return Some((file, rest));
            }
            rest -= file.records;
        }
        None
    }

    fn record(&self, file: &BinaryFile, number: usize) -> Result<Vec<u8>> {
        let failed = |e: std::io::Error| Error::io("cannot read file", &file.path, &e);
        let mut bytes = vec![0; self.label_bytes + PIXELS];
        let mut open = File::open(&file.path).map_err(failed)?;
        open.seek(SeekFrom::Start(number as u64 * bytes.len() as u64)).map_err(failed)?;
        open.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// The label byte of every record, without the pictures.
    fn label_column(&self) -> std::io::Result<Vec<u8>> {
        let mut labels = Vec::with_capacity(self.len());
        for file in &self.files {
            let mut open = File::open(&file.path)?;
            for number in 0..file.records {
                let last = number * (self.label_bytes + PIXELS) + self.label_bytes - 1;
                open.seek(SeekFrom::Start(last as u64))?;
                let mut byte = [0];
                open.read_exact(&mut byte)?;
                labels.extend(byte);
            }
        }
        Ok(labels)
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.files.iter().map(|f| f.records).sum()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        let (file, number) = self.locate(index).ok_or_else(|| no_such(index, self.len()))?;
        let record = self.record(file, number)?;
        let (labels, pixels) = record.split_at(self.label_bytes);
        let label = labels.last().map(|&l| u32::from(l)).filter(|&l| (l as usize) < self.classes.len());
        let label = label.ok_or_else(|| Error::data("label out of range").at(self.name(index)))?;
        Ok(Sample { picture: interleaved(pixels), label: Some(label), segmentation: None })
    }

    fn name(&self, index: usize) -> String {
        let name = |(file, number): (&BinaryFile, usize)| format!("{} record {number}", file.path.display());
        self.locate(index).map(name).unwrap_or_default()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn labels(&self) -> Option<Vec<Option<u32>>> {
        let all = self.label_column().ok()?;
        Some(all.into_iter().map(|l| Some(u32::from(l))).collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            hash.update(format!("{name}\0{}\0{}\n", file.records, self.label_bytes));
        }
        short_hash(hash)
    }
}

fn interleaved(planes: &[u8]) -> Picture {
    let mut rgb = vec![0; PIXELS];
    for (channel, plane) in planes.chunks_exact(PLANE).enumerate() {
        for (pixel, &v) in rgb.chunks_exact_mut(3).zip(plane) {
            if let Some(sample) = pixel.get_mut(channel) {
                *sample = v;
            }
        }
    }
    Picture { width: 32, height: 32, rgb }
}

/// One label byte or two, by the size of the file; by its name where both would fit.
fn label_bytes(path: &Path, size: u64) -> Result<usize> {
    let fits = |n: u64| size > 0 && size.is_multiple_of(n + PIXELS as u64);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    match (fits(1), fits(2)) {
        (true, true) if stem == "train" || stem == "test" => Ok(2),
        (true, _) => Ok(1),
        (_, true) => Ok(2),
        _ => Err(Error::data("not a CIFAR file")
            .at(path.display().to_string())
            .expected("whole records of 3073 (CIFAR-10) or 3074 (CIFAR-100) bytes")
            .got(format!("{size} bytes"))),
    }
}

/// Names from the text file beside the data, or numbers.
fn class_names(folder: Option<&Path>, label_bytes: usize) -> Vec<String> {
    let (file, count) =
        if label_bytes == 1 { ("batches.meta.txt", 10) } else { ("fine_label_names.txt", 100) };
    let text = folder.and_then(|f| fs::read_to_string(f.join(file)).ok()).unwrap_or_default();
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() == count { names } else { (0..count).map(|i| i.to_string()).collect() }
}
