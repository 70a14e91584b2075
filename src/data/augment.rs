//! The two views of a picture for masked image modelling: one crop, flip and jitter, two sizes.
//!
//! The patch view (bicubic) goes into the transformer, the token view (Lanczos) into the tokenizer. They show the
//! same rectangle, so patch (row, column) of one is token (row, column) of the other.

use super::jitter::Jitter;
use super::picture::{Crop, Picture};
use super::resize::{Filter, resize};
use crate::rng::Key;
use crate::{Error, Result};

/// Attempts at a random crop before the centred fallback.
const ATTEMPTS: usize = 10;

/// Random changes of the training pictures; each can be switched off on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Brightness, contrast and saturation factors lie in 1 - jitter to 1 + jitter; 0 = off.
    pub jitter: f32,
    /// Mirror half of the pictures.
    pub flip: bool,
    /// Crop at random; without it the centred square is taken.
    pub crop: bool,
    /// Smallest share of the area that a crop takes.
    pub min_scale: f64,
    /// Largest share of the area that a crop takes.
    pub max_scale: f64,
    /// Smallest ratio of width to height of a crop.
    pub min_aspect: f64,
    /// Largest ratio of width to height of a crop.
    pub max_aspect: f64,
}

impl Default for Augment {
    /// The published pre-training recipe.
    fn default() -> Self {
        let (min_aspect, max_aspect) = (3.0 / 4.0, 4.0 / 3.0);
        Augment {
            jitter: 0.4,
            flip: true,
            crop: true,
            min_scale: 0.08,
            max_scale: 1.0,
            min_aspect,
            max_aspect,
        }
    }
}

impl Augment {
    /// No randomness at all.
    pub fn off() -> Self {
        Augment { jitter: 0.0, flip: false, crop: false, ..Augment::default() }
    }

    /// Refuses settings that cannot work, naming the flag.
    pub fn validate(&self) -> Result<()> {
        let wrong = |flag: &str, expected: &str, got: String| {
            Err(Error::config("wrong augmentation").at(flag).expected(expected).got(got))
        };
        if !(0.0..=10.0).contains(&self.jitter) {
            return wrong("color-jitter", "0 (off) to 10", self.jitter.to_string());
        }
        if !(self.min_scale > 0.0 && self.min_scale <= self.max_scale && self.max_scale <= 1.0) {
            let expected = "a smallest share above 0, then a largest one up to 1";
            return wrong("crop-scale", expected, format!("{} to {}", self.min_scale, self.max_scale));
        }
        let aspects = self.min_aspect > 0.0 && self.min_aspect <= self.max_aspect;
        if !(aspects && self.max_aspect.is_finite()) {
            let expected = "a smallest ratio above 0, then a larger one";
            return wrong("crop-aspect", expected, format!("{} to {}", self.min_aspect, self.max_aspect));
        }
        Ok(())
    }

    /// The rectangle for a picture of this size: up to ten random tries, then the largest centred one.
    pub fn draw_crop(&self, width: usize, height: usize, key: Key) -> Crop {
        let mut draws = key.draws();
        let area = (width * height) as f64;
        for _ in 0..ATTEMPTS {
            let part = area * draws.range(self.min_scale, self.max_scale);
            let ratio = draws.range(self.min_aspect.ln(), self.max_aspect.ln()).exp();
            let w = (part * ratio).sqrt().round_ties_even() as usize;
            let h = (part / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = draws.below(height - h + 1);
                let left = draws.below(width - w + 1);
                return Crop { left, top, width: w, height: h };
            }
        }
        self.fallback(width, height)
    }

    /// The whole picture, narrowed to the nearest allowed aspect.
    fn fallback(&self, width: usize, height: usize) -> Crop {
        let ratio = width as f64 / height.max(1) as f64;
        let (mut w, mut h) = (width, height);
        if ratio < self.min_aspect {
            h = (width as f64 / self.min_aspect).round_ties_even() as usize;
        } else if ratio > self.max_aspect {
            w = (height as f64 * self.max_aspect).round_ties_even() as usize;
        }
        let (w, h) = (w.clamp(width.min(1), width), h.clamp(height.min(1), height));
        Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
    }

    /// Jitters, flips and crops, in the colours and pixels of the original size.
    pub fn apply(&self, picture: &Picture, key: Key) -> Picture {
        // Each change has a key of its own, so that switching one off leaves the others as they were.
        let [jitter, flip, crop] = [0, 1, 2].map(|i| key.child(i));
        let mirror = self.flip && flip.draws().chance(0.5);
        let mut crop = match self.crop {
            true => self.draw_crop(picture.width, picture.height, crop),
            false => picture.centre_square(),
        };
        if mirror {
            // The crop is a rectangle of the mirrored picture; this is the same place in the original.
            crop.left = picture.width - crop.left - crop.width;
        }
        let mut part = picture.cut(crop);
        if self.jitter > 0.0 {
            Jitter::draw(self.jitter, jitter).fix(picture).apply(&mut part.rgb);
        }
        if mirror { part.mirrored() } else { part }
    }
}

/// The patch view (bicubic) and the token view (by the tokenizer's filter) of one random crop, both square.
pub fn two_views(
    picture: &Picture,
    augment: &Augment,
    key: Key,
    patch_side: usize,
    token: (usize, Filter),
) -> (Picture, Picture) {
    both_sizes(&augment.apply(picture, key), patch_side, token)
}

