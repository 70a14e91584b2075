//! The networks, as functions that draw a graph. Parameter names are those of the official checkpoints.

pub mod classifier;
pub mod dvae;
mod export;
pub mod mim;
pub mod vit;

pub use dvae::DvaeConfig;
pub use vit::{RelPos, VitConfig};
