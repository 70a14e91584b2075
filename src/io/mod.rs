//! Files: tensors and their names, durable writes, checkpoints, TensorBoard events.
//!
//! The byte-level parts ([`tensors`], [`torch`], [`names`], [`hf`], [`fit`] and the encoders of [`tboard`]) touch no file
//! system and work in a browser; [`atomic`] and [`checkpoint`] need one.
//!
//! Everything here reads bytes that a stranger may have written, so the parsers never index, unwrap or
//! compute with unchecked lengths.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

pub mod atomic;
pub mod checkpoint;
pub mod fit;
pub mod hf;
pub mod limits;
pub mod names;
pub mod tboard;
pub mod tensors;
pub mod torch;
