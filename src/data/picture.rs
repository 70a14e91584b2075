//! An 8-bit RGB picture and a rectangle in it.

/// A decoded picture: 8-bit RGB, rows from the top, `[height, width, 3]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `3 * width * height` samples, red first.
    pub rgb: Vec<u8>,
}

/// A rectangle in pixels; it may touch but not cross the edges of its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Picture {
    /// A picture of one colour.
    pub fn flat(width: usize, height: usize, colour: [u8; 3]) -> Self {
        Picture { width, height, rgb: colour.repeat(width * height) }
    }

    /// The rectangle that is the whole picture.
    pub fn whole(&self) -> Crop {
        Crop { left: 0, top: 0, width: self.width, height: self.height }
    }

    /// The largest centred square.
    pub fn centre_square(&self) -> Crop {
        let side = self.width.min(self.height);
        Crop { left: (self.width - side) / 2, top: (self.height - side) / 2, width: side, height: side }
    }

    /// The largest centred rectangle with the aspect of (height, width).
    pub fn centred(&self, (h, w): (usize, usize)) -> Crop {
        let width = self.width.min(self.height * w / h.max(1)).max(self.width.min(1));
        let height = self.height.min(self.width * h / w.max(1)).max(self.height.min(1));
        Crop { left: (self.width - width) / 2, top: (self.height - height) / 2, width, height }
    }

    /// The samples of the part of row `y` (counted in the crop) that lies in `crop`; empty outside of the picture.
    pub fn row(&self, crop: Crop, y: usize) -> &[u8] {
        let start = ((crop.top + y) * self.width + crop.left) * 3;
        self.rgb.get(start..start + crop.width * 3).unwrap_or(&[])
    }

    /// A copy of a rectangle.
    pub fn cut(&self, crop: Crop) -> Picture {
        let crop = crop.inside(self);
        let mut rgb = Vec::with_capacity(crop.width * crop.height * 3);
        for y in 0..crop.height {
            rgb.extend_from_slice(self.row(crop, y));
        }
        Picture { width: crop.width, height: crop.height, rgb }
    }

    /// The mirror image, left and right exchanged.
    pub fn mirrored(&self) -> Picture {
        let mut rgb = Vec::with_capacity(self.rgb.len());
        for row in self.rgb.chunks_exact((self.width * 3).max(1)) {
            rgb.extend(row.rchunks_exact(3).flatten());
        }
        Picture { width: self.width, height: self.height, rgb }
    }
}

impl Crop {
    /// The part of this rectangle that lies inside the picture.
    pub fn inside(self, picture: &Picture) -> Crop {
        let (left, top) = (self.left.min(picture.width), self.top.min(picture.height));
        Crop {
            left,
            top,
            width: self.width.min(picture.width - left),
            height: self.height.min(picture.height - top),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_and_mirror() {
        let picture = Picture { width: 2, height: 2, rgb: (0..12).collect() };
        assert_eq!(picture.mirrored().rgb, [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]);
        let corner = picture.cut(Crop { left: 1, top: 1, width: 5, height: 5 });
        assert_eq!((corner.width, corner.height, corner.rgb), (1, 1, vec![9, 10, 11]));
        assert_eq!(picture.cut(Crop { left: 9, top: 9, width: 1, height: 1 }).rgb, Vec::<u8>::new());
        let wide = Picture::flat(90, 60, [0; 3]);
        assert_eq!(wide.centred((1, 1)), wide.centre_square());
        assert_eq!(wide.centred((3, 4)), Crop { left: 5, top: 0, width: 80, height: 60 });
    }
}
