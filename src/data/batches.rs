//! Batches for the two kinds of training: masked image modelling and the tokenizer.

use std::sync::Arc;

use super::augment::{Augment, eval_views, patch_view, token_view, two_views};
use super::bad::{BadSamples, Part};
use super::cache::Cache;
use super::corruption::{Masking, mean_colours, swap_patches};
use super::normalize::{Normalization, push_dvae, push_normalized};
use super::order::{Order, sample_key};
use super::picture::Picture;
use super::resize::Filter;
use super::source::{Sample, Source};
use crate::rng::{Key, Stream};
use crate::{Error, Result};

/// Random replacements tried for an unreadable sample before all others are gone through.
const RANDOM_TRIES: usize = 16;

/// Where samples come from and in which order: what the batches of any training share.
pub struct Samples {
    cache: Cache,
    order: Order,
    seed: u64,
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

/// How a picture becomes the views of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Views {
    /// Side of the patch view, S pixels.
    pub patch_side: usize,
    /// Side of the token view, s pixels.
    pub token_side: usize,
    /// How the token view is resized.
    pub token_filter: Filter,
    /// Random changes; None = the centred square, for evaluation.
    pub augment: Option<Augment>,
    /// Scaling of the patch view.
    pub normalization: Normalization,
}

impl Views {
    /// Side and filter of the token view.
    pub fn token(&self) -> (usize, Filter) {
        (self.token_side, self.token_filter)
    }
    /// Refuses settings that cannot work, naming the flag.
    pub fn validate(&self) -> Result<()> {
        for (flag, side) in [("image-size", self.patch_side), ("token-image-size", self.token_side)] {
            if !(1..=8192).contains(&side) {
                let e = Error::config("wrong picture side").at(flag).expected("1 to 8192");
                return Err(e.got(side.to_string()));
            }
        }
        self.augment.as_ref().map_or(Ok(()), Augment::validate)
    }
}

/// One batch of masked image modelling; B pictures, n patches.
#[derive(Debug, Clone, PartialEq)]
pub struct MimBatch {
    /// Normalised pictures for the transformer, `[B, S, S, 3]`.
    pub patch_view: Vec<f32>,
    /// Pictures for the tokenizer in 0.1..0.9, `[B, s, s, 3]`.
    pub token_view: Vec<f32>,
    /// Ids from the token cache or classes of mean colours, `[B, n]`; else empty, and with them the token view is.
    pub ids: Vec<u32>,
    /// Patches that the mask token replaces, `[B, n]` row-major.
    pub mask: Vec<bool>,
    /// Patches in the loss, `[B, n]`.
    pub predicted: Vec<bool>,
    /// Pictures before patches were swapped, `[B, S, S, 3]`; empty where none ever is.
    pub unchanged: Vec<f32>,
    /// Data-set index of every picture, `[B]`.
    pub samples: Vec<usize>,
    /// Class of every picture where it has one, `[B]`.
    pub labels: Vec<Option<u32>>,
}

/// Ids that were computed before, for a fixed set of crops of every picture ([`cached_view_key`]).
pub trait ViewIds: Send + Sync {
    /// Crops of each picture.
    fn views(&self) -> usize;
    /// The ids `[h·w]` of a view of a picture, counted round; `None` for a picture that could not be read.
    ///
    /// # Errors
    /// If the disk refuses, or what it holds cannot be ids.
    fn ids(&self, picture: usize, view: usize) -> Result<Option<Vec<u32>>>;
}

/// Makes the batches of masked image modelling.
pub struct MimBatches {
    /// Where the pictures come from.
    pub samples: Samples,
    /// Pictures per batch, B.
    pub batch: usize,
    /// Sizes, augmentation and scaling.
    pub views: Views,
    /// Which patches are corrupted and predicted.
    pub masking: Masking,
    cached: Option<Arc<dyn ViewIds>>,
    token_views: bool,
}

/// The key of the augmentation of a cached view: each picture has a fixed set of them.
pub fn cached_view_key(seed: u64, picture: usize, views: usize, view: usize) -> Key {
    sample_key(seed, Stream::Augment, (picture * views + view) as u64).child(1)
}

impl MimBatches {
    /// Checks all settings together.
    pub fn new(samples: Samples, batch: usize, views: Views, masking: impl Into<Masking>) -> Result<Self> {
        let masking = masking.into();
        check_batch(batch)?;
        views.validate()?;
        masking.validate()?;
        Ok(MimBatches { samples, batch, views, masking, cached: None, token_views: true })
    }

    /// Makes no token views: for methods without a tokenizer.
    pub fn without_token_views(mut self) -> Self {
        self.token_views = false;
        self
    }

    /// Takes ids and crops from a token cache: in each epoch every picture's next view.
    pub fn with_cached_ids(mut self, ids: Arc<dyn ViewIds>) -> Self {
        self.cached = Some(ids);
        self
    }

