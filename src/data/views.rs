//! Several random views of each picture, for methods that compare them (beit-spec §8.2, §8.3): crop, mirror, colour
//! jitter, grey, blur, solarisation.

use super::augment::Augment;
use super::jitter::{Jitter, grey, recolour};
use super::normalize::{Normalization, push_normalized};
use super::picture::Picture;
use super::resize::{Filter, resize};
use super::samples::{Samples, check_batch, numbers};
use crate::Result;
use crate::rng::{Draws, Key, Stream};

/// Side of the pictures for which the radius of the blur is published, in pixels; it shrinks with the view.
const BLUR_SIDE: f64 = 224.0;

/// One view of every picture.
#[derive(Debug, Clone, PartialEq)]
pub struct CropSpec {
    /// Side in pixels.
    pub side: usize,
    /// Smallest and largest share of the area.
    pub scale: (f64, f64),
    /// Probability of Gaussian blur.
    pub blur: f64,
    /// Probability of solarisation.
    pub solarize: f64,
}

/// All views of every picture.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewSpec {
    /// The views.
    pub crops: Vec<CropSpec>,
    /// Crop at random; without it every view is the centred square.
    pub crop: bool,
    /// Mirror half of the views.
    pub flip: bool,
    /// Strengths of jitter of brightness, contrast, saturation and hue (a share of the circle).
    pub jitter: (f32, f32, f32, f32),
    /// Probability of jitter.
    pub jitter_prob: f64,
    /// Probability of grey.
    pub grey_prob: f64,
    /// Scaling of the pixels.
    pub normalization: Normalization,
}

impl ViewSpec {
    /// View number `view` of a picture.
    pub fn view(&self, picture: &Picture, view: usize, key: Key) -> Picture {
        let Some(crop) = self.crops.get(view) else { return Picture::default() };
        let geometry = Augment {
            flip: self.flip,
            crop: self.crop,
            min_scale: crop.scale.0,
            max_scale: crop.scale.1,
            ..Augment::off()
        };
        let key = key.child(view as u32);
        let part = geometry.apply(picture, key);
        let mut out = resize(&part, part.whole(), crop.side, crop.side, Filter::Bicubic);
        // each change has draws of its own, so that switching one off leaves the others as they were
        let [jitter, hue, grey, blur, solarize] = [3, 4, 5, 6, 7].map(|i| key.child(i));
        if jitter.draws().chance(self.jitter_prob) {
            self.change_colours(&mut out, jitter.child(0), &mut hue.draws());
        }
        if grey.draws().chance(self.grey_prob) {
            to_grey(&mut out);
        }
        let mut draws = blur.draws();
        if draws.chance(crop.blur) {
            out = blurred(&out, draws.range(0.1, 2.0) * crop.side as f64 / BLUR_SIDE);
        }
        if solarize.draws().chance(crop.solarize) {
            out.rgb.iter_mut().filter(|v| **v >= 128).for_each(|v| *v = 255 - *v);
        }
        out
    }

    /// Brightness, contrast and saturation in a random order; the hue before or after them.
    fn change_colours(&self, picture: &mut Picture, key: Key, hue: &mut Draws) {
        let (brightness, contrast, saturation, turn) = self.jitter;
        let (first, turn) = (hue.chance(0.5), hue.range(-1.0, 1.0) as f32 * turn);
        if first {
            turn_hue(picture, turn);
        }
        let fixed = Jitter::draw_each([brightness, contrast, saturation], key).fix(picture);
        fixed.apply(&mut picture.rgb);
        if !first {
            turn_hue(picture, turn);
        }
    }
}

/// Turns all hues by a share of the circle.
fn turn_hue(picture: &mut Picture, turn: f32) {
    for pixel in picture.rgb.chunks_exact_mut(3) {
        if let [r, g, b] = pixel {
            let turned = recolour([*r, *g, *b].map(f32::from), 1.0, 360.0 * turn);
            [*r, *g, *b] = turned.map(|v| v.round().clamp(0.0, 255.0) as u8);
        }
    }
}

fn to_grey(picture: &mut Picture) {
    for pixel in picture.rgb.chunks_exact_mut(3) {
        let v = grey(pixel);
        pixel.fill(v);
    }
}

/// Gaussian blur of deviation `sigma` pixels, edges continued.
fn blurred(picture: &Picture, sigma: f64) -> Picture {
    let reach = (3.0 * sigma).ceil() as isize;
    let weight = |d: isize| (-0.5 * (d as f64 / sigma).powi(2)).exp();
    let total: f64 = (-reach..=reach).map(weight).sum();
    let weights: Vec<(isize, f64)> = (-reach..=reach).map(|d| (d, weight(d) / total)).collect();
    let (w, h) = (picture.width as isize, picture.height as isize);
    // along rows, then along columns
    let pass = |rgb: &[f64], step: (isize, isize)| -> Vec<f64> {
        let value = |i: usize| {
            let (x, y, c) = ((i / 3) as isize % w, (i / 3) as isize / w, i % 3);
            let at = |d: isize| {
                let (x, y) = ((x + d * step.0).clamp(0, w - 1), (y + d * step.1).clamp(0, h - 1));
                rgb.get((y * w + x) as usize * 3 + c).copied().unwrap_or(0.0)
            };
            weights.iter().map(|&(d, weight)| weight * at(d)).sum()
        };
        (0..rgb.len()).map(value).collect()
    };
    let all: Vec<f64> = picture.rgb.iter().map(|&v| f64::from(v)).collect();
    let all = pass(&pass(&all, (1, 0)), (0, 1));
    let rgb = all.into_iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
    Picture { rgb, ..*picture }
}

