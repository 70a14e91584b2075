//! A look at all label maps before the first step: sizes, class numbers, how many classes there are.

use std::path::Path;

use image::ImageDecoder;

use super::{IGNORED, LabelRule, read_label_map};
use crate::cpu::par_map;
use crate::{Error, Result};

/// Label maps that are read in full; of larger sets as many, evenly spread. Sizes are compared for all.
const READ: usize = 4000;

/// Stored numbers met in label maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapCensus {
    /// Pixels of each stored number.
    pub pixels: [u64; 256],
}

impl MapCensus {
    /// Number of classes of a set that names none: one more than the largest class.
    pub fn classes(&self, reduce_zero: bool) -> usize {
        let largest = (0..IGNORED).rev().find(|&l| self.pixels[usize::from(l)] > 0).unwrap_or(0);
        usize::from(largest) + usize::from(!reduce_zero)
    }
    /// Classes with at least one pixel.
    pub fn present(&self, rule: LabelRule) -> usize {
        let counts = |l: u8| self.pixels[usize::from(l)] > 0 && rule.class(l).is_some_and(|c| c != IGNORED);
        (0..=255).filter(|&l| counts(l)).count()
    }
    /// The largest stored number that is no class.
    pub fn beyond(&self, rule: LabelRule) -> Option<u8> {
        (0..=255).rev().find(|&l| self.pixels[usize::from(l)] > 0 && rule.class(l).is_none())
    }
}

/// Width and height of a picture as it will be decoded, from its header.
fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let failed = |e: image::ImageError| {
        Error::data("unreadable picture").at(path.display().to_string()).got(e.to_string())
    };
    let file = image::ImageReader::open(path).map_err(|e| Error::io("cannot read picture", path, &e))?;
    let file = file.with_guessed_format().map_err(|e| Error::io("cannot read picture", path, &e))?;
    let mut decoder = file.into_decoder().map_err(failed)?;
    let (w, h) = decoder.dimensions();
    use image::metadata::Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let turned = matches!(decoder.orientation(), Ok(Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH));
    Ok(if turned { (h as usize, w as usize) } else { (w as usize, h as usize) })
}

/// Compares the sizes of all pairs of picture and map, and counts the numbers in the maps. Pictures whose header
/// cannot be read are left to the loader, which counts unreadable files.
///
/// # Errors
/// The first pair, in order, that does not fit, or map that cannot be read.
pub fn census(pairs: &[(&Path, &Path)]) -> Result<MapCensus> {
    let every = pairs.len().div_ceil(READ).max(1);
    let chunk = 64;
    let one = |i: usize| -> Result<MapCensus> {
        let mut found = MapCensus { pixels: [0; 256] };
        for (at, (picture, map)) in pairs.iter().enumerate().skip(i * chunk).take(chunk) {
            let Ok(want) = dimensions(picture) else { continue };
            let got = if at % every == 0 {
                let read = read_label_map(map)?;
                read.labels.iter().for_each(|&l| found.pixels[usize::from(l)] += 1);
                (read.width, read.height)
            } else {
                dimensions(map)?
            };
            if want != got {
                return Err(Error::data("label map of another size than its picture")
                    .at(map.display().to_string())
                    .expected(format!("{} x {}, as {}", want.0, want.1, picture.display()))
                    .got(format!("{} x {}", got.0, got.1)));
            }
        }
        Ok(found)
    };
    let mut all = MapCensus { pixels: [0; 256] };
    for part in par_map(pairs.len().div_ceil(chunk), one) {
        let part = part?;
        all.pixels.iter_mut().zip(part.pixels).for_each(|(a, b)| *a += b);
    }
    Ok(all)
}
