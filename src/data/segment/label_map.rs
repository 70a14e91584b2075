//! A class for every pixel, from a PNG whose samples are class numbers: grey, or the indices of a palette.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::IGNORED;
use crate::data::decode::ImageLimits;
use crate::{Error, Result};

/// Class numbers, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width]`, 255 = does not count.
    pub labels: Vec<u8>,
}

/// What a label map must be, for messages.
const WANTED: &str = "a PNG of 8-bit grey or palette samples that are the class numbers";

/// Reads a label map as it is stored; of a palette the indices count, not the colours.
///
/// # Errors
/// If the file is no PNG, holds colours, or has class numbers beyond 255.
pub fn read_label_map(path: &Path) -> Result<LabelMap> {
    let here = path.display().to_string();
    let damaged = |e: png::DecodingError| {
        Error::data("damaged or unreadable label map").at(here.clone()).expected(WANTED).got(e.to_string())
    };
    let file = File::open(path).map_err(|e| Error::io("cannot read label map", path, &e))?;
    let limits = ImageLimits::default();
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::IDENTITY);
    decoder.set_limits(png::Limits { bytes: usize::try_from(limits.memory).unwrap_or(usize::MAX) });
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let (width, height) = (info.width as usize, info.height as usize);
    let (colour, depth) = (info.color_type, info.bit_depth);
    if u64::from(info.width) * u64::from(info.height) > limits.pixels {
        return Err(Error::data("label map too large").at(here).got(format!("{width} x {height}")));
    }
    if !matches!(colour, png::ColorType::Grayscale | png::ColorType::Indexed) {
        return Err(Error::data("a label map with colours instead of class numbers")
            .at(here)
            .expected(WANTED)
            .got(format!("{colour:?} samples"))
            .hint("save it with one number a pixel; a palette keeps its colours for the eye"));
    }
    let size =
        reader.output_buffer_size().ok_or_else(|| Error::data("label map too large").at(here.clone()))?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(damaged)?;
    let labels = unpack(&raw, frame.line_size, (width, height), depth).ok_or_else(|| {
        Error::data("class numbers beyond 255").at(here).expected(WANTED).got("16-bit samples above 255")
    })?;
    Ok(LabelMap { width, height, labels })
}

/// One byte a pixel from rows of packed samples; None where a 16-bit sample does not fit.
fn unpack(raw: &[u8], line: usize, (width, height): (usize, usize), depth: png::BitDepth) -> Option<Vec<u8>> {
    let bits = depth as usize;
    let mut out = Vec::with_capacity(width * height);
    for row in raw.chunks_exact(line.max(1)).take(height) {
        for x in 0..width {
            let value = match bits {
                8 => row[x],
                16 if row[2 * x] == 0 => row[2 * x + 1],
                16 => return None,
                _ => {
                    let per_byte = 8 / bits;
                    let shift = 8 - bits * (x % per_byte + 1);
                    (row[x / per_byte] >> shift) & ((1u16 << bits) - 1) as u8
                }
            };
            out.push(value);
        }
    }
    Some(out)
}

impl LabelMap {
    /// The nearest label at every pixel of another size.
    pub fn resized(&self, width: usize, height: usize) -> LabelMap {
        let near = |d: usize, from: usize, to: usize| ((2 * d + 1) * from / (2 * to)).min(from - 1);
        let columns: Vec<usize> = (0..width).map(|x| near(x, self.width, width)).collect();
        let mut labels = Vec::with_capacity(width * height);
        for y in 0..height {
            let row = &self.labels[near(y, self.height, height) * self.width..][..self.width];
            labels.extend(columns.iter().map(|&x| row[x]));
        }
        LabelMap { width, height, labels }
    }
    /// A window; what lies outside the map does not count.
    pub fn window(&self, (left, top): (usize, usize), (width, height): (usize, usize)) -> LabelMap {
        let mut labels = vec![IGNORED; width * height];
        let columns = self.width.saturating_sub(left).min(width);
        for y in 0..self.height.saturating_sub(top).min(height) {
            let from = (top + y) * self.width + left;
            labels[y * width..][..columns].copy_from_slice(&self.labels[from..][..columns]);
        }
        LabelMap { width, height, labels }
    }
    /// Left and right exchanged.
    pub fn mirrored(&self) -> LabelMap {
        let labels = self.labels.chunks_exact(self.width.max(1)).flat_map(|r| r.iter().rev().copied());
        LabelMap { labels: labels.collect(), ..*self }
    }
    /// Share of the commonest class among pixels that count; 0 if none do.
    pub fn commonest_share(&self) -> f64 {
        let mut counts = [0u64; 256];
        self.labels.iter().for_each(|&l| counts[usize::from(l)] += 1);
        let counted = &counts[..usize::from(IGNORED)];
        let all: u64 = counted.iter().sum();
        counted.iter().max().map_or(0.0, |&n| n as f64 / all.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(
        dir: &Path,
        name: &str,
        colour: png::ColorType,
        depth: png::BitDepth,
        data: &[u8],
    ) -> std::path::PathBuf {
        let path = dir.join(name);
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 5, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette((0..48u8).collect::<Vec<u8>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        path
    }

    #[test]
    fn grey_and_palette_maps_of_every_depth() {
        use png::{BitDepth, ColorType};
        let dir = tempfile::tempdir().unwrap();
        let want = [0, 1, 2, 3, 0, 3, 2, 1, 0, 1];
        for (name, colour, depth, data) in [
            ("8.png", ColorType::Grayscale, BitDepth::Eight, want.to_vec()),
            ("p8.png", ColorType::Indexed, BitDepth::Eight, want.to_vec()),
            ("p4.png", ColorType::Indexed, BitDepth::Four, vec![0x01, 0x23, 0x00, 0x32, 0x10, 0x10]),
            ("p2.png", ColorType::Indexed, BitDepth::Two, vec![0b0001_1011, 0, 0b1110_0100, 0b0100_0000]),
            ("16.png", ColorType::Grayscale, BitDepth::Sixteen, want.iter().flat_map(|&v| [0, v]).collect()),
        ] {
            let map = read_label_map(&write(dir.path(), name, colour, depth, &data)).unwrap();
            assert_eq!((map.width, map.height, &map.labels[..]), (5, 2, &want[..]), "{name}");
        }
        let rgb = write(dir.path(), "rgb.png", ColorType::Rgb, BitDepth::Eight, &[7; 30]);
        assert!(read_label_map(&rgb).unwrap_err().to_string().contains("colours instead of class numbers"));
        let deep = write(dir.path(), "deep.png", ColorType::Grayscale, BitDepth::Sixteen, &[1; 20]);
        assert!(read_label_map(&deep).unwrap_err().to_string().contains("beyond 255"));
        std::fs::write(dir.path().join("no.png"), b"nothing").unwrap();
        assert!(read_label_map(&dir.path().join("no.png")).is_err());
    }

    #[test]
    fn windows_and_sizes() {
        let map = LabelMap { width: 3, height: 2, labels: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(map.window((1, 1), (3, 2)).labels, [5, 6, 255, 255, 255, 255]);
        assert_eq!(map.mirrored().labels, [3, 2, 1, 6, 5, 4]);
        assert_eq!(map.resized(6, 2).labels, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]);
        assert_eq!(map.resized(1, 1).labels, [5]);
        assert!((map.commonest_share() - 1.0 / 6.0).abs() < 1e-12);
    }
}
