//! Reads the tensors of a fixture. Trusts its input: a damaged fixture may panic.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

/// One tensor with its values as f64.
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// All tensors of a safetensors file by name.
pub fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = &bytes[8 + length..];
    let entries = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    entries.map(|(name, entry)| (name.clone(), tensor(entry, data))).collect()
}

fn tensor(entry: &Value, data: &[u8]) -> Tensor {
    let numbers = |key: &str| -> Vec<usize> {
        entry[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    };
    let offsets = numbers("data_offsets");
    let bytes = &data[offsets[0]..offsets[1]];
    let values = match entry["dtype"].as_str().unwrap() {
        "U8" | "BOOL" => bytes.iter().map(|&v| f64::from(v)).collect(),
        "F16" => bytes.chunks_exact(2).map(|b| half(u16::from_le_bytes([b[0], b[1]]))).collect(),
        "F32" => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        "F64" => bytes.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        "I32" => {
            bytes.chunks_exact(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        "I64" => bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        other => panic!("tensor type {other}"),
    };
    Tensor { shape: numbers("shape"), values }
}

/// The value of a 16-bit float.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 => f64::INFINITY,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    };
    if sign == 1 { -magnitude } else { magnitude }
}
