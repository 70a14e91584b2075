//! Where samples come from, in which order, and what stands in for one that cannot be read.

use std::sync::Arc;

use super::bad::{BadSamples, Part};
use super::cache::Cache;
use super::order::{Order, sample_key};
use super::source::{Sample, Source};
use crate::rng::{Key, Stream};
use crate::{Error, Result};

/// Random replacements tried for an unreadable sample before all others are gone through.
const RANDOM_TRIES: usize = 16;

/// Where samples come from and in which order: what the batches of any training share.
pub struct Samples {
    cache: Cache,
    order: Order,
    pub(super) seed: u64,
    bad: Arc<BadSamples>,
    repeats: u64,
    part: Part,
}

impl Samples {
    /// Shuffled anew in every epoch. An error when the source is empty.
    pub fn shuffled(source: Arc<dyn Source>, seed: u64, bad: Arc<BadSamples>) -> Result<Self> {
        let order = Order::new(seed, source.len());
        Self::new(source, order, seed, bad, Part::Training)
    }

    /// In the plain order, for evaluation. An error when the source is empty.
    pub fn in_order(source: Arc<dyn Source>, seed: u64, bad: Arc<BadSamples>) -> Result<Self> {
        let order = Order::in_order(source.len());
        Self::new(source, order, seed, bad, Part::HeldOut)
    }

    fn new(
        source: Arc<dyn Source>,
        order: Order,
        seed: u64,
        bad: Arc<BadSamples>,
        part: Part,
    ) -> Result<Self> {
        if source.is_empty() {
            return Err(Error::data("empty data set").expected("at least one picture"));
        }
        Ok(Samples { cache: Cache::new(source, Cache::BUDGET), order, seed, bad, repeats: 1, part })
    }

    /// Repeated augmentation: every picture comes `repeats` times in a row with other random changes, and an epoch, which
    /// stays as long, sees so much fewer of them (beit-spec §6.1).
    pub fn with_repeats(mut self, repeats: usize) -> Self {
        self.repeats = repeats.max(1) as u64;
        self
    }

    /// Data-set index of sample number `p`.
    fn index(&self, p: u64) -> usize {
        let len = self.order.len().max(1) as u64;
        self.order.index(p - p % len + p % len / self.repeats)
    }

    /// Sets how many bytes of decoded pictures are kept in memory.
    pub fn with_cache(mut self, bytes: usize) -> Self {
        self.cache = Cache::new(self.cache.source().clone(), bytes);
        self
    }

    /// The order of the samples.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The unreadable ones met so far.
    pub fn bad(&self) -> &Arc<BadSamples> {
        &self.bad
    }

    /// The source.
    pub fn source(&self) -> &Arc<dyn Source> {
        self.cache.source()
    }

    /// Sample number `p` with its index; an unreadable one is replaced by another that depends on `p` alone.
    pub fn load(&self, p: u64) -> Result<(usize, Arc<Sample>)> {
        let len = self.order.len();
        let mut index = self.index(p);
        let mut draws = sample_key(self.seed, Stream::Shuffle, p).child(1).draws();
        for attempt in 0..=RANDOM_TRIES + len {
            if let Some(sample) = self.attempt(index)? {
                return Ok((index, sample));
            }
            index = if attempt < RANDOM_TRIES { draws.below(len) } else { (index + 1) % len.max(1) };
        }
        Err(self.bad.none_usable())
    }

    /// The sample, or None if it cannot be read; an error if too many cannot.
    fn attempt(&self, index: usize) -> Result<Option<Arc<Sample>>> {
        let place = (self.part, index);
        if self.bad.is_bad(place) {
            return Ok(None);
        }
        match self.cache.load(index) {
            Ok(sample) => {
                self.bad.good(place);
                Ok(Some(sample))
            }
            Err(e) => {
                self.bad.bad(place, self.source().name(index), &e)?;
                Ok(None)
            }
        }
    }

    /// The key of sample number `p` for one purpose.
    pub fn key(&self, stream: Stream, p: u64) -> Key {
        sample_key(self.seed, stream, p)
    }

    /// One warning where a batch is larger than the data set, whose samples then repeat within it.
    pub fn warning(&self, batch: usize) -> Option<String> {
        repeats(self.order.len(), batch)
    }
}

/// One warning where a batch is larger than a data set of `len` pictures.
pub fn repeats(len: usize, batch: usize) -> Option<String> {
    (len < batch).then(|| {
        format!("fewer training pictures ({len}) than the batch size ({batch}): they are gone through again with fresh crops")
    })
}

/// Sample numbers of a step.
pub(super) fn numbers(step: u64, batch: usize) -> impl Iterator<Item = u64> {
    let first = step.wrapping_mul(batch as u64);
    (0..batch as u64).map(move |slot| first.wrapping_add(slot))
}

pub(super) fn check_batch(batch: usize) -> Result<()> {
    if (1..=1 << 20).contains(&batch) {
        return Ok(());
    }
    Err(Error::config("wrong batch size").at("batch-size").expected("1 or more").got(batch.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::SyntheticSource;

    #[test]
    fn repeated_augmentation_keeps_the_length_of_an_epoch() {
        let source: Arc<dyn Source> = Arc::new(SyntheticSource::new(1, 9, 8));
        let samples =
            |r| Samples::shuffled(source.clone(), 3, Arc::new(BadSamples::new(1.0))).unwrap().with_repeats(r);
        let indices = |r, epoch: u64| (0..9).map(|p| samples(r).index(9 * epoch + p)).collect::<Vec<_>>();
        let (once, thrice) = (indices(1, 1), indices(3, 1));
        let expected: Vec<usize> = once[..3].iter().flat_map(|&i| [i; 3]).collect();
        assert_eq!(thrice, expected);
        assert_ne!(indices(3, 0)[..3], indices(3, 1)[..3], "another third in the next epoch");
        let key = |p| samples(3).key(Stream::Augment, p);
        assert_ne!(key(0), key(1), "with other random changes");
    }
}
