//! Built-in labelled scenes: drawn objects on textured backdrops, with light, shadow and occlusion, and the exact
//! class of every pixel. A pure function of the seed and the number of the scene, so nothing is stored.

mod colour;
mod detail;
mod render;
mod scene;
mod shape;
mod texture;

use super::source::{Sample, Source};
use crate::rng::{Key, Stream};
use crate::{Error, Result};
use detail::Detail;
use render::render;
use scene::Scene;
use shape::SHAPES;

/// Scenes unless told otherwise.
const COUNT: usize = 10_000;
/// Side of a scene unless told otherwise, pixels.
const SIDE: usize = 64;
/// Part of the fingerprint; to be raised when the same seed gives other pictures.
const VERSION: u32 = 2;

/// The scenes of a seed.
#[derive(Debug, Clone)]
pub struct SyntheticSource {
    seed: u64,
    count: usize,
    side: usize,
    classes: Vec<String>,
}

impl SyntheticSource {
    /// `count` square scenes of `side` pixels. A larger side shows more and finer things, not the same ones larger.
    pub fn new(seed: u64, count: usize, side: usize) -> Self {
        let classes = SHAPES.iter().map(|s| s.name().to_string()).collect();
        SyntheticSource { seed, count, side, classes }
    }

    /// From `synthetic`, `synthetic:COUNT` or `synthetic:COUNT:SIDE`.
    pub fn parse(spec: &str, seed: u64) -> Result<Self> {
        let wrong = || {
            let e = Error::config("wrong synthetic data set").at(spec);
            e.expected("synthetic[:COUNT[:SIDE]], COUNT 1 to 100000000, SIDE 8 to 1024")
        };
        let mut parts = spec.split(':').skip(1);
        let mut number = |default: usize, low: usize, high: usize| match parts.next() {
            None => Ok(default),
            Some(text) => text.parse().ok().filter(|n| (low..=high).contains(n)).ok_or_else(wrong),
        };
        let (count, side) = (number(COUNT, 1, 100_000_000)?, number(SIDE, 8, 1024)?);
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self::new(seed, count, side)) }
    }

    /// Names of the classes of a segmentation map, whose class 0 is the background.
    pub fn segment_names(&self) -> Vec<String> {
        std::iter::once("background".to_string()).chain(self.classes.iter().cloned()).collect()
    }
}

impl Source for SyntheticSource {
    fn len(&self) -> usize {
        self.count
    }

    fn load(&self, index: usize) -> Result<Sample> {
        if index >= self.count {
            return Err(Error::data("no such scene")
                .expected(format!("below {}", self.count))
                .got(index.to_string()));
        }
        let scene = Scene::draw(Key::new(self.seed, Stream::Scene, index as u32), Detail::of(self.side));
        let rendered = render(&scene, self.side);
        let label = largest_class(&rendered.segmentation);
        Ok(Sample { picture: rendered.picture, label, segmentation: Some(rendered.segmentation) })
    }

    fn name(&self, index: usize) -> String {
        format!("scene {index} of seed {}", self.seed)
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn fingerprint(&self) -> String {
        format!("synthetic-v{VERSION}:{}:{}:{}", self.seed, self.count, self.side)
    }
}

/// The class with the most visible pixels, counted from 0 without the background; the lower one on a tie.
fn largest_class(segmentation: &[u8]) -> Option<u32> {
    let mut counts = [0usize; SHAPES.len() + 1];
    for &class in segmentation {
        if let Some(count) = counts.get_mut(usize::from(class)) {
            *count += 1;
        }
    }
    let visible = counts.iter().enumerate().skip(1).filter(|(_, count)| **count > 0);
    visible
        .max_by_key(|&(class, count)| (*count, std::cmp::Reverse(class)))
        .map(|(class, _)| class as u32 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_reproducible_and_differ() {
        let source = SyntheticSource::new(7, 50, 48);
        let other = SyntheticSource::new(8, 50, 48);
        let mut classes = [0; 10];
        for i in 0..50 {
            let sample = source.load(i).unwrap();
            assert_eq!(sample, SyntheticSource::new(7, 50, 48).load(i).unwrap());
            assert_ne!(sample.picture, other.load(i).unwrap().picture);
            let segmentation = sample.segmentation.unwrap();
            assert_eq!((sample.picture.rgb.len(), segmentation.len()), (48 * 48 * 3, 48 * 48));
            let label = sample.label.unwrap();
            assert!(segmentation.contains(&(label as u8 + 1)));
            let covered = segmentation.iter().filter(|&&c| c > 0).count() as f64 / 2304.0;
            assert!((0.04..0.9).contains(&covered), "scene {i}: {covered}");
            classes[label as usize] += 1;
        }
        assert!(classes.iter().filter(|&&n| n > 0).count() >= 8);
        assert!(source.load(50).is_err());
    }

    #[test]
    fn specs() {
        let parse = |s| SyntheticSource::parse(s, 1).map(|s| (s.count, s.side));
        assert_eq!(parse("synthetic"), Ok((COUNT, SIDE)));
        assert_eq!(parse("synthetic:12"), Ok((12, SIDE)));
        assert_eq!(parse("synthetic:12:96"), Ok((12, 96)));
        for wrong in ["synthetic:", "synthetic:0", "synthetic:5:4", "synthetic:5:64:1", "synthetic:x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
