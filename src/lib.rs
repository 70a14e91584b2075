//! BEiT in WebGPU: BERT-style pre-training of image transformers in WGSL compute shaders.
//!
//! ```text
//! models --draw--> Graph --grad--> Graph --compile--> Plan --load--> Session --run--> results
//! ```

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod compare;
pub mod config;
pub mod cpu;
pub mod data;
pub mod device;
pub mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
pub mod inference;
pub mod interop;
pub mod io;
pub mod models;
pub mod ops;
pub mod optim;
pub mod pictures;
pub mod plan;
pub mod rng;
#[cfg(feature = "cli")]
pub mod runs;
#[cfg(feature = "cli")]
pub mod segmenter;
pub mod session;
pub mod tasks;
pub mod train;

pub use error::{Error, ErrorKind, Result};
