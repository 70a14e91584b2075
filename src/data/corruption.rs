//! Which patches of a picture are corrupted and which are predicted: a mask (beit-spec §4), or the corruption of the
//! ViT paper with its mean colours (beit-spec §8.4).

use super::masking::{MaskSpec, generate};
use super::picture::Picture;
use crate::Result;
use crate::rng::Key;

/// Bits of a channel that are left of a mean colour.
const BITS: u32 = 3;

/// How patches are corrupted and predicted.
#[derive(Debug, Clone, PartialEq)]
pub enum Masking {
    /// Those of a mask are replaced by the mask token.
    Mask {
        /// The generator.
        spec: MaskSpec,
        /// Predict all patches, not only the masked ones.
        predict_all: bool,
    },
    /// Some, chosen uniformly, are corrupted in three ways, and their mean colours predicted.
    Colours {
        /// Rows and columns of the patch grid.
        grid: (usize, usize),
        /// Corrupted patches of a picture.
        count: usize,
        /// Share of those that becomes the mask token.
        masked: f64,
        /// Share of those that becomes another patch of the picture.
        swapped: f64,
    },
}

impl From<MaskSpec> for Masking {
    fn from(spec: MaskSpec) -> Self {
        Masking::Mask { spec, predict_all: false }
    }
}

/// What happens to the n patches of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// Replaced by the mask token, `[n]`.
    pub hidden: Vec<bool>,
    /// In the loss, `[n]`.
    pub predicted: Vec<bool>,
    /// Patches that show another one: which, and the other.
    pub swaps: Vec<(usize, usize)>,
}

impl Masking {
    /// Rows and columns of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        match self {
            Masking::Mask { spec, .. } => (spec.rows, spec.columns),
            Masking::Colours { grid, .. } => *grid,
        }
    }
    /// Number of patches.
    pub fn cells(&self) -> usize {
        let (rows, columns) = self.grid();
        rows.saturating_mul(columns)
    }
    /// Refuses settings that cannot work, naming the flag.
    ///
    /// # Errors
    /// As [`MaskSpec::validate`].
    pub fn validate(&self) -> Result<()> {
        match self {
            Masking::Mask { spec, .. } => spec.validate(),
            Masking::Colours { .. } => Ok(()),
        }
    }
    /// Draws what happens to one picture: a pure function of the key.
    pub fn draw(&self, key: Key) -> Corruption {
        match *self {
            Masking::Mask { ref spec, predict_all } => {
                let hidden = generate(spec, key);
                let predicted = if predict_all { vec![true; hidden.len()] } else { hidden.clone() };
                Corruption { hidden, predicted, swaps: vec![] }
            }
            Masking::Colours { count, masked, swapped, .. } => {
                corrupt(self.cells(), count, masked, swapped, key)
            }
        }
    }
}

/// The first `count` of a random order are corrupted; the ways are drawn one by one.
fn corrupt(cells: usize, count: usize, masked: f64, swapped: f64, key: Key) -> Corruption {
    let mut draws = key.draws();
    let mut order: Vec<usize> = (0..cells).collect();
    let mut out = Corruption { hidden: vec![false; cells], predicted: vec![false; cells], swaps: vec![] };
    for i in 0..count.min(cells) {
        order.swap(i, i + draws.below(cells - i));
        let Some(&patch) = order.get(i) else { continue };
        let (way, other) = (draws.unit(), draws.below(cells.max(2) - 1));
        if let Some(p) = out.predicted.get_mut(patch) {
            *p = true;
        }
        if way < masked {
            if let Some(h) = out.hidden.get_mut(patch) {
                *h = true;
            }
        } else if way < masked + swapped && cells > 1 {
            // any patch but itself
            out.swaps.push((patch, other + usize::from(other >= patch)));
        }
    }
    out
}

