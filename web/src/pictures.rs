//! Pictures between JavaScript and the engine, and the visitor's pictures as a training set.

use beit::data::{Filter, Picture, Sample, Source, resize};
use beit::{Error, Result};

/// Most pixels of a side that is kept of a training picture.
const KEPT_SIDE: usize = 256;
/// Most training pictures.
const MOST: usize = 1000;

/// A picture of RGBA samples, as canvases give them. Transparency is dropped.
pub(crate) fn of_rgba(width: usize, height: usize, rgba: &[u8]) -> Result<Picture> {
    let pixels = width.checked_mul(height).filter(|&n| n > 0 && n <= 16_000_000);
    if pixels.and_then(|n| n.checked_mul(4)) != Some(rgba.len()) {
        return Err(Error::data("picture data of the wrong length")
            .expected(format!("4 x {width} x {height} bytes, at most 16 million pixels"))
            .got(rgba.len().to_string()));
    }
    let rgb = rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    Ok(Picture { width, height, rgb })
}

/// The picture with sides of at most `most` pixels.
pub(crate) fn reduced(picture: &Picture, most: usize) -> Picture {
    let longest = picture.width.max(picture.height).max(1);
    if longest <= most {
        return picture.clone();
    }
    let shrink = |side: usize| (side * most / longest).max(1);
    resize(picture, picture.whole(), shrink(picture.width), shrink(picture.height), Filter::Bicubic)
}

/// The visitor's pictures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dropped {
    pictures: Vec<Picture>,
}

impl Dropped {
    /// Adds a picture, reduced to at most 256 pixels a side.
    pub(crate) fn add(&mut self, picture: &Picture) -> Result<usize> {
        if self.pictures.len() == MOST {
            return Err(Error::data("too many pictures").expected(format!("at most {MOST}")));
        }
        self.pictures.push(reduced(picture, KEPT_SIDE));
        Ok(self.pictures.len())
    }
    pub(crate) fn clear(&mut self) {
        self.pictures.clear();
    }
}

impl Source for Dropped {
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
        format!("dropped:{}", self.pictures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_checked() {
        assert_eq!(of_rgba(2, 1, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap().rgb, [1, 2, 3, 5, 6, 7]);
        for (w, h, n) in [(0, 0, 0), (2, 2, 15), (usize::MAX, 2, 4), (1 << 20, 1 << 20, 4)] {
            assert!(of_rgba(w, h, &vec![0; n]).is_err(), "{w} x {h}");
        }
    }

    #[test]
    fn training_pictures_are_reduced() {
        let mut all = Dropped::default();
        assert_eq!(all.add(&Picture::flat(1000, 500, [9, 8, 7])).unwrap(), 1);
        assert_eq!(all.add(&Picture::flat(3, 40, [9, 8, 7])).unwrap(), 2);
        let sizes: Vec<_> =
            (0..2).map(|i| all.load(i).unwrap().picture).map(|p| (p.width, p.height)).collect();
        assert_eq!(sizes, [(256, 128), (3, 40)]);
        assert!(all.load(2).is_err());
    }
}
