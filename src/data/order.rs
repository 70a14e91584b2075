//! The order of samples: which index of the data set is sample number p of the whole training.

use std::sync::{Arc, Mutex, PoisonError};

use crate::rng::{Key, Stream};

/// A permutation per epoch, or the plain order; a pure function of the seed and the sample number.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    len: usize,
    shuffled: bool,
    /// Permutations in use; workers may be in neighbouring epochs, and tiny data sets in several.
    recent: Mutex<Vec<(u64, Permutation)>>,
}

/// The indices of one epoch in their order.
type Permutation = Arc<Vec<u32>>;

/// Permutations kept.
const KEPT: usize = 4;

impl Order {
    /// A new permutation of `0..len` in every epoch.
    pub fn new(seed: u64, len: usize) -> Self {
        Order { seed, len, shuffled: true, recent: Mutex::default() }
    }

    /// The plain order in every epoch, for evaluation.
    pub fn in_order(len: usize) -> Self {
        Order { seed: 0, len, shuffled: false, recent: Mutex::default() }
    }

    /// Samples per epoch.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is nothing to order.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Epoch of sample number `p`, from 0.
    pub fn epoch(&self, p: u64) -> u64 {
        p / (self.len as u64).max(1)
    }

    /// Data-set index of sample number `p`; 0 when the set is empty.
    pub fn index(&self, p: u64) -> usize {
        let within = (p % (self.len as u64).max(1)) as usize;
        if !self.shuffled {
            return within;
        }
        self.permutation(self.epoch(p)).get(within).map_or(0, |&i| i as usize)
    }

    fn permutation(&self, epoch: u64) -> Permutation {
        // The cache holds nothing that a panic elsewhere could have left half-done.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = recent.iter().find(|(e, _)| *e == epoch) {
            return known.clone();
        }
        let fresh = Arc::new(shuffled(self.len, self.seed, epoch));
        if recent.len() >= KEPT {
            recent.remove(0);
        }
        recent.push((epoch, fresh.clone()));
        fresh
    }
}

/// Fisher–Yates under the key of this epoch.
fn shuffled(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let key = Key::new(seed, Stream::Shuffle, epoch as u32).child((epoch >> 32) as u32);
    let mut draws = key.draws();
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, draws.below(i + 1));
    }
    order
}

/// The key of sample number `p` for one purpose.
pub fn sample_key(seed: u64, stream: Stream, p: u64) -> Key {
    Key::new(seed, stream, (p >> 32) as u32).child(p as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_another_permutation() {
        let order = Order::new(4, 100);
        let epoch = |e: u64| (0..100).map(|i| order.index(e * 100 + i)).collect::<Vec<_>>();
        for e in [0, 1, 2, 7, 1] {
            let mut all = epoch(e);
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(epoch(3), (0..100).map(|i| Order::new(4, 100).index(300 + i)).collect::<Vec<_>>());
        assert_ne!(epoch(0), (0..100).map(|i| Order::new(5, 100).index(i)).collect::<Vec<_>>());
    }

    #[test]
    fn small_and_plain_sets() {
        let order = Order::new(1, 3);
        assert!((0..64).all(|p| order.index(p) < 3));
        assert_eq!((0..5).map(|p| Order::in_order(3).index(p)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
        assert_eq!(Order::new(1, 0).index(9), 0);
    }

    #[test]
    fn keys_of_samples_differ() {
        let key = |p| sample_key(1, Stream::Mask, p).words(0);
        assert_ne!(key(0), key(1));
        assert_ne!(key(0), key(1 << 32));
        assert_ne!(key(0), sample_key(1, Stream::Augment, 0).words(0));
    }
}
