//! How fine a scene may be: nothing is drawn that a picture of its side cannot show.
//!
//! The bounds are pixels of the rendered side, which a network usually sees at half the size: its patches and a
//! tokenizer's cells are a few pixels wide, and what is finer than they are is noise to both. A small picture therefore
//! shows one to three large objects with broad patterns; one of 128 pixels or more, up to six with fine ones.

/// Pixels of the shortest period of a pattern: two bands of this many halves.
const PERIOD: f32 = 18.0;

/// The bounds of a side. Lengths are in units of the side.
#[derive(Debug, Clone, Copy)]
pub struct Detail {
    /// Fewest and most objects.
    pub objects: (usize, usize),
    /// Smallest and largest radius of the largest object.
    pub first_radius: (f32, f32),
    /// Smallest and largest radius of the others.
    pub other_radius: (f32, f32),
    /// Share of the walls without a pattern.
    pub plain: f64,
    /// Share of the scenes with clutter.
    pub cluttered: f64,
    /// Most specks.
    pub specks: usize,
    /// Smallest and largest radius of a speck.
    pub speck_radius: (f32, f32),
    /// Most cycles of a pattern along the side.
    cycles: f32,
}

impl Detail {
    /// Patterns as they are drawn, for sizes that are bounded later.
    pub const UNLIMITED: Detail = Detail::at_most(f32::INFINITY, 2, 6, 13);

    const fn at_most(cycles: f32, fewest: usize, most: usize, specks: usize) -> Detail {
        Detail {
            objects: (fewest, most),
            first_radius: (0.22, 0.34),
            other_radius: (0.1, 0.2),
            plain: 0.35,
            cluttered: 0.5,
            specks,
            speck_radius: (0.012, 0.03),
            cycles,
        }
    }

    /// What a picture of `side` pixels holds.
    pub fn of(side: usize) -> Detail {
        let pixel = 1.0 / side as f32;
        let most = (side / 21).clamp(1, 6);
        // 0 for the smallest pictures, 1 from 128 pixels on
        let room = (side as f64 / 128.0).min(1.0);
        let at_least = |pixels: f32, length: f32| length.max(pixels * pixel);
        Detail {
            first_radius: (at_least(18.0, 0.22).min(0.3), at_least(26.0, 0.34).min(0.42)),
            other_radius: (at_least(11.0, 0.1).min(0.2), at_least(16.0, 0.2).min(0.28)),
            plain: 1.1 - 0.75 * room,
            cluttered: 0.5 * room * room,
            speck_radius: (at_least(2.0, 0.012).min(0.05), at_least(3.5, 0.03).min(0.08)),
            ..Detail::at_most(side as f32 / PERIOD, most.div_ceil(3).min(2), most, (side / 10).clamp(1, 13))
        }
    }

    /// A frequency in cycles a `unit` (a length), no higher than a picture shows.
    pub fn frequency(self, wanted: f32, unit: f32) -> f32 {
        wanted.min(self.cycles * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pictures_hold_few_large_things() {
        let (small, large) = (Detail::of(64), Detail::of(224));
        assert_eq!((small.objects, large.objects), ((1, 3), (2, 6)));
        assert!(small.other_radius.0 > large.other_radius.0);
        assert_eq!(large.first_radius, Detail::UNLIMITED.first_radius);
        assert_eq!((small.frequency(9.0, 1.0), large.frequency(9.0, 1.0)), (64.0 / PERIOD, 9.0));
        for side in [8, 32, 33, 100, 1024] {
            let d = Detail::of(side);
            assert!(d.objects.0 >= 1 && d.objects.0 <= d.objects.1);
            assert!(d.first_radius.0 < d.first_radius.1 && d.other_radius.0 < d.other_radius.1);
            assert!(d.other_radius.1 < d.first_radius.1 && d.speck_radius.0 < d.speck_radius.1);
        }
    }
}
