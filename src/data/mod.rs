//! Data: sources of pictures, decoding, augmentation, masks, and batches made ahead on worker threads.
//!
//! Everything random is a pure function of a seed and the number of the sample, so batches do not depend on the
//! number of threads, and a resumed run sees what the uninterrupted one would have seen.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod augment;
pub mod bad;
pub mod batches;
pub mod cache;
mod corruption;
pub mod decode;
mod erasing;
#[cfg(feature = "cli")]
pub mod ids;
mod jitter;
mod jpeg;
pub mod labelled;
pub mod loader;
pub mod mask_input;
pub mod masking;
pub mod mixing;
pub mod normalize;
pub mod order;
pub mod picture;
pub mod randaugment;
pub mod resize;
pub mod samples;
#[cfg(feature = "cli")]
pub mod segment;
pub mod source;
pub mod synthetic;
pub mod views;

pub use augment::{Augment, eval_views, token_view, two_views};
pub use bad::{BadReport, BadSample, BadSamples};
pub use batches::{MimBatch, MimBatches, TokenBatch, TokenBatches, ViewIds, Views};
pub use cache::Cache;
pub use corruption::{Corruption, Masking, colour_of, mean_colours};
pub use decode::{ImageLimits, decode};
pub use labelled::{ClassAugment, ClassBatch, ClassBatches, ClassViews};
pub use loader::{Loader, LoaderOptions};
pub use masking::{MaskKind, MaskSpec, generate};
pub use mixing::Mixing;
pub use normalize::{Normalization, to_dvae_nhwc, to_f32_nhwc};
pub use order::Order;
pub use picture::{Crop, Picture};
pub use randaugment::RandAugment;
pub use resize::{Filter, resize};
pub use samples::Samples;
pub use source::{
    Opened, Sample, Source, check_classes, check_labels, few, few_per_class, open, split, with_classes,
};
pub use synthetic::SyntheticSource;
pub use views::{CropSpec, ViewBatch, ViewBatches, ViewSpec};
