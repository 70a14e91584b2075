//! Whole pictures through a network of one input size: windows that overlap, scales, mirror images (beit-spec §7.6).

use super::segment::SegmentModel;
use crate::cpu::par_map;
use crate::data::Normalization;
use crate::data::normalize::push_normalized;
use crate::data::picture::{Crop, Picture};
use crate::data::segment::fit_short_side;
use crate::error::{Error, Result};
use crate::ops::resize::Axis;
use crate::session::{Data, PlanId, Session};
use serde::{Deserialize, Serialize};

/// How whole pictures are segmented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Slide {
    /// Distance of neighbouring windows as a share of their side (341 of 512 in the official recipe).
    pub stride: f64,
    /// Scales relative to a short side of the network's; one = single-scale.
    pub scales: Vec<f64>,
    /// Mirror images too.
    pub flip: bool,
}

impl Default for Slide {
    fn default() -> Self {
        Slide { stride: 2.0 / 3.0, scales: vec![1.0], flip: false }
    }
}

impl Slide {
    /// The official multi-scale test.
    pub fn multi_scale() -> Self {
        Slide { scales: vec![0.5, 0.75, 1.0, 1.25, 1.5, 1.75], flip: true, ..Slide::default() }
    }
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<()> {
        let wrong = |at: &str, expected: &str, got: String| {
            Err(Error::config("wrong value").at(at).expected(expected).got(got))
        };
        if !(self.stride > 0.0 && self.stride <= 1.0) {
            return wrong("slide.stride", "above 0 and at most 1", self.stride.to_string());
        }
        if self.scales.is_empty() || self.scales.iter().any(|&s| !(s > 0.0 && s <= 8.0)) {
            return wrong("slide.scales", "numbers above 0 and at most 8", format!("{:?}", self.scales));
        }
        Ok(())
    }
}

/// A loaded network that segments pictures.
#[derive(Debug, Clone)]
pub struct Segmenter {
    /// Its plan, of `batch` windows.
    pub plan: PlanId,
    /// Windows at a time.
    pub batch: usize,
    /// Height and width of a window.
    pub size: (usize, usize),
    /// Number of classes.
    pub classes: usize,
    /// Scaling of pictures.
    pub normalization: Normalization,
}

/// The windows of one view of a picture with the coarse logits of each.
struct View {
    /// Columns and rows of the resized picture.
    width: usize,
    height: usize,
    flipped: bool,
    /// First column and row of each window.
    at: Vec<(usize, usize)>,
    /// `[h,w,classes]` of each window.
    logits: Vec<Vec<f32>>,
}

/// First pixels of windows that cover a side; the last ones are moved back to its end.
fn starts(side: usize, window: usize, stride: f64) -> Vec<usize> {
    let step = ((window as f64 * stride).floor() as usize).max(1);
    let last = side.saturating_sub(window);
    let mut all: Vec<usize> = (0..last).step_by(step).collect();
    all.push(last);
    all
}

impl Segmenter {
    /// The network of a model whose plan was loaded.
    pub fn new(model: &SegmentModel, plan: PlanId, batch: usize, normalization: Normalization) -> Self {
        Segmenter { plan, batch, size: model.vit.image, classes: model.classes, normalization }
    }

    /// The class of every pixel, row by row.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn labels(&self, session: &mut dyn Session, picture: &Picture, slide: &Slide) -> Result<Vec<u32>> {
        let pixels = picture.width * picture.height;
        let size = (picture.height, picture.width);
        let flips: &[bool] = if slide.flip { &[false, true] } else { &[false] };
        if let ([scale], [flip]) = (slide.scales.as_slice(), flips) {
            // The softmax changes no order, so the logits decide.
            let view = self.view(session, picture, *scale, *flip, slide.stride)?;
            return Ok(largest(self.classes, pixels, |c| view.plane(c, self, size)));
        }
        let mut sum = vec![vec![0.0f32; pixels]; self.classes];
        for &scale in &slide.scales {
            for &flip in flips {
                let view = self.view(session, picture, scale, flip, slide.stride)?;
                let mut planes = par_map(self.classes, |c| view.plane(c, self, size));
                softmax(&mut planes, pixels);
                for (sum, plane) in sum.iter_mut().zip(planes) {
                    sum.iter_mut().zip(plane).for_each(|(s, p)| *s += p);
                }
            }
        }
        Ok(largest(self.classes, pixels, |c| std::mem::take(&mut sum[c])))
    }

    /// Runs all windows of a view.
    fn view(
        &self,
        session: &mut dyn Session,
        picture: &Picture,
        scale: f64,
        flipped: bool,
        stride: f64,
    ) -> Result<View> {
        let (h, w) = self.size;
        let short = ((h.max(w) as f64 * scale).round() as usize).max(h.max(w));
        let mut resized = fit_short_side(picture, short);
        if flipped {
            resized = resized.mirrored();
        }
        let mut at = Vec::new();
        for top in starts(resized.height, h, stride) {
            at.extend(starts(resized.width, w, stride).into_iter().map(|left| (left, top)));
        }
        let mut logits = Vec::with_capacity(at.len());
        for group in at.chunks(self.batch) {
            let mut pixels = Vec::with_capacity(self.batch * h * w * 3);
            for slot in 0..self.batch {
                // A group that is not full repeats its last window.
                let (left, top) = group[slot.min(group.len() - 1)];
                let window = resized.cut(Crop { left, top, width: w, height: h });
                push_normalized(&mut pixels, &window, self.normalization);
            }
            session.write(self.plan, "image", Data::F32(&pixels))?;
            session.run(self.plan)?;
            let all = session.read(self.plan, "logits")?.f32();
            let size = all.len() / self.batch;
            logits.extend(all.chunks(size).take(group.len()).map(<[f32]>::to_vec));
        }
        Ok(View { width: resized.width, height: resized.height, flipped, at, logits })
    }
}

