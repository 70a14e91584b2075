//! Colour jitter: brightness, contrast and saturation in a random order, with Pillow's 8-bit arithmetic.

use super::picture::Picture;
use crate::rng::Key;

/// One change of colour; the number is the factor, 1 = unchanged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    /// Blend with black.
    Brightness(f32),
    /// Blend with the mean grey of the whole picture.
    Contrast(f32),
    /// Blend with the grey of each pixel.
    Saturation(f32),
}

/// A drawn jitter: three changes in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter([Change; 3]);

/// A jitter whose mean grey is known, so that any part of the picture can be changed on its own.
pub struct FixedJitter {
    steps: [Step; 3],
}

/// Brightness and contrast act on each sample alone and are tables; saturation looks at the pixel.
enum Step {
    Table(Box<[u8; 256]>),
    Saturation(f32),
}

impl Jitter {
    /// Draws three factors in `[1 - strength, 1 + strength]` and their order.
    pub fn draw(strength: f32, key: Key) -> Jitter {
        Self::draw_each([strength; 3], key)
    }

    /// The same with strengths of brightness, contrast and saturation of their own.
    pub fn draw_each([brightness, contrast, saturation]: [f32; 3], key: Key) -> Jitter {
        let mut draws = key.draws();
        let mut factor =
            |strength: f32| draws.range(f64::from(1.0 - strength).max(0.0), f64::from(1.0 + strength)) as f32;
        let mut changes = [
            Change::Brightness(factor(brightness)),
            Change::Contrast(factor(contrast)),
            Change::Saturation(factor(saturation)),
        ];
        for i in (1..3).rev() {
            changes.swap(i, draws.below(i + 1));
        }
        Jitter(changes)
    }

    /// Fixes the mean grey that the contrast needs: that of the whole picture after the changes before it.
    pub fn fix(&self, picture: &Picture) -> FixedJitter {
        let mut fixed = FixedJitter { steps: self.0.map(|_| Step::Saturation(1.0)) };
        for (i, &change) in self.0.iter().enumerate() {
            let step = match change {
                Change::Brightness(factor) => table(0.0, factor),
                Change::Contrast(factor) => table(fixed.mean_grey(picture, i), factor),
                Change::Saturation(factor) => Step::Saturation(factor),
            };
            if let Some(slot) = fixed.steps.get_mut(i) {
                *slot = step;
            }
        }
        fixed
    }
}

impl FixedJitter {
    /// Changes RGB samples in place.
    pub fn apply(&self, rgb: &mut [u8]) {
        for step in &self.steps {
            step.apply(rgb);
        }
    }

    /// Rounded mean grey of the picture after the first `done` steps.
    fn mean_grey(&self, picture: &Picture, done: usize) -> f32 {
        let mut sum = 0u64;
        let mut row = Vec::new();
        for samples in picture.rgb.chunks((picture.width * 3).max(3)) {
            row.clear();
            row.extend_from_slice(samples);
            self.steps.iter().take(done).for_each(|step| step.apply(&mut row));
            sum += row.chunks_exact(3).map(|p| u64::from(grey(p))).sum::<u64>();
        }
        let pixels = (picture.rgb.len() / 3).max(1) as f64;
        (sum as f64 / pixels + 0.5).floor() as f32
    }
}

impl Step {
    fn apply(&self, rgb: &mut [u8]) {
        match self {
            Step::Table(table) => {
                for v in rgb {
                    *v = table[usize::from(*v)];
                }
            }
            Step::Saturation(factor) => {
                for pixel in rgb.chunks_exact_mut(3) {
                    let base = f32::from(grey(pixel));
                    for v in pixel {
                        *v = blend(base, *v, *factor);
                    }
                }
            }
        }
    }
}

/// Rounded mean grey of a picture.
pub(super) fn mean_grey(picture: &Picture) -> f32 {
    FixedJitter { steps: [1.0; 3].map(Step::Saturation) }.mean_grey(picture, 0)
}

fn table(base: f32, factor: f32) -> Step {
    Step::Table(Box::new(std::array::from_fn(|v| blend(base, v as u8, factor))))
}

/// `base + factor * (value - base)`, cut to 0..255 and truncated as Pillow's blend does.
pub(super) fn blend(base: f32, value: u8, factor: f32) -> u8 {
    (base + factor * (f32::from(value) - base)) as u8
}

/// 0.299 R + 0.587 G + 0.114 B in 16-bit fixed point, rounded.
pub(super) fn grey(pixel: &[u8]) -> u8 {
    match pixel {
        &[r, g, b] => {
            ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
        }
        _ => 0,
    }
}

/// Multiplies the saturation and turns the hue by degrees.
pub(super) fn recolour([r, g, b]: [f32; 3], saturation: f32, hue: f32) -> [f32; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = most - least;
    let sector = if chroma == 0.0 {
        0.0
    } else if most == r {
        ((g - b) / chroma).rem_euclid(6.0)
    } else if most == g {
        (b - r) / chroma + 2.0
    } else {
        (r - g) / chroma + 4.0
    };
    let sector = (sector + hue / 60.0).rem_euclid(6.0);
    let chroma = (chroma * saturation).min(most);
    let x = chroma * (1.0 - (sector % 2.0 - 1.0).abs());
    let rgb = match sector as u8 {
        0 => [chroma, x, 0.0],
        1 => [x, chroma, 0.0],
        2 => [0.0, chroma, x],
        3 => [0.0, x, chroma],
        4 => [x, 0.0, chroma],
        _ => [chroma, 0.0, x],
    };
    rgb.map(|v| v + most - chroma)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn factor_one_changes_nothing() {
        let picture = Picture { width: 4, height: 4, rgb: (0..48).map(|v| v * 5).collect() };
        let one = Jitter([Change::Saturation(1.0), Change::Contrast(1.0), Change::Brightness(1.0)]);
        let mut rgb = picture.rgb.clone();
        one.fix(&picture).apply(&mut rgb);
        assert_eq!(rgb, picture.rgb);
    }

    #[test]
    fn extremes() {
        let picture = Picture { width: 2, height: 1, rgb: vec![10, 20, 30, 200, 100, 0] };
        let run = |change| {
            let mut rgb = picture.rgb.clone();
            Jitter([change, Change::Brightness(1.0), Change::Saturation(1.0)]).fix(&picture).apply(&mut rgb);
            rgb
        };
        assert_eq!(run(Change::Brightness(0.0)), [0; 6]);
        assert_eq!(run(Change::Brightness(2.0)), [20, 40, 60, 255, 200, 0]);
        assert_eq!(run(Change::Saturation(0.0)), [18, 18, 18, 118, 118, 118]);
        assert_eq!(run(Change::Contrast(0.0)), [68; 6]);
    }

    #[test]
    fn all_orders_and_factors_occur() {
        let mut firsts = [0; 3];
        for i in 0..3000 {
            let Jitter(changes) = Jitter::draw(0.4, Key::new(1, Stream::Augment, i));
            let (kind, factor) = match changes[0] {
                Change::Brightness(f) => (0, f),
                Change::Contrast(f) => (1, f),
                Change::Saturation(f) => (2, f),
            };
            firsts[kind] += 1;
            assert!((0.6..=1.4).contains(&factor));
        }
        assert!(firsts.iter().all(|n| (900..1100).contains(n)), "{firsts:?}");
    }
}
