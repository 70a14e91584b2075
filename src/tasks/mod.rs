//! What differs between kinds of training: the graph, the inputs, the measurements.

pub mod atlas;
pub mod classify;
pub mod codebook;
pub mod confusion;
pub mod pretrain;
pub mod ranking;
pub mod reconstruct;
pub mod tokenizer;
pub mod topk;
pub mod workload;
