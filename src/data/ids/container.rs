//! The two kinds of files that ids are kept in: a header of fixed length, so that the number of rows may grow without
//! moving the data, and the rows behind it.

use super::IdsKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Kind of the file of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// NumPy: 16-bit words, 32-bit ones above 65,536 ids.
    #[default]
    Npy,
    /// safetensors: a tensor `ids` of I32, which every library reads.
    Safetensors,
}

impl Container {
    /// Name of the file.
    pub fn file(self) -> &'static str {
        match self {
            Container::Npy => "ids.npy",
            Container::Safetensors => "ids.safetensors",
        }
    }
    pub(super) fn is_npy(&self) -> bool {
        *self == Container::Npy
    }
    /// Length of the header, in bytes.
    pub(super) fn header_bytes(self) -> u64 {
        match self {
            Container::Npy => 192,
            Container::Safetensors => 512,
        }
    }
    /// Bytes of an id.
    pub(super) fn width(self, key: &IdsKey) -> usize {
        if self == Container::Npy && key.vocab <= 1 << 16 { 2 } else { 4 }
    }
    /// The header of a file of `rows` rows.
    pub(super) fn header(self, key: &IdsKey, rows: usize) -> Vec<u8> {
        match self {
            Container::Npy => npy_header(key, rows),
            Container::Safetensors => safetensors_header(key, rows),
        }
    }
}

fn npy_header(key: &IdsKey, rows: usize) -> Vec<u8> {
    let shape: Vec<String> = key.shape(rows).iter().map(usize::to_string).collect();
    let kind = if Container::Npy.width(key) == 2 { "<u2" } else { "<u4" };
    let text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
    let length = Container::Npy.header_bytes() as usize;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16 - 10).to_le_bytes());
    out.extend(text.as_bytes());
    out.resize(length - 1, b' ');
    out.push(b'\n');
    out
}

/// The JSON may be followed by spaces (beit-spec §10.1).
fn safetensors_header(key: &IdsKey, rows: usize) -> Vec<u8> {
    let length = Container::Safetensors.header_bytes();
    let text = json!({
        "__metadata__": {"format": "pt", "tokenizer": key.tokenizer, "vocab": key.vocab.to_string()},
        "ids": {
            "dtype": "I32",
            "shape": key.shape(rows),
            "data_offsets": [0, rows as u64 * key.row_bytes()],
        },
    });
    let mut out = (length - 8).to_le_bytes().to_vec();
    out.extend(text.to_string().as_bytes());
    out.resize(length as usize, b' ');
    out
}
