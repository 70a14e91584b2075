//! Sources whose samples carry a label map that was checked and brought to class numbers.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{IGNORED, read_label_map};
use crate::data::source::{Sample, Source};
use crate::{Error, Result};

/// Pictures of one folder with label maps of another.
pub struct PairedSource {
    pictures: Arc<dyn Source>,
    maps: Vec<PathBuf>,
}

impl PairedSource {
    /// Picture `i` belongs to map `i`.
    pub fn new(pictures: Arc<dyn Source>, maps: Vec<PathBuf>) -> Self {
        PairedSource { pictures, maps }
    }
}

impl Source for PairedSource {
    fn len(&self) -> usize {
        self.maps.len()
    }
    fn load(&self, index: usize) -> Result<Sample> {
        let mut sample = self.pictures.load(index)?;
        let path = self.maps.get(index).ok_or_else(|| Error::data("no such label map"))?;
        let map = read_label_map(path)?;
        if (map.width, map.height) != (sample.picture.width, sample.picture.height) {
            return Err(Error::data("label map of another size than its picture")
                .at(path.display().to_string())
                .expected(format!("{} x {}", sample.picture.width, sample.picture.height))
                .got(format!("{} x {}", map.width, map.height)));
        }
        sample.segmentation = Some(map.labels);
        Ok(sample)
    }
    fn name(&self, index: usize) -> String {
        self.maps.get(index).map_or_else(String::new, |p| p.display().to_string())
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.pictures.fingerprint());
        for map in &self.maps {
            hash.update(map.file_name().unwrap_or_default().to_string_lossy().as_bytes());
            hash.update(b"\n");
        }
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }
}

/// What the numbers of a label map mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelRule {
    /// Number of classes.
    pub classes: usize,
    /// ADE20K's rule: 0 does not count, class `k` is stored as `k + 1` (beit-spec §7.6).
    pub reduce_zero: bool,
}

impl LabelRule {
    /// The class of a stored number, 255 if the pixel does not count; None if it is no class.
    pub fn class(self, stored: u8) -> Option<u8> {
        let class = match (self.reduce_zero, stored) {
            (_, IGNORED) | (true, 0) => return Some(IGNORED),
            (true, k) => k - 1,
            (false, k) => k,
        };
        (usize::from(class) < self.classes).then_some(class)
    }
    /// The numbers that a map may hold, for messages.
    pub fn allowed(self) -> String {
        match self.reduce_zero {
            true => format!("1 to {}, 0 or 255 for pixels that do not count", self.classes),
            false => format!("0 to {}, 255 for pixels that do not count", self.classes.saturating_sub(1)),
        }
    }
    /// Brings a whole map to class numbers.
    ///
    /// # Errors
    /// If a number is no class.
    pub fn apply(self, map: &mut [u8]) -> Result<()> {
        let table: Vec<Option<u8>> = (0..=255).map(|stored| self.class(stored)).collect();
        for label in map {
            match table[usize::from(*label)] {
                Some(class) => *label = class,
                None => return Err(self.refuse(*label)),
            }
        }
        Ok(())
    }
    /// The error about a number that is no class.
    pub fn refuse(self, stored: u8) -> Error {
        Error::data("a label that is no class").expected(self.allowed()).got(stored.to_string()).hint(
            match self.reduce_zero {
                true => "give the number of classes with --classes",
                false => {
                    "give the number of classes with --classes, or --reduce-zero-label if 0 means unlabelled"
                }
            },
        )
    }
}

/// A source whose label maps hold class numbers below the number of classes, or 255.
pub struct Labelled {
    source: Arc<dyn Source>,
    names: Vec<String>,
    rule: LabelRule,
}

impl Labelled {
    /// Applies a rule to every map; `names` are those of the classes.
    pub fn new(source: Arc<dyn Source>, names: Vec<String>, rule: LabelRule) -> Self {
        Labelled { source, names, rule }
    }
}

impl Source for Labelled {
    fn len(&self) -> usize {
        self.source.len()
    }
    fn load(&self, index: usize) -> Result<Sample> {
        let mut sample = self.source.load(index)?;
        let Some(map) = &mut sample.segmentation else {
            return Err(Error::data("a picture without a label map").at(self.name(index)));
        };
        self.rule.apply(map).map_err(|e| e.at(self.source.name(index)))?;
        sample.label = None;
        Ok(sample)
    }
    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }
    fn classes(&self) -> &[String] {
        &self.names
    }
    fn fingerprint(&self) -> String {
        format!("{}:{}:{}", self.source.fingerprint(), self.rule.classes, self.rule.reduce_zero)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_classes() {
        let plain = LabelRule { classes: 3, reduce_zero: false };
        let reduced = LabelRule { classes: 3, reduce_zero: true };
        assert_eq!([0, 2, 3, 255].map(|l| plain.class(l)), [Some(0), Some(2), None, Some(255)]);
        assert_eq!(
            [0, 1, 3, 4, 255].map(|l| reduced.class(l)),
            [Some(255), Some(0), Some(2), None, Some(255)]
        );
        assert!(plain.apply(&mut [0, 7]).unwrap_err().to_string().contains("no class"));
    }
}
