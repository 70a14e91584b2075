//! Batches for the two kinds of training: masked image modelling and the tokenizer, and the views they are made of.

use std::sync::Arc;

use super::augment::{Augment, eval_views, patch_view, token_view, two_views};
use super::corruption::{Masking, mean_colours, swap_patches};
use super::normalize::{Normalization, push_dvae, push_normalized};
use super::order::sample_key;
use super::picture::Picture;
use super::resize::Filter;
use super::samples::{Samples, check_batch, numbers};
use super::source::Sample;
use crate::rng::{Key, Stream};
use crate::{Error, Result};

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
        let view = (self.samples.order().epoch(p) % views as u64) as usize;
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
