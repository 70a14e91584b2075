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
pub mod upernet;
pub mod vit;

pub use dvae::{DvaeConfig, DvaeNetwork};
pub use vit::{RelPos, VitConfig};
