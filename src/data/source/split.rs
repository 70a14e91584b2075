//! Parts of a source: disjoint training and held-out views.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Sample, Source, no_such, short_hash};
use crate::rng::{Key, Stream};
use crate::{Error, Result};

/// Some of the pictures of a source, under new numbers.
pub struct Subset {
    parent: Arc<dyn Source>,
    indices: Vec<usize>,
}

impl Subset {
    /// Picture `i` is picture `indices[i]` of the parent.
    pub fn new(parent: Arc<dyn Source>, indices: Vec<usize>) -> Self {
        Subset { parent, indices }
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn load(&self, index: usize) -> Result<Sample> {
        let inner = self.indices.get(index).ok_or_else(|| no_such(index, self.len()))?;
        self.parent.load(*inner)
    }

    fn name(&self, index: usize) -> String {
        self.indices.get(index).map_or_else(String::new, |&i| self.parent.name(i))
    }

    fn classes(&self) -> &[String] {
        self.parent.classes()
    }

    fn labels(&self) -> Option<Vec<Option<u32>>> {
        let all = self.parent.labels()?;
        Some(self.indices.iter().map(|&i| all.get(i).copied().flatten()).collect())
    }

    fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.parent.fingerprint());
        for &i in &self.indices {
            hash.update((i as u64).to_le_bytes());
        }
        short_hash(hash)
    }
}

/// Up to so many held-out pictures are opened first, lest the only one be a damaged file.
const CHECKED: usize = 16;

/// Splits off a share of the pictures for evaluation: disjoint, deterministic in the seed, both in the order of
/// the source. With a share above 0 both parts hold at least one picture, the held-out one a readable one if there is any.
pub fn split(source: Arc<dyn Source>, share: f64, seed: u64) -> Result<(Arc<dyn Source>, Arc<dyn Source>)> {
    let len = source.len();
    if !(0.0..1.0).contains(&share) {
        let e = Error::config("wrong held-out share").at("val-share").expected("0 or more and below 1");
        return Err(e.got(share.to_string()));
    }
    if share > 0.0 && len < 2 {
        let e = Error::data("too few pictures to hold some out").expected("2 or more");
        return Err(e.got(len.to_string()).hint("give another folder for validation"));
    }
    let held = if share > 0.0 { ((len as f64 * share).round() as usize).clamp(1, len - 1) } else { 0 };
    // A key of its own: the epochs of training draw from the others.
    let mut draws = Key::new(seed, Stream::Shuffle, u32::MAX).draws();
    let mut order: Vec<usize> = (0..len).collect();
    let (mut taken, mut next) = (0, 0);
    while taken < held {
        if next < len {
            order.swap(next, next + draws.below(len - next));
            next += 1;
            if held <= CHECKED && source.load(order[next - 1]).is_err() {
                continue; // training skips and counts it
            }
            order.swap(taken, next - 1);
        }
        taken += 1; // past the end nothing readable is left
    }
    let mut train = order.split_off(held);
    train.sort_unstable();
    order.sort_unstable();
    Ok((Arc::new(Subset::new(source.clone(), train)), Arc::new(Subset::new(source, order))))
}
