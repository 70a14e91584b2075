//! From 8-bit samples to the numbers the networks take, `[height, width, 3]`.

use super::picture::Picture;

/// Mean and standard deviation of samples scaled to 0..1, per channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalization {
    /// Subtracted.
    pub mean: [f32; 3],
    /// Divided by afterwards.
    pub std: [f32; 3],
}

impl Normalization {
    /// 0.5 and 0.5: the range -1..1. The recipe of the released checkpoints.
    pub const HALF: Self = Normalization { mean: [0.5; 3], std: [0.5; 3] };
    /// Statistics of ImageNet: the recipe of the paper's ImageNet-1K runs.
    pub const IMAGENET: Self = Normalization { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

impl Default for Normalization {
    fn default() -> Self {
        Self::HALF
    }
}

/// `(v / 255 - mean) / std`, samples in the order of the picture.
pub fn to_f32_nhwc(picture: &Picture, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(picture.rgb.len());
    push_normalized(&mut out, picture, Normalization { mean, std });
    out
}

/// `0.8 v / 255 + 0.1`: the tokenizer's inputs lie in 0.1..0.9, where its logit-Laplace loss is defined.
pub fn to_dvae_nhwc(picture: &Picture) -> Vec<f32> {
    let mut out = Vec::with_capacity(picture.rgb.len());
    push_dvae(&mut out, picture);
    out
}

/// Appends the normalised samples to a batch.
pub fn push_normalized(out: &mut Vec<f32>, picture: &Picture, n: Normalization) {
    let channel = |mean: f32, std: f32| table(|v| (v - f64::from(mean)) / f64::from(std));
    let [r, g, b] = [0, 1, 2].map(|c| channel(n.mean[c], n.std[c]));
    for pixel in picture.rgb.chunks_exact(3) {
        if let &[pr, pg, pb] = pixel {
            out.extend([r[usize::from(pr)], g[usize::from(pg)], b[usize::from(pb)]]);
        }
    }
}

/// Appends the tokenizer's inputs to a batch.
pub fn push_dvae(out: &mut Vec<f32>, picture: &Picture) {
    let values = table(|v| 0.8 * v + 0.1);
    out.extend(picture.rgb.iter().map(|&v| values[usize::from(v)]));
}

/// The function of `v / 255` for every byte; 256 divisions instead of one per sample.
fn table(f: impl Fn(f64) -> f64) -> [f32; 256] {
    std::array::from_fn(|v| f(v as f64 / 255.0) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_the_range() {
        let picture = Picture { width: 1, height: 1, rgb: vec![0, 255, 51] };
        assert_eq!(to_f32_nhwc(&picture, [0.5; 3], [0.5; 3]), [-1.0, 1.0, -0.6]);
        assert_eq!(to_dvae_nhwc(&picture), [0.1, 0.9, 0.26]);
    }
}
