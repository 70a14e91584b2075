//! What differs between kinds of training: the graph, the inputs, the measurements.

pub mod pretrain;
pub mod tokenizer;
pub mod workload;
