//! Reading a safetensors file from its bytes.

use super::dtype::{self, Dtype};
use super::header::{self, Entry, Header};
use super::{Precision, Tensor, TensorData, TensorFile, element_count};
use crate::error::{Error, Result};
use crate::io::limits::FileLimits;

/// Reads a safetensors file.
///
/// Every length is checked before anything of that length is allocated. The error says which tensor, what was
/// expected and what was found; the caller adds the file's name.
pub fn read_safetensors(bytes: &[u8], limits: &FileLimits) -> Result<TensorFile> {
    if bytes.len() as u64 > limits.file_bytes {
        return Err(bad("file too large")
            .expected(format!("at most {} bytes", limits.file_bytes))
            .got(format!("{} bytes", bytes.len())));
    }
    let (text, buffer) = split(bytes, limits)?;
    let header =
        header::parse(text, limits).map_err(|e| bad("malformed safetensors header").got(e.to_string()))?;
    let plan = layout(&header, buffer.len(), limits)?;
    let Header { entries, metadata } = header;
    let mut tensors = super::Tensors::new();
    let mut precision = Precision::Unset;
    for (name, place) in entries.into_keys().zip(plan) {
        precision = precision.and(place.dtype.precision());
        let data = place.decode(&name, buffer)?;
        tensors.insert(name, Tensor { shape: place.shape, data });
    }
    Ok(TensorFile { precision, tensors, metadata })
}

fn bad(what: &str) -> Error {
    Error::checkpoint(what)
}

/// Header text and data buffer.
fn split<'a>(bytes: &'a [u8], limits: &FileLimits) -> Result<(&'a str, &'a [u8])> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(bad("not a safetensors file")
            .expected("at least 8 bytes")
            .got(format!("{}", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > limits.header_bytes as u64 {
        return Err(bad("safetensors header too long, or not a safetensors file")
            .expected(format!("at most {} bytes", limits.header_bytes))
            .got(format!("{length}")));
    }
    let Some((head, buffer)) = usize::try_from(length).ok().and_then(|n| rest.split_at_checked(n)) else {
        return Err(bad("truncated safetensors header")
            .expected(format!("{length} bytes"))
            .got(format!("{}", rest.len())));
    };
    let text = std::str::from_utf8(head)
        .map_err(|e| bad("malformed safetensors header").expected("UTF-8").got(e.to_string()))?;
    if !text.starts_with('{') {
        return Err(bad("malformed safetensors header").expected("text that starts with {"));
    }
    Ok((text, buffer))
}

/// Where one tensor lies in the buffer.
struct Place {
    dtype: Dtype,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

impl Place {
    fn decode(&self, name: &str, buffer: &[u8]) -> Result<TensorData> {
        let bytes = buffer
            .get(self.begin..self.end)
            .ok_or_else(|| bad("tensor outside the file").at(format!("tensor {name}")))?;
        if self.dtype == Dtype::Bool && bytes.iter().any(|&b| b > 1) {
            return Err(bad("wrong truth value").at(format!("tensor {name}")).expected("0 or 1"));
        }
        Ok(self.dtype.decode(bytes))
    }
}

/// Checks every entry, and that together they tile the buffer; places are in the order of the names.
fn layout(header: &Header, buffer_len: usize, limits: &FileLimits) -> Result<Vec<Place>> {
    let mut places = Vec::with_capacity(header.entries.len());
    for (name, entry) in &header.entries {
        places.push(place(entry, buffer_len, limits).map_err(|e| e.at(format!("tensor {name}")))?);
    }
    let mut order: Vec<(&Place, &String)> = places.iter().zip(header.entries.keys()).collect();
    order.sort_by_key(|(p, _)| (p.begin, p.end));
    let mut end = 0;
    for (place, name) in order {
        if place.begin != end {
            return Err(bad("gap or overlap between tensors")
                .at(format!("tensor {name}"))
                .expected(format!("data from byte {end}"))
                .got(format!("from byte {}", place.begin)));
        }
        end = place.end;
    }
    if end != buffer_len {
        return Err(bad("data does not fill the file")
            .expected(format!("{end} bytes of data"))
            .got(format!("{buffer_len}")));
    }
    Ok(places)
}

fn place(entry: &Entry, buffer_len: usize, limits: &FileLimits) -> Result<Place> {
    let dtype = Dtype::from_name(&entry.dtype).ok_or_else(|| {
        // the name may be long and arbitrary: show its start, escaped
        let shown: String = entry.dtype.chars().take(16).flat_map(char::escape_default).collect();
        bad("unsupported element type").expected(dtype::NAMES).got(shown)
    })?;
    if entry.shape.len() > limits.rank {
        return Err(bad("too many dimensions")
            .expected(format!("at most {}", limits.rank))
            .got(format!("{}", entry.shape.len())));
    }
    let shape: Option<Vec<usize>> = entry.shape.iter().map(|&n| usize::try_from(n).ok()).collect();
    let bytes = shape.as_deref().and_then(element_count).and_then(|n| n.checked_mul(dtype.width()));
    let (Some(shape), Some(bytes)) = (shape, bytes) else {
        return Err(bad("shape too large").got(format!("{:?}", entry.shape)));
    };
    let [begin, end] = entry.data_offsets;
    if begin > end || end > buffer_len as u64 {
        return Err(bad("tensor outside the file")
            .expected(format!("offsets that rise and end within {buffer_len}"))
            .got(format!("[{begin}, {end}]")));
    }
    if end - begin != bytes as u64 {
        return Err(bad("wrong number of bytes")
            .expected(format!("{bytes} for {} {shape:?}", entry.dtype))
            .got(format!("{}", end - begin)));
    }
    // both fit: end is at most buffer_len, which is a usize
    Ok(Place { dtype, shape, begin: begin as usize, end: end as usize })
}
