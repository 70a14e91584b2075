//! What differs between kinds of training: the graph, the inputs, the measurements.

pub mod confusion;
pub mod pretrain;
pub mod tokenizer;
pub mod topk;
pub mod workload;