    /// The patch view of a cached crop and its ids.
    fn cached(
        &self,
        ids: &dyn ViewIds,
        p: u64,
        index: usize,
        sample: &Sample,
    ) -> Result<(Picture, Vec<u32>)> {
        let views = ids.views();
        let view = (self.samples.order.epoch(p) % views as u64) as usize;
        let none = Augment::off();
        let augment = self.views.augment.as_ref().unwrap_or(&none);
        let key = cached_view_key(self.samples.seed, index, views, view);
        let found = ids.ids(index, view)?.ok_or_else(|| {
            Error::data("a picture could not be read when the token cache was made, but can be now")
                .at(self.samples.source().name(index))
                .hint("delete the cache to make it again")
        })?;
        Ok((patch_view(&sample.picture, augment, key, self.views.patch_side), found))
    }

    /// The patch view of a sample; its token view or its cached ids go to the batch.
    fn patch_view(&self, out: &mut MimBatch, p: u64, index: usize, sample: &Sample) -> Result<Picture> {
        let v = &self.views;
        if let Some(ids) = &self.cached {
            let (patch, found) = self.cached(ids.as_ref(), p, index, sample)?;
            out.ids.extend(found);
            return Ok(patch);
        }
        let key = self.samples.key(Stream::Augment, p);
        if !self.token_views {
            let none = Augment::off();
            let augment = v.augment.as_ref().unwrap_or(&none);
            return Ok(patch_view(&sample.picture, augment, key, v.patch_side));
        }
        let (patch, token) = match &v.augment {
            Some(augment) => two_views(&sample.picture, augment, key, v.patch_side, v.token()),
            None => eval_views(&sample.picture, v.patch_side, v.token()),
        };
        push_dvae(&mut out.token_view, &token);
        Ok(patch)
    }

    /// The batch of a step: a pure function of the step and the settings.
    pub fn make(&self, step: u64) -> Result<MimBatch> {
        let (b, v, cells) = (self.batch, &self.views, self.masking.cells());
        let token_side = if self.token_views { v.token_side } else { 0 };
        let mut out = MimBatch {
            patch_view: Vec::with_capacity(b * v.patch_side * v.patch_side * 3),
            token_view: Vec::with_capacity(b * token_side * token_side * 3),
            ids: Vec::new(),
            mask: Vec::with_capacity(b * cells),
            predicted: Vec::with_capacity(b * cells),
            unchanged: Vec::new(),
            samples: Vec::with_capacity(b),
            labels: Vec::with_capacity(b),
        };
        for p in numbers(step, b) {
            let (index, sample) = self.samples.load(p)?;
            let mut patch = self.patch_view(&mut out, p, index, &sample)?;
            let drawn = self.masking.draw(self.samples.key(Stream::Mask, p));
            if matches!(self.masking, Masking::Colours { .. }) {
                out.ids.extend(mean_colours(&patch, self.masking.grid()));
                push_normalized(&mut out.unchanged, &patch, v.normalization);
                swap_patches(&mut patch, self.masking.grid(), &drawn.swaps);
            }
            push_normalized(&mut out.patch_view, &patch, v.normalization);
            out.mask.extend(drawn.hidden);
            out.predicted.extend(drawn.predicted);
            out.samples.push(index);
            out.labels.push(sample.label);
        }
        Ok(out)
    }
}

/// One batch for training the tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenBatch {
    /// Pictures in 0.1..0.9, `[B, s, s, 3]`.
    pub token_view: Vec<f32>,
    /// The same crops for a teacher, normalised `[B, S, S, 3]`; empty unless asked for.
    pub patch_view: Vec<f32>,
    /// Data-set index of every picture, `[B]`.
    pub samples: Vec<usize>,
}

/// Makes the batches of tokenizer training; only the token view is computed, unless patch views are asked for.
pub struct TokenBatches {
    /// Where the pictures come from.
    pub samples: Samples,
    /// Pictures per batch, B.
    pub batch: usize,
    /// Sizes and augmentation.
    pub views: Views,
    patch_views: bool,
}

impl TokenBatches {
    /// Checks all settings together.
    pub fn new(samples: Samples, batch: usize, views: Views) -> Result<Self> {
        check_batch(batch)?;
        views.validate()?;
        Ok(TokenBatches { samples, batch, views, patch_views: false })
    }

    /// Makes patch views too: a teacher looks at the same crops.
    pub fn with_patch_views(mut self) -> Self {
        self.patch_views = true;
        self
    }

    /// The batch of a step: a pure function of the step and the settings.
    pub fn make(&self, step: u64) -> Result<TokenBatch> {
        let (v, none) = (&self.views, Augment::off());
        let augment = v.augment.as_ref().unwrap_or(&none);
        let mut out = TokenBatch { token_view: vec![], patch_view: vec![], samples: vec![] };
        out.token_view.reserve(self.batch * v.token_side * v.token_side * 3);
        for p in numbers(step, self.batch) {
            let (index, sample) = self.samples.load(p)?;
            let key = self.samples.key(Stream::Augment, p);
            if self.patch_views {
                let (patch, token) = two_views(&sample.picture, augment, key, v.patch_side, v.token());
                push_normalized(&mut out.patch_view, &patch, v.normalization);
                push_dvae(&mut out.token_view, &token);
            } else {
                push_dvae(&mut out.token_view, &token_view(&sample.picture, augment, key, v.token()));
            }
            out.samples.push(index);
        }
        Ok(out)
    }
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
