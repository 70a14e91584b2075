//! Batches of labelled crops.

use super::{LabelMap, SegmentAugment};
use crate::data::Samples;
use crate::data::normalize::{Normalization, push_normalized};
use crate::data::order::sample_key;
use crate::data::source::Sample;
use crate::rng::Stream;
use crate::{Error, Result};

/// How a labelled picture becomes a crop.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentViews {
    /// Height and width of a crop.
    pub size: (usize, usize),
    /// Random changes.
    pub augment: SegmentAugment,
    /// Scaling of the picture.
    pub normalization: Normalization,
}

/// One batch; B crops of H × W pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentBatch {
    /// Normalised pictures `[B,H,W,3]`.
    pub image: Vec<f32>,
    /// Classes `[B,H,W]`, 255 = does not count.
    pub labels: Vec<u32>,
}

/// Makes batches.
pub struct SegmentBatches {
    /// Where the pictures come from.
    pub samples: Samples,
    /// Crops per batch.
    pub batch: usize,
    /// Sizes and changes.
    pub views: SegmentViews,
    /// Seed of the changes.
    pub seed: u64,
}

/// The label map of a sample.
///
/// # Errors
/// If it has none.
pub(crate) fn map_of(sample: &Sample) -> Result<LabelMap> {
    let labels = sample.segmentation.clone().ok_or_else(|| Error::data("a picture without a label map"))?;
    Ok(LabelMap { width: sample.picture.width, height: sample.picture.height, labels })
}

impl SegmentBatches {
    /// The batch of a step: a pure function of the step and the settings.
    ///
    /// # Errors
    /// If too many pictures cannot be read.
    pub fn make(&self, step: u64) -> Result<SegmentBatch> {
        let (h, w) = self.views.size;
        let mut out = SegmentBatch {
            image: Vec::with_capacity(self.batch * h * w * 3),
            labels: Vec::with_capacity(self.batch * h * w),
        };
        let first = step.wrapping_mul(self.batch as u64);
        for p in (0..self.batch as u64).map(|slot| first.wrapping_add(slot)) {
            let (_, sample) = self.samples.load(p)?;
            let key = sample_key(self.seed, Stream::Augment, p);
            let (picture, map) =
                self.views.augment.apply(&sample.picture, &map_of(&sample)?, key, self.views.size);
            push_normalized(&mut out.image, &picture, self.views.normalization);
            out.labels.extend(map.labels.iter().map(|&l| u32::from(l)));
        }
        Ok(out)
    }
}
