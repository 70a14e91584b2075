//! Writing a safetensors file.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::header::{Entry, METADATA};
use super::{Precision, Tensor, Tensors, dtype};

/// The metadata that Python readers of the format look for.
pub fn pt_metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_owned(), "pt".to_owned())])
}

/// The bytes of a safetensors file. The same tensors always give the same bytes.
///
/// Wide element types come first and names are sorted within a type, so that every tensor is aligned
/// to its element size; the header is padded with spaces to a multiple of 8 bytes.
pub fn write_safetensors(tensors: &Tensors, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    write_safetensors_as(tensors, metadata, Precision::F32)
}

/// As [`write_safetensors`], with F32 tensors rounded to a narrower type. What was read from a file of that type is
/// written as it was.
pub fn write_safetensors_as(
    tensors: &Tensors,
    metadata: &BTreeMap<String, String>,
    precision: Precision,
) -> Vec<u8> {
    let mut order: Vec<(&String, &Tensor)> = tensors.iter().collect();
    let width = |t: &Tensor| dtype::stored_width(&t.data, precision);
    order.sort_by_key(|(_, t)| Reverse(width(t))); // stable: names stay sorted within a width
    let header = header_text(&order, metadata, precision);
    let data_len: usize = order.iter().map(|(_, t)| t.data.len() * width(t)).sum();
    let mut out = Vec::with_capacity(8 + header.len() + data_len);
    out.extend_from_slice(&(header.len() as u64).to_le_bytes());
    out.extend_from_slice(header.as_bytes());
    for (_, tensor) in order {
        dtype::encode_into(&tensor.data, precision, &mut out);
    }
    out
}

fn header_text(
    order: &[(&String, &Tensor)],
    metadata: &BTreeMap<String, String>,
    precision: Precision,
) -> String {
    let mut members = Vec::with_capacity(order.len() + 1);
    if !metadata.is_empty() {
        members.push(format!("{}:{}", json(&METADATA), json(metadata)));
    }
    let mut begin = 0u64;
    for (name, tensor) in order {
        let end = begin + (tensor.data.len() * dtype::stored_width(&tensor.data, precision)) as u64;
        let entry = Entry {
            dtype: dtype::stored_name(&tensor.data, precision).to_owned(),
            shape: tensor.shape.iter().map(|&n| n as u64).collect(),
            data_offsets: [begin, end],
        };
        members.push(format!("{}:{}", json(name), json(&entry)));
        begin = end;
    }
    let mut text = format!("{{{}}}", members.join(","));
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    text
}

/// Compact JSON of strings, numbers and maps with string keys, which cannot fail to serialise.
fn json<T: serde::Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