/// Class of the mean colour of every patch, row-major: three bits of red, green, blue, red first.
pub fn mean_colours(picture: &Picture, (rows, columns): (usize, usize)) -> Vec<u32> {
    let (h, w) = (picture.height / rows.max(1), picture.width / columns.max(1));
    let class = |p: usize| {
        let mut sums = [0u32; 3];
        for y in 0..h {
            let from = ((p / columns * h + y) * picture.width + p % columns * w) * 3;
            for pixel in picture.rgb.get(from..from + 3 * w).unwrap_or(&[]).chunks_exact(3) {
                sums.iter_mut().zip(pixel).for_each(|(s, &v)| *s += u32::from(v));
            }
        }
        let area = (h * w).max(1) as u32;
        // 256 · 2^-3 = 32 levels of a byte are one class
        sums.iter().fold(0, |class, s| (class << BITS) | ((s / area) >> (8 - BITS)))
    };
    (0..rows * columns).map(class).collect()
}

/// The colour in the middle of a class.
pub fn colour_of(class: u32) -> [u8; 3] {
    [2, 1, 0].map(|channel| {
        let level = (class >> (channel * BITS)) & ((1 << BITS) - 1);
        ((level << (8 - BITS)) + (1 << (7 - BITS))) as u8
    })
}

/// Puts copies of other patches in the place of some; all are taken from the picture as it was.
pub fn swap_patches(picture: &mut Picture, (rows, columns): (usize, usize), swaps: &[(usize, usize)]) {
    if swaps.is_empty() {
        return;
    }
    let before = picture.rgb.clone();
    let (h, w) = (picture.height / rows.max(1), picture.width / columns.max(1));
    let start = |p: usize, y: usize| ((p / columns * h + y) * picture.width + p % columns * w) * 3;
    for &(to, from) in swaps {
        for y in 0..h {
            let (to, from) = (start(to, y), start(from, y));
            if let (Some(to), Some(from)) =
                (picture.rgb.get_mut(to..to + 3 * w), before.get(from..from + 3 * w))
            {
                to.copy_from_slice(from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    #[test]
    fn shares_of_the_corruption() {
        let masking = Masking::Colours { grid: (8, 8), count: 32, masked: 0.8, swapped: 0.1 };
        let (mut hidden, mut swapped, mut places) = (0, 0, [0; 64]);
        for i in 0..2000 {
            let c = masking.draw(Key::new(1, Stream::Mask, i));
            assert_eq!(c.predicted.iter().filter(|&&p| p).count(), 32);
            assert!(c.hidden.iter().zip(&c.predicted).all(|(h, p)| !h || *p));
            assert!(c.swaps.iter().all(|&(a, b)| a != b && b < 64 && c.predicted[a] && !c.hidden[a]));
            hidden += c.hidden.iter().filter(|&&h| h).count();
            swapped += c.swaps.len();
            c.predicted.iter().enumerate().for_each(|(p, &x)| places[p] += usize::from(x));
        }
        let share = |n: usize| n as f64 / 64_000.0;
        assert!((share(hidden) - 0.8).abs() < 0.01 && (share(swapped) - 0.1).abs() < 0.01);
        assert!(places.iter().all(|&n| (880..1120).contains(&n)), "uniform over the picture: {places:?}");
    }

    #[test]
    fn colours_of_patches() {
        // left half red 255, right half grey 100: 7·64 and 3·(64 + 8 + 1)
        let pixel = |i: usize| if i % 8 < 4 { [255, 0, 31] } else { [100, 100, 100] };
        let mut picture = Picture { width: 8, height: 4, rgb: (0..32).flat_map(pixel).collect() };
        assert_eq!(mean_colours(&picture, (1, 2)), [448, 219]);
        assert_eq!(colour_of(448), [240, 16, 16]);
        swap_patches(&mut picture, (1, 2), &[(0, 1)]);
        assert_eq!(mean_colours(&picture, (1, 2)), [219, 219]);
    }

    #[test]
    fn everything_can_be_predicted_with_nothing_hidden() {
        let spec =
            MaskSpec { kind: super::super::masking::MaskKind::None, ..MaskSpec::blockwise(4, 4, 6, 2) };
        let masking = Masking::Mask { spec, predict_all: true };
        masking.validate().unwrap();
        let c = masking.draw(Key::new(1, Stream::Mask, 0));
        assert!(c.predicted.iter().all(|&p| p) && !c.hidden.contains(&true));
    }
}
