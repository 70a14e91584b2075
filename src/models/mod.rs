//! The networks, as functions that draw a graph. Parameter names are those of the official checkpoints.

pub mod batch_norm;
pub mod classifier;
pub mod dino;
pub mod dvae;
mod export;
pub mod mim;
pub mod moco;
pub mod pixels;
pub mod segmenter;
pub mod setr;
mod tokenizer;
pub mod upernet;
pub mod vit;
pub mod vq_kd;

pub use dvae::{DvaeConfig, DvaeNetwork};
pub use tokenizer::{TokenizerModel, TokenizerNetwork};
pub use vit::{RelPos, VitConfig};
pub use vq_kd::VqKdConfig;
