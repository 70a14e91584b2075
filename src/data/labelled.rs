//! Labelled batches: training crops with all augmentations of beit-spec §6.4, evaluation crops of §6.6.

use super::augment::Augment;
use super::erasing::erase;
use super::mixing::Mixing;
use super::normalize::{Normalization, push_normalized};
use super::picture::{Crop, Picture};
use super::randaugment::RandAugment;
use super::resize::{Filter, resize};
use super::samples::{Samples, check_batch, numbers};
use crate::error::{Error, Result};
use crate::rng::{Key, Stream};

/// How a labelled picture becomes a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassViews {
    /// Side in pixels, S.
    pub side: usize,
    /// Share of the short side that an evaluation crop keeps (`crop_pct`).
    pub crop_share: f64,
    /// Scaling of the pixels.
    pub normalization: Normalization,
    /// Random changes; None = the evaluation crop.
    pub augment: Option<ClassAugment>,
}

/// Random changes of labelled pictures; each can be switched off on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassAugment {
    /// Crop, flip, colour jitter.
    pub geometry: Augment,
    /// RandAugment.
    pub randaugment: RandAugment,
    /// Probability of random erasing.
    pub erasing: f64,
    /// Mixup and CutMix.
    pub mixing: Mixing,
    /// Label smoothing ε.
    pub smoothing: f64,
}

impl ClassViews {
    /// Refuses settings that cannot work, naming the flag.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn validate(&self) -> Result<()> {
        let wrong = |flag: &str, expected: &str, got: String| {
            Err(Error::config("wrong value").at(flag).expected(expected).got(got))
        };
        if !(1..=8192).contains(&self.side) {
            return wrong("image-size", "1 to 8192", self.side.to_string());
        }
        if !(self.crop_share > 0.0 && self.crop_share <= 1.0) {
            return wrong("crop-pct", "above 0, up to 1", self.crop_share.to_string());
        }
        let Some(a) = &self.augment else { return Ok(()) };
        for (flag, share) in [("reprob", a.erasing), ("smoothing", a.smoothing)] {
            if !(0.0..=1.0).contains(&share) {
                return wrong(flag, "0 to 1", share.to_string());
            }
        }
        a.geometry.validate()?;
        a.randaugment.validate()?;
        a.mixing.validate()
    }

    /// The evaluation crop: the short side is resized to S / `crop_share`, then the middle is cut out.
    pub fn evaluation(&self, picture: &Picture) -> Picture {
        let short = (self.side as f64 / self.crop_share) as usize;
        let (w, h) = (picture.width, picture.height);
        let long = |long: usize, side: usize| (short * long / side.max(1)).max(self.side);
        let (w, h) = if w <= h { (short, long(h, w)) } else { (long(w, h), short) };
        let resized = resize(picture, picture.whole(), w, h, Filter::Bicubic);
        let middle = |length: usize| ((length - self.side) as f64 / 2.0).round_ties_even() as usize;
        resized.cut(Crop { left: middle(w), top: middle(h), width: self.side, height: self.side })
    }

    /// Appends the input of one picture to a batch.
    pub fn push(&self, out: &mut Vec<f32>, picture: &Picture, key: Key) {
        let Some(a) = &self.augment else {
            return push_normalized(out, &self.evaluation(picture), self.normalization);
        };
        let part = a.geometry.apply(picture, key);
        let view = resize(&part, part.whole(), self.side, self.side, Filter::Bicubic);
        let fill = self.normalization.mean.map(|m| (255.0 * m).round() as u8);
        let first = out.len();
        push_normalized(out, &a.randaugment.apply(view, fill, key.child(3)), self.normalization);
        erase(&mut out[first..], self.side, a.erasing, key.child(4));
    }
}

/// One labelled batch of B pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassBatch {
    /// Normalised pictures `[B, S, S, 3]`.
    pub image: Vec<f32>,
    /// Target weights `[B, C]`, smoothed and mixed.
    pub targets: Vec<f32>,
    /// Classes `[B]`.
    pub labels: Vec<u32>,
    /// Number of each picture in the data set `[B]`.
    pub samples: Vec<usize>,
}

/// Makes labelled batches.
pub struct ClassBatches {
    /// Where the pictures come from.
    pub samples: Samples,
    /// Pictures per batch, B.
    pub batch: usize,
    /// Sizes and changes.
    pub views: ClassViews,
    /// Number of classes, C.
    pub classes: usize,
}

impl ClassBatches {
    /// Checks all settings together.
    ///
    /// # Errors
    /// The first that cannot work.
    pub fn new(samples: Samples, batch: usize, views: ClassViews, classes: usize) -> Result<Self> {
        check_batch(batch)?;
        views.validate()?;
        Ok(ClassBatches { samples, batch, views, classes })
    }

    /// The batch of a step: a pure function of the step and the settings.
    ///
    /// # Errors
    /// If pictures cannot be read, or one has no label or one out of range.
    pub fn make(&self, step: u64) -> Result<ClassBatch> {
        let (b, side) = (self.batch, self.views.side);
        let mut out = ClassBatch {
            image: Vec::with_capacity(b * side * side * 3),
            targets: vec![0.0; b * self.classes],
            labels: Vec::with_capacity(b),
            samples: Vec::with_capacity(b),
        };
        let smoothing = self.views.augment.as_ref().map_or(0.0, |a| a.smoothing);
        for (slot, p) in numbers(step, b).enumerate() {
            let (index, sample) = self.samples.load(p)?;
            let label = sample.label.filter(|&l| (l as usize) < self.classes).ok_or_else(|| {
                let e = Error::data("a label out of range").at(self.samples.source().name(index));
                e.expected(format!("0 to {}", self.classes.saturating_sub(1)))
                    .got(sample.label.map_or("no label".into(), |l| l.to_string()))
            })?;
            self.views.push(&mut out.image, &sample.picture, self.samples.key(Stream::Augment, p));
            let row = &mut out.targets[slot * self.classes..][..self.classes];
            row.fill((smoothing / self.classes as f64) as f32);
            row[label as usize] += (1.0 - smoothing) as f32;
            out.labels.push(label);
            out.samples.push(index);
        }
        if let Some(a) = &self.views.augment {
            // the last numbers of the stream are never reached by samples
            let key = self.samples.key(Stream::Augment, u64::MAX - step);
            a.mixing.apply(&mut out.image, &mut out.targets, side, b, key);
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn views(side: usize, crop_share: f64) -> ClassViews {
        ClassViews { side, crop_share, normalization: Normalization::HALF, augment: None }
    }

    #[test]
    fn evaluation_crops() {
        for (w, h) in [(8, 8), (300, 200), (200, 301), (1, 50), (33, 32)] {
            let picture = Picture { width: w, height: h, rgb: vec![7; w * h * 3] };
            for share in [1.0, 0.875, 0.5] {
                let out = views(32, share).evaluation(&picture);
                assert_eq!((out.width, out.height, out.rgb.len()), (32, 32, 32 * 32 * 3), "{w} x {h}");
            }
        }
        let picture =
            Picture { width: 40, height: 32, rgb: (0..40 * 32 * 3).map(|i| (i % 251) as u8).collect() };
        let centre = Crop { left: 4, top: 0, width: 32, height: 32 };
        assert_eq!(views(32, 1.0).evaluation(&picture), picture.cut(centre));
    }
}
