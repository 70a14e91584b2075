//! Decoded pictures kept in memory, so that small data sets are decoded once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::source::{Sample, Source};
use crate::Result;

/// Keeps what fits into a budget and loads the rest anew each time. Nothing is thrown out: with every sample
/// wanted once per epoch, a fixed set of kept pictures serves as many reads as any rule of replacement.
pub struct Cache {
    source: Arc<dyn Source>,
    budget: usize,
    used: AtomicUsize,
    kept: RwLock<HashMap<usize, Arc<Sample>>>,
}

impl Cache {
    /// Decoded bytes kept unless told otherwise.
    pub const BUDGET: usize = if cfg!(target_arch = "wasm32") { 64 << 20 } else { 256 << 20 };

    /// Keeps up to `budget` bytes of pictures.
    pub fn new(source: Arc<dyn Source>, budget: usize) -> Self {
        Cache { source, budget, used: AtomicUsize::new(0), kept: RwLock::default() }
    }

    /// The source behind it.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The sample, from memory if it was kept.
    pub fn load(&self, index: usize) -> Result<Arc<Sample>> {
        // The map is whole even after a panic elsewhere: one insert is its only change.
        let known = self.kept.read().unwrap_or_else(PoisonError::into_inner).get(&index).cloned();
        if let Some(sample) = known {
            return Ok(sample);
        }
        let sample = Arc::new(self.source.load(index)?);
        let size = sample.picture.rgb.len() + sample.segmentation.as_ref().map_or(0, Vec::len);
        if self.used.fetch_add(size, Ordering::Relaxed) + size <= self.budget {
            self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(index, sample.clone());
        } else {
            self.used.fetch_sub(size, Ordering::Relaxed);
        }
        Ok(sample)
    }

    /// Decoded bytes in memory.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}
