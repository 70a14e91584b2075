//! BEiT in WebGPU: BERT-style pre-training of image transformers in WGSL compute shaders.

pub mod error;
pub mod io;
pub mod rng;
#[cfg(feature = "cli")]
pub mod runs;

pub use error::{Error, ErrorKind, Result};
