//! An RGB picture to draw on: rectangles, enlarged pictures, text.

use super::font;
use crate::data::{Crop, Filter, Picture, resize};

/// Background of sheets and boards.
pub(super) const PAPER: [u8; 3] = [250, 250, 248];
/// Text.
pub(super) const INK: [u8; 3] = [38, 40, 46];
/// Less important text.
pub(super) const FAINT: [u8; 3] = [104, 108, 118];
/// An empty place.
pub(super) const EMPTY: [u8; 3] = [232, 232, 228];

/// A picture under construction; what falls outside of it is left out.
#[derive(Debug, Clone)]
pub struct Canvas {
    picture: Picture,
}

impl Canvas {
    /// An empty sheet of paper, sides in pixels.
    pub fn new(width: usize, height: usize) -> Self {
        Canvas { picture: Picture::flat(width, height, PAPER) }
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, colour: [u8; 3]) {
        let p = &mut self.picture;
        let (x_end, y_end) = ((x + width).min(p.width), (y + height).min(p.height));
        for row in y..y_end {
            let start = (row * p.width + x.min(x_end)) * 3;
            let end = (row * p.width + x_end) * 3;
            if let Some(pixels) = p.rgb.get_mut(start..end) {
                pixels.as_chunks_mut().0.fill(colour);
            }
        }
    }

    /// Draws a picture with every pixel as a square of `scale` pixels.
    pub fn enlarged(&mut self, picture: &Picture, x: usize, y: usize, scale: usize) {
        for (row, line) in picture.rgb.chunks_exact(picture.width.max(1) * 3).enumerate() {
            for (column, pixel) in line.as_chunks().0.iter().enumerate() {
                self.fill(x + column * scale, y + row * scale, scale, scale, *pixel);
            }
        }
    }

    /// Draws a picture enlarged by `scale` without visible pixels (bicubic): what an eye sees of a small picture.
    pub fn enlarged_smoothly(&mut self, picture: &Picture, x: usize, y: usize, scale: usize) {
        let whole = Crop { left: 0, top: 0, width: picture.width, height: picture.height };
        let large = resize(picture, whole, picture.width * scale, picture.height * scale, Filter::Bicubic);
        self.enlarged(&large, x, y, 1);
    }

    /// Writes a line of text; `size` is the enlargement of the 5×7 font.
    pub fn text(&mut self, text: &str, x: usize, y: usize, size: usize, colour: [u8; 3]) {
        for (i, c) in text.chars().enumerate() {
            for (column, row) in font::pixels(c) {
                let left = x + (i * font::ADVANCE + column) * size;
                self.fill(left, y + row * size, size, size, colour);
            }
        }
    }

    /// The picture.
    pub fn into_picture(self) -> Picture {
        self.picture
    }
}

/// Width in pixels of a text drawn at an enlargement of `size`.
pub(super) fn text_width(text: &str, size: usize) -> usize {
    font::text_width(text) * size
}

/// Height in pixels of a line of text.
pub(super) fn line_height(size: usize) -> usize {
    font::LINE * size
}
