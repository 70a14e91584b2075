//! Pictures with a class for every pixel: label maps, pairs of folders, joint augmentation, batches (beit-spec §7.6).

mod augment;
mod batches;
mod check;
mod label_map;
mod open;
mod source;

pub use augment::{SegmentAugment, fit_short_side};
pub use batches::{SegmentBatch, SegmentBatches, SegmentViews};
pub use check::{MapCensus, census};
pub use label_map::{LabelMap, read_label_map};
pub use open::{SegmentChoice, SegmentPictures, open_segments};
pub use source::{LabelRule, Labelled, PairedSource};

/// The label of pixels that do not count.
pub const IGNORED: u8 = 255;
