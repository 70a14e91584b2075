//! Quality of label maps from whole counts over a set: mIoU, mAcc, aAcc, mDice (beit-spec §7.6).

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The label of pixels that do not count.
pub const IGNORED: u32 = 255;

/// ADE20K's "reduce zero label" of one label: 0 (unlabelled) becomes ignored, `k` becomes `k − 1`, 255 stays.
pub fn reduce_zero_label(label: u32) -> u32 {
    match label {
        0 | IGNORED => IGNORED,
        k => k - 1,
    }
}

/// Pixels counted by label and prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// Row = label, column = prediction.
    counts: Vec<u64>,
    ignored: u64,
}

/// One class of a [`Confusion`]; a ratio without pixels to divide by is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassQuality {
    /// Pixels of the class that were predicted as it.
    pub intersection: u64,
    /// Pixels labelled or predicted as the class.
    pub union: u64,
    /// Pixels labelled as the class.
    pub labelled: u64,
    /// Pixels predicted as the class, among those that count.
    pub predicted: u64,
    /// Intersection over union.
    pub iou: Option<f64>,
    /// Intersection over labelled.
    pub accuracy: Option<f64>,
    /// Twice the intersection over labelled and predicted.
    pub dice: Option<f64>,
}

/// Means over the classes that have a ratio, and over pixels.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentQuality {
    /// Mean intersection over union.
    #[serde(rename = "mIoU")]
    pub miou: f64,
    /// Mean accuracy of the classes.
    pub m_acc: f64,
    /// Share of right pixels.
    pub a_acc: f64,
    /// Mean Dice coefficient.
    pub m_dice: f64,
    /// Pixels that count.
    pub pixels_counted: u64,
    /// Pixels with the label 255.
    pub pixels_ignored: u64,
}

impl Confusion {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Confusion { classes, counts: vec![0; classes * classes], ignored: 0 }
    }
    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }
    /// Pixels by label (row) and prediction (column).
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }
    /// Counts the pixels of one picture; [`IGNORED`] labels drop out of both maps.
    ///
    /// # Errors
    /// If the maps have different sizes, or a label or prediction is no class.
    pub fn add(&mut self, predicted: &[u32], labels: &[u32]) -> Result<()> {
        if predicted.len() != labels.len() {
            return Err(Error::shape("prediction and label map of different sizes")
                .expected(format!("{} pixels", labels.len()))
                .got(format!("{} pixels", predicted.len())));
        }
        let class = |what: &str, c: u32| match (c as usize) < self.classes {
            true => Ok(c as usize),
            false => Err(Error::data(format!("a {what} that is no class"))
                .expected(format!(
                    "0 to {}, or {IGNORED} for pixels that do not count",
                    self.classes.saturating_sub(1)
                ))
                .got(c.to_string())),
        };
        for (&p, &l) in predicted.iter().zip(labels) {
            if l == IGNORED {
                self.ignored += 1;
            } else {
                let at = class("label", l)? * self.classes + class("prediction", p)?;
                self.counts[at] += 1;
            }
        }
        Ok(())
    }
    /// Adds what another part of the set counted.
    pub fn merge(&mut self, other: &Confusion) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.ignored += other.ignored;
    }
    /// Every class.
    pub fn per_class(&self) -> Vec<ClassQuality> {
        let n = self.classes;
        let ratio = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
        let one = |c: usize| {
            let labelled: u64 = self.counts[c * n..(c + 1) * n].iter().sum();
            let predicted: u64 = (0..n).map(|l| self.counts[l * n + c]).sum();
            let intersection = self.counts[c * n + c];
            let union = labelled + predicted - intersection;
            ClassQuality {
                intersection,
                union,
                labelled,
                predicted,
                iou: ratio(intersection, union),
                accuracy: ratio(intersection, labelled),
                dice: ratio(2 * intersection, labelled + predicted),
            }
        };
        (0..n).map(one).collect()
    }
    /// The means; 0 where nothing was counted.
    pub fn quality(&self) -> SegmentQuality {
        let classes = self.per_class();
        let mean = |of: fn(&ClassQuality) -> Option<f64>| {
            let present: Vec<f64> = classes.iter().filter_map(of).collect();
            present.iter().sum::<f64>() / present.len().max(1) as f64
        };
        let counted: u64 = self.counts.iter().sum();
        let right: u64 = classes.iter().map(|c| c.intersection).sum();
        SegmentQuality {
            miou: mean(|c| c.iou),
            m_acc: mean(|c| c.accuracy),
            a_acc: right as f64 / counted.max(1) as f64,
            m_dice: mean(|c| c.dice),
            pixels_counted: counted,
            pixels_ignored: self.ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes by hand: class 0 has 2 of 3 right, class 1 is predicted once too often, class 2 never occurs.
    #[test]
    fn a_map_by_hand() {
        let mut c = Confusion::new(3);
        c.add(&[0, 0, 1, 1, 0], &[0, 0, 0, 1, 255]).unwrap();
        let q = c.quality();
        assert_eq!(c.per_class()[2].iou, None);
        assert!((q.miou - (2.0 / 3.0 + 0.5) / 2.0).abs() < 1e-12);
        assert!((q.m_acc - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-12);
        assert!((q.a_acc - 0.75).abs() < 1e-12);
        assert_eq!((q.pixels_counted, q.pixels_ignored), (4, 1));
    }

    #[test]
    fn wrong_maps_are_refused() {
        let mut c = Confusion::new(3);
        assert!(c.add(&[0], &[0, 1]).is_err());
        assert!(c.add(&[0], &[3]).unwrap_err().to_string().contains("label"));
        assert!(c.add(&[7], &[0]).unwrap_err().to_string().contains("prediction"));
        assert_eq!(Confusion::new(2).quality().miou, 0.0);
    }

    #[test]
    fn zero_label_is_reduced() {
        assert_eq!([0, 1, 150, 255].map(reduce_zero_label), [255, 0, 149, 255]);
    }
}
