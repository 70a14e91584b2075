//! The tensors of a state dict, cut out of their storages.

use super::known::Known;
use super::pickle::{Node, NodeId, Values};
use super::{Storages, bad, shown};
use crate::error::Result;
use crate::io::limits::FileLimits;
use crate::io::tensors::{Dtype, Precision, Tensor, TensorFile, Tensors, element_count};
use std::collections::BTreeMap;

/// What `torch.nn.DataParallel` puts before every name.
const PARALLEL: &str = "module.";

/// All tensors of the dict `at`.
pub(super) fn tensors(
    values: &Values,
    at: NodeId,
    storages: &dyn Storages,
    limits: &FileLimits,
) -> Result<TensorFile> {
    let Some(Node::Dict(entries)) = values.get(at) else { return Err(bad("no state dict")) };
    if entries.len() > limits.tensors {
        return Err(bad("too many tensors")
            .expected(format!("at most {}", limits.tensors))
            .got(entries.len().to_string()));
    }
    let names = entries.iter().map(|(key, _)| values.text(*key));
    let parallel = !entries.is_empty() && names.flatten().all(|name| name.starts_with(PARALLEL));
    let mut cutter = Cutter { values, storages, limits, left: 2 * storages.file_len() };
    let mut out = Tensors::new();
    let mut precision = Precision::Unset;
    for (key, value) in entries {
        let name = values.text(*key).ok_or_else(|| bad("a tensor whose name is no text"))?;
        let name = if parallel { name.strip_prefix(PARALLEL).unwrap_or(name) } else { name };
        check_name(name, limits)?;
        let at = || format!("tensor {name}");
        let (tensor, dtype) = cutter.cut(*value).map_err(|e| if e.at.is_none() { e.at(at()) } else { e })?;
        precision = precision.and(dtype.precision());
        if out.insert(name.to_owned(), tensor).is_some() {
            return Err(bad("a tensor is given twice").at(at()));
        }
    }
    Ok(TensorFile { precision, tensors: out, metadata: BTreeMap::new() })
}

/// The same rule as for safetensors: names end up in messages and pages.
fn check_name(name: &str, limits: &FileLimits) -> Result<()> {
    let printable = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if name.is_empty() || name.len() > limits.name_bytes || !printable {
        return Err(bad("a tensor's name that is not allowed")
            .expected(format!("1 to {} bytes of printable ASCII", limits.name_bytes))
            .got(shown(name)));
    }
    Ok(())
}

struct Cutter<'a> {
    values: &'a Values,
    storages: &'a dyn Storages,
    limits: &'a FileLimits,
    /// Bytes that may still be read out: tensors may share storage, but not multiply the file.
    left: usize,
}

impl Cutter<'_> {
    fn cut(&mut self, at: NodeId) -> Result<(Tensor, Dtype)> {
        let (storage, offset, shape, strides) = match self.values.get(at) {
            Some(Node::Tensor { storage, offset, shape, strides }) => (storage, *offset, shape, strides),
            other => {
                return Err(bad("an entry of the state dict that is no tensor")
                    .got(other.map_or("nothing", Node::name)));
            }
        };
        let Some(Node::Storage { key, kind, elements }) = self.values.get(*storage) else {
            return Err(bad("a tensor without a storage"));
        };
        let Known::Storage(Some(dtype)) = kind else { return Err(bad("an element type that is not read")) };
        if shape.len() > self.limits.rank {
            return Err(bad("too many dimensions")
                .expected(format!("at most {}", self.limits.rank))
                .got(shape.len().to_string()));
        }
        let width = dtype.width();
        let bytes = element_count(shape).and_then(|n| n.checked_mul(width)).filter(|&n| n <= self.left);
        let bytes = bytes.ok_or_else(|| bad("tensor larger than its file").got(format!("{shape:?}")))?;
        self.left -= bytes;
        let all = self.storages.bytes(key, *elements, width)?;
        let outside = || {
            bad("a tensor that reaches outside its storage")
                .expected(format!("within {elements} elements"))
                .got(format!("{shape:?} from {offset} by steps of {strides:?}"))
        };
        let own = contiguous(shape) == *strides || bytes == 0 || bytes == width;
        let data = if own {
            let begin = offset.checked_mul(width).ok_or_else(outside)?;
            let part = begin.checked_add(bytes).and_then(|end| all.get(begin..end)).ok_or_else(outside)?;
            dtype.decode(part)
        } else {
            let mut gathered = Vec::with_capacity(bytes);
            gather(all, width, offset, (shape, strides), &mut gathered).ok_or_else(outside)?;
            dtype.decode(&gathered)
        };
        Ok((Tensor::new(shape.clone(), data)?, *dtype))
    }
}

/// Strides of a dense row-major tensor.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut step = 1usize;
    let mut strides: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&n| {
            let own = step;
            step = step.saturating_mul(n);
            own
        })
        .collect();
    strides.reverse();
    strides
}

/// Elements of a strided view, in row-major order; nothing if one lies outside.
fn gather(
    all: &[u8],
    width: usize,
    offset: usize,
    (shape, strides): (&[usize], &[usize]),
    out: &mut Vec<u8>,
) -> Option<()> {
    let (Some((&n, shape)), Some((&step, strides))) = (shape.split_first(), strides.split_first()) else {
        let begin = offset.checked_mul(width)?;
        out.extend_from_slice(all.get(begin..begin.checked_add(width)?)?);
        return Some(());
    };
    for i in 0..n {
        let at = offset.checked_add(i.checked_mul(step)?)?;
        gather(all, width, at, (shape, strides), out)?;
    }
    Some(())
}