/// The two views without randomness: the centred square.
pub fn eval_views(picture: &Picture, patch_side: usize, token: (usize, Filter)) -> (Picture, Picture) {
    both_sizes(&picture.cut(picture.centre_square()), patch_side, token)
}

/// The token view alone, of the same crop that [`two_views`] takes under this key.
pub fn token_view(
    picture: &Picture,
    augment: &Augment,
    key: Key,
    (side, filter): (usize, Filter),
) -> Picture {
    let part = augment.apply(picture, key);
    resize(&part, part.whole(), side, side, filter)
}

/// The patch view alone, of the same crop that [`two_views`] takes under this key.
pub fn patch_view(picture: &Picture, augment: &Augment, key: Key, patch_side: usize) -> Picture {
    let part = augment.apply(picture, key);
    resize(&part, part.whole(), patch_side, patch_side, Filter::Bicubic)
}

fn both_sizes(part: &Picture, patch_side: usize, (side, filter): (usize, Filter)) -> (Picture, Picture) {
    (
        resize(part, part.whole(), patch_side, patch_side, Filter::Bicubic),
        resize(part, part.whole(), side, side, filter),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn scene() -> Picture {
        let rgb = (0..60 * 40 * 3).map(|i| ((i * i / 7) % 251) as u8).collect();
        Picture { width: 60, height: 40, rgb }
    }

    #[test]
    fn crops_stay_inside_and_cover_the_range() {
        let augment = Augment::default();
        let (mut smallest, mut largest) = (f64::MAX, 0.0f64);
        for i in 0..20_000 {
            let c = augment.draw_crop(500, 375, Key::new(1, Stream::Augment, i));
            assert!(c.left + c.width <= 500 && c.top + c.height <= 375);
            let (area, ratio) = ((c.width * c.height) as f64 / 187_500.0, c.width as f64 / c.height as f64);
            assert!((0.07..=1.0).contains(&area) && (0.74..=1.35).contains(&ratio), "{c:?}");
            (smallest, largest) = (smallest.min(area), largest.max(area));
        }
        assert!(smallest < 0.09 && largest > 0.95);
    }

    #[test]
    fn odd_shapes_fall_back_to_the_centre() {
        let augment = Augment { min_scale: 1.0, ..Augment::default() };
        let c = augment.draw_crop(300, 30, Key::new(1, Stream::Augment, 0));
        assert_eq!(c, Crop { left: 130, top: 0, width: 40, height: 30 });
        let c = augment.draw_crop(30, 300, Key::new(1, Stream::Augment, 0));
        assert_eq!(c, Crop { left: 0, top: 130, width: 30, height: 40 });
        for (w, h) in [(1, 1), (1, 50), (2, 1)] {
            let c = Augment::default().draw_crop(w, h, Key::new(1, Stream::Augment, 0));
            assert!(c.width >= 1 && c.height >= 1 && c.left + c.width <= w && c.top + c.height <= h);
        }
    }

    #[test]
    fn switched_off_is_the_evaluation_view() {
        let key = Key::new(9, Stream::Augment, 4);
        let picture = scene();
        let token = (16, Filter::Lanczos);
        assert_eq!(two_views(&picture, &Augment::off(), key, 32, token), eval_views(&picture, 32, token));
    }

    #[test]
    fn switching_one_off_leaves_the_others() {
        let key = Key::new(9, Stream::Augment, 4);
        let plain = Augment { jitter: 0.0, ..Augment::default() }.apply(&scene(), key);
        let jittered = Augment::default().apply(&scene(), key);
        assert_eq!((plain.width, plain.height), (jittered.width, jittered.height));
        assert_ne!(plain.rgb, jittered.rgb);
        let mirrored = Augment { flip: false, jitter: 0.0, ..Augment::default() }.apply(&scene(), key);
        assert_eq!((plain.width, plain.height), (mirrored.width, mirrored.height));
    }

    #[test]
    fn flip_comes_before_the_crop() {
        let picture = scene();
        let augment = Augment { jitter: 0.0, ..Augment::default() };
        for i in 0..40 {
            let key = Key::new(2, Stream::Augment, i);
            let crop = augment.draw_crop(60, 40, key.child(2));
            let part = augment.apply(&picture, key);
            assert!(part == picture.cut(crop) || part == picture.mirrored().cut(crop));
        }
    }

    #[test]
    fn token_view_is_the_second_of_two() {
        let key = Key::new(2, Stream::Augment, 7);
        for token in [(12, Filter::Lanczos), (12, Filter::Bicubic)] {
            let both = two_views(&scene(), &Augment::default(), key, 24, token);
            assert_eq!(both.1, token_view(&scene(), &Augment::default(), key, token));
        }
    }

    #[test]
    fn wrong_settings_name_their_flag() {
        let at = |a: Augment| a.validate().err().and_then(|e| e.at);
        assert_eq!(at(Augment::default()), None);
        assert_eq!(at(Augment { jitter: f32::NAN, ..Augment::default() }).as_deref(), Some("color-jitter"));
        assert_eq!(at(Augment { min_scale: 0.0, ..Augment::default() }).as_deref(), Some("crop-scale"));
        assert_eq!(at(Augment { max_aspect: 0.1, ..Augment::default() }).as_deref(), Some("crop-aspect"));
    }
}