/// Views of B pictures: for every side that occurs the views of that side, view after view.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewBatch {
    /// Normalised views `[B,S,S,3]`, one entry for each crop of the specification.
    pub views: Vec<Vec<f32>>,
    /// Data-set index of every picture, `[B]`.
    pub samples: Vec<usize>,
}

/// Makes batches of views.
pub struct ViewBatches {
    /// Where the pictures come from.
    pub samples: Samples,
    /// Pictures per batch, B.
    pub batch: usize,
    /// The views.
    pub spec: ViewSpec,
}

impl ViewBatches {
    /// Checks the batch size; the settings of the views are checked with the config.
    ///
    /// # Errors
    /// If the batch size cannot work.
    pub fn new(samples: Samples, batch: usize, spec: ViewSpec) -> Result<Self> {
        check_batch(batch)?;
        Ok(ViewBatches { samples, batch, spec })
    }

    /// The batch of a step: a pure function of the step and the settings.
    ///
    /// # Errors
    /// If no picture can be read.
    pub fn make(&self, step: u64) -> Result<ViewBatch> {
        let mut out = ViewBatch { views: vec![], samples: Vec::with_capacity(self.batch) };
        out.views =
            self.spec.crops.iter().map(|c| Vec::with_capacity(self.batch * c.side * c.side * 3)).collect();
        for p in numbers(step, self.batch) {
            let (index, sample) = self.samples.load(p)?;
            let key = self.samples.key(Stream::Augment, p);
            for (i, view) in out.views.iter_mut().enumerate() {
                push_normalized(view, &self.spec.view(&sample.picture, i, key), self.spec.normalization);
            }
            out.samples.push(index);
        }
        Ok(out)
    }
}

impl ViewBatch {
    /// The views `range` one after the other, without the pictures outside of `images`.
    pub fn part(&self, range: std::ops::Range<usize>, images: std::ops::Range<usize>) -> Vec<f32> {
        let batch = self.samples.len().max(1);
        let cut = |v: &Vec<f32>| {
            let n = v.len() / batch;
            v.get(images.start * n..images.end * n).unwrap_or(&[]).to_vec()
        };
        self.views.get(range).unwrap_or(&[]).iter().flat_map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Picture {
        let rgb = (0..48 * 40 * 3).map(|i| ((i * i / 7) % 251) as u8).collect();
        Picture { width: 48, height: 40, rgb }
    }

    fn spec() -> ViewSpec {
        let crop = |side, blur, solarize| CropSpec { side, scale: (0.2, 1.0), blur, solarize };
        ViewSpec {
            crops: vec![crop(32, 1.0, 0.0), crop(32, 0.1, 0.2), crop(12, 0.5, 0.0)],
            crop: true,
            flip: true,
            jitter: (0.4, 0.4, 0.2, 0.1),
            jitter_prob: 0.8,
            grey_prob: 0.2,
            normalization: Normalization::HALF,
        }
    }

    #[test]
    fn views_are_functions_of_their_key_and_differ() {
        let key = |i| Key::new(3, Stream::Test, i);
        let (s, picture) = (spec(), scene());
        for i in 0..20 {
            let views = [0, 1, 2].map(|v| s.view(&picture, v, key(i)));
            assert_eq!(views, [0, 1, 2].map(|v| s.view(&picture, v, key(i))));
            assert_eq!((views[0].width, views[2].height), (32, 12));
            assert_ne!(views[0], views[1]);
            assert_ne!(views[0], s.view(&picture, 0, key(i + 1)));
        }
    }

    #[test]
    fn grey_and_solarised_as_often_as_asked_for() {
        let (mut s, picture) = (spec(), scene());
        let is_grey = |p: &Picture| p.rgb.chunks(3).all(|c| c[0] == c[1] && c[1] == c[2]);
        let count = |s: &ViewSpec| {
            (0..400).filter(|&i| is_grey(&s.view(&picture, 1, Key::new(5, Stream::Test, i)))).count()
        };
        assert!((50..110).contains(&count(&s)), "{}", count(&s));
        (s.jitter_prob, s.grey_prob, s.crop, s.flip) = (0.0, 0.0, false, false);
        s.crops[1].blur = 0.0;
        let plain = s.view(&picture, 0, Key::new(5, Stream::Test, 0));
        s.crops[0].blur = 0.0;
        let sharp = s.view(&picture, 0, Key::new(5, Stream::Test, 0));
        let inverted =
            (0..400).filter(|&i| s.view(&picture, 1, Key::new(5, Stream::Test, i)) != sharp).count();
        assert!((50..110).contains(&inverted), "{inverted}");
        assert!(plain.rgb.iter().zip(&sharp.rgb).all(|(a, b)| a.abs_diff(*b) < 200));
    }

    #[test]
    fn blur_keeps_flat_pictures_and_means() {
        let flat = Picture::flat(9, 5, [10, 200, 77]);
        assert_eq!(blurred(&flat, 1.3), flat);
        let mut dot = Picture::flat(21, 21, [0; 3]);
        dot.rgb[(10 * 21 + 10) * 3] = 255;
        let out = blurred(&dot, 1.0);
        // 255 / 2π in the middle, the whole sum kept up to rounding
        assert!(out.rgb[(10 * 21 + 10) * 3].abs_diff(41) <= 1);
        let sum: u32 = out.rgb.iter().step_by(3).map(|&v| u32::from(v)).sum();
        assert!(sum.abs_diff(255) < 25, "{sum}");
    }

    #[test]
    fn parts_of_a_batch() {
        let batch = ViewBatch {
            views: vec![vec![0.0, 1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0, 7.0]],
            samples: vec![8, 9],
        };
        assert_eq!(batch.part(0..2, 1..2), [2.0, 3.0, 6.0, 7.0]);
        assert_eq!(batch.part(1..2, 0..2), [4.0, 5.0, 6.0, 7.0]);
    }
}
