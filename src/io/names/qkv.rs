//! The stacked weight of query, key and value, and its three parts.

use crate::error::{Error, Result};
use crate::io::tensors::{Tensor, TensorData, Tensors};

/// The parts of `qkv` in the order of its rows: the names used between the two steps of a conversion.
pub(super) const PARTS: [&str; 3] = ["attn.q.weight", "attn.k.weight", "attn.v.weight"];

/// Splits the rows of a stacked [3D, D] weight into three [D, D].
pub(super) fn split_rows(tensor: Tensor) -> Result<[Tensor; 3]> {
    let (&[rows, cols], TensorData::F32(data)) = (tensor.shape.as_slice(), &tensor.data) else {
        return Err(Error::shape("stacked attention weight").expected("F32 [3D, D]").got(describe(&tensor)));
    };
    if rows == 0 || rows % 3 != 0 || cols == 0 {
        return Err(Error::shape("stacked attention weight").expected("F32 [3D, D]").got(describe(&tensor)));
    }
    let mut parts = data
        .chunks_exact(data.len() / 3)
        .map(|part| Tensor { shape: vec![rows / 3, cols], data: TensorData::F32(part.to_vec()) });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(q), Some(k), Some(v)) => Ok([q, k, v]),
        _ => Err(Error::shape("stacked attention weight").expected("three parts")),
    }
}

/// Adds zero biases of query and value to every block that has neither.
pub(super) fn add_zero_biases(tensors: &mut Tensors) -> Result<()> {
    let found = tensors.iter().filter_map(|(name, t)| {
        let block = name.strip_suffix("attn.qkv.weight")?;
        let none = ["q", "v"].iter().all(|part| !tensors.contains_key(&format!("{block}attn.{part}_bias")));
        none.then(|| (block.to_owned(), t.shape.first().copied().unwrap_or(0) / 3))
    });
    for (block, width) in found.collect::<Vec<_>>() {
        for part in ["q", "v"] {
            let zeros = Tensor::f32(vec![width], vec![0.0; width])?;
            tensors.insert(format!("{block}attn.{part}_bias"), zeros);
        }
    }
    Ok(())
}

/// Joins query, key and value of every block into `attn.qkv.weight`.
pub(super) fn join(mut tensors: Tensors) -> Result<Tensors> {
    let blocks: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix("attn.q.weight")?.to_owned())).collect();
    for block in &blocks {
        let mut data = Vec::new();
        let mut rows = 0;
        let mut shape: Option<Vec<usize>> = None;
        for part in PARTS {
            let name = format!("{block}{part}");
            let tensor = tensors.remove(&name).ok_or_else(|| {
                Error::checkpoint("attention without one of query, key, value").at(name.clone())
            })?;
            let values = tensor.as_f32().map_err(|e| e.at(name.clone()))?;
            let expected = shape.get_or_insert_with(|| tensor.shape.clone());
            if *expected != tensor.shape || tensor.shape.len() != 2 {
                return Err(Error::shape("attention weight")
                    .at(name)
                    .expected("three alike [D, D]")
                    .got(describe(&tensor)));
            }
            rows += tensor.shape.first().copied().unwrap_or(0);
            data.extend_from_slice(values);
        }
        let cols = shape.and_then(|s| s.last().copied()).unwrap_or(0);
        tensors.insert(format!("{block}attn.qkv.weight"), Tensor::f32(vec![rows, cols], data)?);
    }
    match tensors.keys().find(|name| PARTS.iter().any(|part| name.ends_with(part))) {
        Some(name) => Err(Error::checkpoint("attention without a query weight").at(name.clone())),
        None => Ok(tensors),
    }
}

fn describe(tensor: &Tensor) -> String {
    format!("{} {:?}", tensor.data.dtype_name(), tensor.shape)
}