impl View {
    /// Logits of one class at the size of the picture: windows resized and averaged where they overlap.
    fn plane(&self, class: usize, of: &Segmenter, (height, width): (usize, usize)) -> Vec<f32> {
        let (h, w) = of.size;
        let mut sum = vec![0.0f32; self.width * self.height];
        let mut count = vec![0.0f32; self.width * self.height];
        for (&(left, top), logits) in self.at.iter().zip(&self.logits) {
            let coarse = coarse_size(logits.len() / of.classes, (h, w));
            let one: Vec<f32> = logits.iter().skip(class).step_by(of.classes).copied().collect();
            let fine = resized(&one, coarse, (h, w));
            for (y, row) in fine.chunks(w).enumerate() {
                let start = (top + y) * self.width + left;
                sum[start..start + w].iter_mut().zip(row).for_each(|(s, v)| *s += v);
                count[start..start + w].iter_mut().for_each(|n| *n += 1.0);
            }
        }
        sum.iter_mut().zip(&count).for_each(|(s, n)| *s /= n.max(1.0));
        if self.flipped {
            sum.chunks_mut(self.width).for_each(<[f32]>::reverse);
        }
        resized(&sum, (self.height, self.width), (height, width))
    }
}

/// Rows and columns of a coarse map of `cells` in the shape of a window.
fn coarse_size(cells: usize, (h, w): (usize, usize)) -> (usize, usize) {
    let rows = ((cells as f64 * h as f64 / w as f64).sqrt().round() as usize).max(1);
    (rows, cells / rows)
}

/// Bilinear, corners not aligned, as the op `resize`.
fn resized(plane: &[f32], (h, w): (usize, usize), (height, width): (usize, usize)) -> Vec<f32> {
    if (h, w) == (height, width) {
        return plane.to_vec();
    }
    let (rows, cols) = (Axis { from: h, to: height }, Axis { from: w, to: width });
    let taps: Vec<(usize, usize, f32)> = (0..width).map(|x| cols.taps::<f32>(x)).collect();
    let mut out = Vec::with_capacity(height * width);
    for y in 0..height {
        let (top, bottom, fy) = rows.taps::<f32>(y);
        let (top, bottom) = (&plane[top * w..][..w], &plane[bottom * w..][..w]);
        out.extend(taps.iter().map(|&(a, b, fx)| {
            let upper = (1.0 - fx) * top[a] + fx * top[b];
            let lower = (1.0 - fx) * bottom[a] + fx * bottom[b];
            (1.0 - fy) * upper + fy * lower
        }));
    }
    out
}

/// The number of the largest plane at every pixel, the lowest on ties.
fn largest(classes: usize, pixels: usize, mut plane: impl FnMut(usize) -> Vec<f32>) -> Vec<u32> {
    let (mut best, mut labels) = (plane(0), vec![0u32; pixels]);
    for c in 1..classes {
        for ((best, label), value) in best.iter_mut().zip(&mut labels).zip(plane(c)) {
            if value > *best {
                (*best, *label) = (value, c as u32);
            }
        }
    }
    labels
}

fn softmax(planes: &mut [Vec<f32>], pixels: usize) {
    for i in 0..pixels {
        let most = planes.iter().fold(f32::MIN, |m, p| m.max(p[i]));
        let sum: f32 = planes
            .iter_mut()
            .map(|p| {
                p[i] = (p[i] - most).exp();
                p[i]
            })
            .sum();
        planes.iter_mut().for_each(|p| p[i] /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_side() {
        assert_eq!(starts(512, 512, 2.0 / 3.0), [0]);
        assert_eq!(starts(683, 512, 2.0 / 3.0), [0, 171]);
        assert_eq!(starts(2048, 512, 2.0 / 3.0), [0, 341, 682, 1023, 1364, 1536]);
        for side in 32..200 {
            let at = starts(side, 32, 0.6);
            assert!(at.windows(2).all(|p| p[0] < p[1] && p[1] - p[0] <= 32), "{side}: {at:?}");
            assert_eq!(at.last().unwrap() + 32, side);
        }
    }

    #[test]
    fn largest_and_softmax() {
        let planes = [vec![1.0, 0.0], vec![1.0, 2.0], vec![0.0, 3.0]];
        assert_eq!(largest(3, 2, |c| planes[c].clone()), [0, 2]);
        let mut soft = planes.to_vec();
        softmax(&mut soft, 2);
        assert!((soft.iter().map(|p| p[1]).sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(resized(&[1.0, 3.0], (1, 2), (1, 4)), [1.0, 1.5, 2.5, 3.0]);
    }
}
