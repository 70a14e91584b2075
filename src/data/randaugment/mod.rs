//! RandAugment as timm draws it (`rand-m9-mstd0.5-inc1`, beit-spec §6.4): two of fifteen operations per picture.

mod affine;
mod colour;

use super::picture::Picture;
use crate::error::{Error, Result};
use crate::rng::{Draws, Key};
use affine::{Affine, transform};
use serde::{Deserialize, Serialize};

/// Largest magnitude; every range below is given for it.
const FULL: f64 = 10.0;

/// How RandAugment draws.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RandAugment {
    /// Operations drawn for a picture, with replacement; 0 = off.
    pub operations: usize,
    /// Mean magnitude, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    pub deviation: f64,
    /// Probability that a drawn operation is applied.
    pub probability: f64,
}

impl RandAugment {
    /// `rand-m9-mstd0.5-inc1`.
    pub const PUBLISHED: Self =
        RandAugment { operations: 2, magnitude: 9.0, deviation: 0.5, probability: 0.5 };

    /// Refuses settings that cannot work, naming the key.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, expected: &str, got: f64| {
            Err(Error::config("wrong augmentation").at(key).expected(expected).got(got.to_string()))
        };
        if !(0.0..=FULL).contains(&self.magnitude) {
            return wrong("randaugment.magnitude", "0 to 10", self.magnitude);
        }
        if !(self.deviation >= 0.0 && self.deviation.is_finite()) {
            return wrong("randaugment.deviation", "0 or more", self.deviation);
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return wrong("randaugment.probability", "0 to 1", self.probability);
        }
        if self.operations > 64 {
            return wrong("randaugment.operations", "0 to 64", self.operations as f64);
        }
        Ok(())
    }

    /// Changes a picture; corners that a movement uncovers get the `fill` colour. A pure function of the key.
    pub fn apply(&self, mut picture: Picture, fill: [u8; 3], key: Key) -> Picture {
        for i in 0..self.operations as u32 {
            let mut draws = key.child(i).draws();
            let operation = Operation::ALL[draws.below(Operation::ALL.len())];
            let applied = draws.chance(self.probability);
            let magnitude = (self.magnitude + self.deviation * draws.normal()).clamp(0.0, FULL);
            if applied {
                picture = operation.apply(&picture, magnitude, fill, &mut draws);
            }
        }
        picture
    }
}

/// One of the fifteen operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Stretches each channel to 0..255.
    AutoContrast,
    /// Flattens the histogram of each channel.
    Equalize,
    /// 255 − v.
    Invert,
    /// Turns by up to 30 degrees.
    Rotate,
    /// Keeps 4 to 0 high bits.
    Posterize,
    /// Inverts samples from a threshold upwards.
    Solarize,
    /// Adds up to 110 to samples below 128.
    SolarizeAdd,
    /// Blends with grey.
    Colour,
    /// Blends with the mean grey.
    Contrast,
    /// Blends with black.
    Brightness,
    /// Blends with a smoothed copy.
    Sharpness,
    /// Shears rows.
    ShearX,
    /// Shears columns.
    ShearY,
    /// Moves sideways by a share of the width.
    TranslateX,
    /// Moves up or down by a share of the height.
    TranslateY,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 15] = [
        Operation::AutoContrast,
        Operation::Equalize,
        Operation::Invert,
        Operation::Rotate,
        Operation::Posterize,
        Operation::Solarize,
        Operation::SolarizeAdd,
        Operation::Colour,
        Operation::Contrast,
        Operation::Brightness,
        Operation::Sharpness,
        Operation::ShearX,
        Operation::ShearY,
        Operation::TranslateX,
        Operation::TranslateY,
    ];

    /// Applies it at a magnitude of 0 to 10; `draws` gives the sign where there is one.
    pub fn apply(self, picture: &Picture, magnitude: f64, fill: [u8; 3], draws: &mut Draws) -> Picture {
        let part = magnitude / FULL;
        let mut signed = |full: f64| if draws.chance(0.5) { -full * part } else { full * part };
        let (w, h) = (picture.width as f64, picture.height as f64);
        match self {
            Operation::AutoContrast => colour::auto_contrast(picture),
            Operation::Equalize => colour::equalize(picture),
            Operation::Invert => colour::map(picture, |v| 255 - v),
            Operation::Posterize => {
                // all 8 bits but the highest few are dropped; 0 kept bits leave black
                let kept = 4 - (4.0 * part) as u32;
                colour::map(picture, |v| v & !((1u32 << (8 - kept)) - 1) as u8)
            }
            Operation::Solarize => {
                let from = 256 - (256.0 * part) as u32;
                colour::map(picture, |v| if u32::from(v) >= from { 255 - v } else { v })
            }
            Operation::SolarizeAdd => {
                let add = ((110.0 * part) as u8).min(128);
                colour::map(picture, |v| if v < 128 { v + add } else { v })
            }
            Operation::Colour => colour::saturation(picture, factor(signed(0.9))),
            Operation::Contrast => colour::contrast(picture, factor(signed(0.9))),
            Operation::Brightness => colour::brightness(picture, factor(signed(0.9))),
            Operation::Sharpness => colour::sharpness(picture, factor(signed(0.9))),
            Operation::Rotate => transform(picture, Affine::rotation(signed(30.0), w, h), fill),
            Operation::ShearX => transform(picture, Affine([1.0, signed(0.3), 0.0, 0.0, 1.0, 0.0]), fill),
            Operation::ShearY => transform(picture, Affine([1.0, 0.0, 0.0, signed(0.3), 1.0, 0.0]), fill),
            Operation::TranslateX => {
                transform(picture, Affine([1.0, 0.0, w * signed(0.45), 0.0, 1.0, 0.0]), fill)
            }
            Operation::TranslateY => {
                transform(picture, Affine([1.0, 0.0, 0.0, 0.0, 1.0, h * signed(0.45)]), fill)
            }
        }
    }
}

/// Blend factor of a signed change; never below 0.1.
fn factor(change: f64) -> f32 {
    (1.0 + change).max(0.1) as f32
}

#[cfg(test)]
mod tests;
