//! What differs between kinds of training: the graph, the inputs, the measurements.

pub mod atlas;
pub mod classify;
pub mod codebook;
pub mod confusion;
pub mod pixels;
pub mod pretrain;
pub mod ranking;
pub mod reconstruct;
#[cfg(feature = "cli")]
pub mod segment;
#[cfg(feature = "cli")]
pub mod sliding;
pub mod token_statistics;
pub mod tokenizer;
pub mod topk;
pub mod views;
pub mod vq_kd;
pub mod workload;
