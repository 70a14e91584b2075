//! Pictures held in memory: what a person dropped into a window or a page.

use super::{Sample, Source};
use crate::data::{Filter, Picture, resize};
use crate::error::{Error, Result};

/// Most pixels of a side that is kept of a picture.
const KEPT_SIDE: usize = 256;
/// Most pictures.
const MOST: usize = 1000;

/// The picture with sides of at most `most` pixels.
pub fn reduced(picture: &Picture, most: usize) -> Picture {
    let longest = picture.width.max(picture.height).max(1);
    if longest <= most {
        return picture.clone();
    }
    let shrink = |side: usize| (side * most / longest).max(1);
    resize(picture, picture.whole(), shrink(picture.width), shrink(picture.height), Filter::Bicubic)
}

/// Pictures in memory, in the order they were added.
#[derive(Debug, Clone, Default)]
pub struct Album {
    pictures: Vec<Picture>,
}

impl Album {
    /// Adds a picture, reduced to at most 256 pixels a side, and gives their number.
    ///
    /// # Errors
    /// If there are too many.
    pub fn add(&mut self, picture: &Picture) -> Result<usize> {
        if self.pictures.len() == MOST {
            return Err(Error::data("too many pictures").expected(format!("at most {MOST}")));
        }
        self.pictures.push(reduced(picture, KEPT_SIDE));
        Ok(self.pictures.len())
    }
    /// Forgets all pictures.
    pub fn clear(&mut self) {
        self.pictures.clear();
    }
}

impl Source for Album {
    fn len(&self) -> usize {
        self.pictures.len()
    }
    fn load(&self, index: usize) -> Result<Sample> {
        let picture = self.pictures.get(index).cloned();
        let picture = picture.ok_or_else(|| Error::data("no such picture").got(index.to_string()))?;
        Ok(Sample { picture, label: None, segmentation: None })
    }
    fn name(&self, index: usize) -> String {
        format!("picture {}", index + 1)
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn fingerprint(&self) -> String {
        format!("album:{}", self.pictures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_reduced() {
        let mut all = Album::default();
        assert_eq!(all.add(&Picture::flat(1000, 500, [9, 8, 7])).unwrap(), 1);
        assert_eq!(all.add(&Picture::flat(3, 40, [9, 8, 7])).unwrap(), 2);
        let sizes: Vec<_> =
            (0..2).map(|i| all.load(i).unwrap().picture).map(|p| (p.width, p.height)).collect();
        assert_eq!(sizes, [(256, 128), (3, 40)]);
        assert!(all.load(2).is_err());
    }
}
