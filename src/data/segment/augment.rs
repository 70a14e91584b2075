//! Random scale, crop, flip and colours of a picture and its label map together (beit-spec §7.6).

use super::LabelMap;
use crate::data::jitter::recolour;
use crate::data::picture::Picture;
use crate::data::resize::{Filter, resize};
use crate::rng::{Draws, Key};
use crate::{Error, Result};

/// Longest side of a scaled picture in units of the crop: 2048 for 512.
const LONG: f64 = 4.0;
/// Crops that are tried for one without a class that fills it.
const TRIES: usize = 10;

/// How training pictures are changed.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentAugment {
    /// Smallest and largest scale relative to a short side of the crop's.
    pub scale: (f64, f64),
    /// Largest share of one class in a crop.
    pub most_of_one: f64,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Change brightness, contrast, saturation and hue.
    pub photometric: bool,
}

impl SegmentAugment {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// The first of them.
    pub fn validate(&self) -> Result<()> {
        let (low, high) = self.scale;
        if !(low > 0.0 && low <= high && high <= 8.0) {
            return Err(Error::config("range of scales")
                .at("augment.scale")
                .expected("two numbers above 0 and at most 8, the smaller first")
                .got(format!("{low}, {high}")));
        }
        if !(self.most_of_one > 0.0 && self.most_of_one <= 1.0) {
            let e = Error::config("largest share of one class").at("augment.most-of-one");
            return Err(e.expected("above 0 and at most 1").got(self.most_of_one.to_string()));
        }
        Ok(())
    }

    /// A crop of `(height, width)` pixels; where the picture does not reach, black and not counted.
    pub fn apply(
        &self,
        picture: &Picture,
        map: &LabelMap,
        key: Key,
        (height, width): (usize, usize),
    ) -> (Picture, LabelMap) {
        let mut draws = key.draws();
        let ratio = draws.range(self.scale.0, self.scale.1);
        let (w, h) = scaled(picture, ratio * height.min(width) as f64);
        let picture = resize(picture, picture.whole(), w, h, Filter::Bilinear);
        let map = map.resized(w, h);
        let mut at = (0, 0);
        for _ in 0..TRIES {
            at = (draws.below(w.saturating_sub(width) + 1), draws.below(h.saturating_sub(height) + 1));
            if map.window(at, (width, height)).commonest_share() <= self.most_of_one {
                break;
            }
        }
        let mut map = map.window(at, (width, height));
        let mut picture = window(&picture, at, (width, height));
        if self.flip && draws.chance(0.5) {
            (picture, map) = (picture.mirrored(), map.mirrored());
        }
        if self.photometric {
            distort(&mut picture, &mut draws);
        }
        (picture, map)
    }
}

/// Width and height of a picture whose short side becomes `short`, or less where the long one would pass its limit.
fn scaled(picture: &Picture, short: f64) -> (usize, usize) {
    let (w, h) = (picture.width as f64, picture.height as f64);
    let factor = (short / w.min(h)).min(LONG * short / w.max(h));
    (((w * factor).round() as usize).max(1), ((h * factor).round() as usize).max(1))
}

/// The picture at a short side of `short` pixels, keeping its aspect; never narrower than that.
pub fn fit_short_side(picture: &Picture, short: usize) -> Picture {
    let (w, h) = (picture.width as f64, picture.height as f64);
    let factor = short as f64 / w.min(h);
    let side = |n: f64| ((n * factor).round() as usize).max(short);
    resize(picture, picture.whole(), side(w), side(h), Filter::Bilinear)
}

/// A window of a picture, black outside of it.
fn window(picture: &Picture, (left, top): (usize, usize), (width, height): (usize, usize)) -> Picture {
    let mut out = Picture::flat(width, height, [0; 3]);
    let columns = picture.width.saturating_sub(left).min(width);
    for y in 0..picture.height.saturating_sub(top).min(height) {
        let from = ((top + y) * picture.width + left) * 3;
        out.rgb[y * width * 3..][..columns * 3].copy_from_slice(&picture.rgb[from..][..columns * 3]);
    }
    out
}

/// Brightness, contrast, saturation and hue, each with probability ½; the contrast comes first or last.
fn distort(picture: &mut Picture, draws: &mut Draws) {
    let half = |draws: &mut Draws, low: f64, high: f64| {
        let value = draws.range(low, high);
        draws.chance(0.5).then_some(value as f32)
    };
    let brightness = half(draws, -32.0, 32.0).unwrap_or(0.0);
    let first = draws.chance(0.5);
    let contrast = half(draws, 0.5, 1.5).unwrap_or(1.0);
    let saturation = half(draws, 0.5, 1.5).unwrap_or(1.0);
    let hue = half(draws, -18.0, 18.0).unwrap_or(0.0);
    let byte = |v: f32| v.clamp(0.0, 255.0);
    for pixel in picture.rgb.chunks_exact_mut(3) {
        let mut rgb = [0, 1, 2].map(|c| byte(f32::from(pixel[c]) + brightness));
        if first {
            rgb = rgb.map(|v| byte(v * contrast));
        }
        if saturation != 1.0 || hue != 0.0 {
            // the recipe counts hue in steps of two degrees
            rgb = recolour(rgb, saturation, 2.0 * hue);
        }
        if !first {
            rgb = rgb.map(|v| byte(v * contrast));
        }
        pixel.iter_mut().zip(rgb).for_each(|(p, v)| *p = v.round() as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    /// The picture shows its label: colour (10·label, 0, 0).
    fn marked(width: usize, height: usize) -> (Picture, LabelMap) {
        let labels: Vec<u8> = (0..width * height).map(|i| (i % width * 8 / width) as u8).collect();
        let rgb = labels.iter().flat_map(|&l| [10 * l, 0, 0]).collect();
        (Picture { width, height, rgb }, LabelMap { width, height, labels })
    }

    #[test]
    fn picture_and_map_stay_together() {
        let augment = SegmentAugment { scale: (0.5, 2.0), most_of_one: 0.75, flip: true, photometric: false };
        let (picture, map) = marked(64, 40);
        let mut wrong = 0;
        let mut counted = 0;
        for i in 0..20 {
            let (p, m) = augment.apply(&picture, &map, Key::new(5, Stream::Test, i), (32, 32));
            assert_eq!((p.width, p.height, m.labels.len()), (32, 32, 1024));
            for (rgb, &l) in p.rgb.chunks(3).zip(&m.labels) {
                if l == 255 {
                    assert_eq!(rgb, [0, 0, 0]);
                } else {
                    counted += 1;
                    wrong += usize::from((f32::from(rgb[0]) / 10.0 - f32::from(l)).abs() > 0.6);
                }
            }
        }
        assert!(counted > 10_000 && wrong == 0, "{wrong} of {counted} pixels differ");
    }

    #[test]
    fn colours_change_and_grey_stays_grey() {
        assert_eq!(recolour([90.0, 90.0, 90.0], 1.4, 9.0), [90.0; 3]);
        let turned = recolour([200.0, 0.0, 0.0], 1.0, 120.0);
        assert!((turned[1] - 200.0).abs() < 1e-3 && turned[0] < 1e-3, "{turned:?}");
        let (mut picture, _) = marked(16, 16);
        let before = picture.clone();
        let changed = (0..10).any(|i| {
            distort(&mut picture, &mut Key::new(6, Stream::Test, i).draws());
            picture != before
        });
        assert!(changed);
    }

    #[test]
    fn short_sides() {
        let p = fit_short_side(&Picture::flat(100, 50, [1; 3]), 32);
        assert_eq!((p.width, p.height), (64, 32));
    }
}
