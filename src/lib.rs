//! BEiT in WebGPU: BERT-style pre-training of image transformers in WGSL compute shaders.

pub mod error;
pub mod io;
pub mod rng;

pub use error::{Error, ErrorKind, Result};
