//! BEiT in WebGPU: BERT-style pre-training of image transformers in WGSL compute shaders.

pub mod data;
pub mod error;
pub mod rng;

pub use error::{Error, ErrorKind, Result};
