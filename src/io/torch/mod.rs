//! Files of `torch.save`: tensors are read out of them, and nothing in them is ever executed.
//!
//! A pickle is a program for a small stack machine that may call any function. [`pickle`] is a machine that knows a
//! closed list of opcodes and class names, builds plain values only, and refuses everything else by name.
//! Both containers are read: a zip of stored entries (the present one), and a plain pickle with the storages behind it.

mod known;
mod legacy;
mod pickle;
mod storage;
mod write;
mod zip;

use crate::error::{Error, Result};
use crate::io::limits::FileLimits;
use crate::io::tensors::TensorFile;
use pickle::{Node, NodeId, Values};

pub use write::write_torch;

/// Keys under which training programs keep the weights: the official code, DeepSpeed, mmseg, the second dVAE.
const NESTED: [&str; 4] = ["model", "module", "state_dict", "weights"];

/// Whether the bytes start like a file of `torch.save`.
pub fn looks_like_torch(bytes: &[u8]) -> bool {
    // a safetensors header length of 128 could start like a pickle, but goes on with a brace
    let pickle = bytes.first() == Some(&0x80) && bytes.get(8) != Some(&b'{');
    bytes.starts_with(b"PK\x03\x04") || pickle
}

/// Reads the tensors of a state dict, alone in the file or under `model`, `module`, `state_dict` or `weights`.
///
/// # Errors
/// If the file holds anything but plain values and tensors (the message names the opcode or class), is damaged, or
/// asks for more than the limits allow.
pub fn read_torch(bytes: &[u8], limits: &FileLimits) -> Result<TensorFile> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(bad("file too large")
            .expected(format!("at most {} bytes", limits.file_bytes))
            .got(format!("{} bytes", bytes.len())));
    }
    if bytes.starts_with(b"PK") {
        let archive = zip::Archive::read(bytes, limits)?;
        let (values, top) = pickle::load(archive.pickle()?)?;
        return storage::tensors(&values, weights(&values, top)?, &archive, limits);
    }
    let file = legacy::File::read(bytes)?;
    storage::tensors(&file.values, weights(&file.values, file.top)?, &file, limits)
}

/// Where the bytes of a storage are.
trait Storages {
    /// All bytes of the storage `key`, which has `elements` of `width` bytes.
    fn bytes(&self, key: &str, elements: usize, width: usize) -> Result<&[u8]>;
    /// Length of the file: tensors that share a storage may not blow it up.
    fn file_len(&self) -> usize;
}

/// The dict of tensors in the file.
fn weights(values: &Values, top: NodeId) -> Result<NodeId> {
    let mut at = top;
    // `{"model": {"module": …}}` occurs; deeper does not
    for _ in 0..2 {
        let Some(Node::Dict(entries)) = values.get(at) else { break };
        let under = |key: &&str| {
            let found = entries.iter().find(|(k, _)| values.text(*k) == Some(*key));
            found.map(|(_, v)| *v).filter(|v| matches!(values.get(*v), Some(Node::Dict(_))))
        };
        let Some(inner) = NESTED.iter().find_map(under) else { break };
        at = inner;
    }
    match values.get(at) {
        Some(Node::Dict(_)) => Ok(at),
        other => Err(bad("a file of torch without a state dict")
            .expected("a dict of tensors, or one under model, module or state_dict")
            .got(other.map_or("nothing", Node::name))),
    }
}

fn bad(what: &str) -> Error {
    Error::checkpoint(what)
}

/// Text of a file in a message: short and printable.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests;
