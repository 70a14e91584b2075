//! The two networks on the host, as the crate holds them.

pub use beit::train::{Pair as Weights, PairFiles as Files};
