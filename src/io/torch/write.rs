//! Writing a file of `torch.save`: a state dict under `model`, as the official code reads it.

use crate::io::tensors::dtype::{encode_into, stored_width};
use crate::io::tensors::{Precision, Tensor, TensorData, Tensors};

/// Storages start at multiples of this many bytes, so that torch can map them.
const ALIGN: usize = 64;
/// Folder in the archive.
const ROOT: &str = "archive";

/// The bytes of a file of `torch.save` that holds `{key: tensors}`. The same tensors always give the same bytes.
pub fn write_torch(tensors: &Tensors, key: &str, precision: Precision) -> Vec<u8> {
    let mut zip = Zip::default();
    zip.add("data.pkl", &pickle(tensors, key, precision));
    zip.add("byteorder", b"little");
    for (key, tensor) in tensors.values().enumerate() {
        let mut bytes = Vec::with_capacity(tensor.data.len() * stored_width(&tensor.data, precision));
        encode_into(&tensor.data, precision, &mut bytes);
        zip.add(&format!("data/{key}"), &bytes);
    }
    zip.add("version", b"3\n");
    zip.finish()
}

fn pickle(tensors: &Tensors, key: &str, precision: Precision) -> Vec<u8> {
    let mut p = Pickle(vec![0x80, 2]);
    p.raw(b"}"); // the outer dict
    p.text(key);
    p.raw(b"}(");
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        p.text(name);
        p.tensor(key, tensor, precision);
    }
    p.raw(b"us.");
    p.0
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn text(&mut self, text: &str) {
        self.raw(b"X");
        self.raw(&(text.len() as u32).to_le_bytes());
        self.raw(text.as_bytes());
    }
    fn number(&mut self, n: usize) {
        if let Ok(small) = i32::try_from(n) {
            self.raw(b"J");
            self.raw(&small.to_le_bytes());
        } else {
            self.raw(&[0x8a, 8]);
            self.raw(&(n as i64).to_le_bytes());
        }
    }
    fn numbers(&mut self, numbers: &[usize]) {
        self.raw(b"(");
        numbers.iter().for_each(|&n| self.number(n));
        self.raw(b"t");
    }
    fn tensor(&mut self, key: usize, tensor: &Tensor, precision: Precision) {
        self.raw(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.raw(format!("ctorch\n{}\n", storage(&tensor.data, precision)).as_bytes());
        self.text(&key.to_string());
        self.text("cpu");
        self.number(tensor.data.len());
        self.raw(b"tQ"); // the storage by its persistent id
        self.number(0);
        self.numbers(&tensor.shape);
        let steps = (0..tensor.shape.len()).map(|i| tensor.shape.iter().skip(i + 1).product());
        self.numbers(&steps.collect::<Vec<usize>>());
        self.raw(b"\x89ccollections\nOrderedDict\n)RtR"); // no gradient, no hooks
    }
}

fn storage(data: &TensorData, precision: Precision) -> &'static str {
    match (data, precision) {
        (TensorData::F32(_), Precision::F16) => "HalfStorage",
        (TensorData::F32(_), Precision::Bf16) => "BFloat16Storage",
        (TensorData::F32(_), _) => "FloatStorage",
        (TensorData::F64(_), _) => "DoubleStorage",
        (TensorData::I64(_), _) => "LongStorage",
        (TensorData::I32(_) | TensorData::U32(_), _) => "IntStorage",
        (TensorData::U8(_), _) => "ByteStorage",
    }
}

/// A zip file of stored entries.
#[derive(Default)]
struct Zip {
    out: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Zip {
    fn add(&mut self, name: &str, bytes: &[u8]) {
        let name = format!("{ROOT}/{name}");
        let offset = self.out.len();
        let crc = crc32fast::hash(bytes);
        // an extra field ("FB", length, zeros) moves the data to an aligned place
        let unpadded = offset + 30 + name.len() + 4;
        let padding = unpadded.next_multiple_of(ALIGN) - unpadded;
        let mut fields = vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0]; // version, UTF-8 names, stored, no time
        fields.extend_from_slice(&crc.to_le_bytes());
        fields.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        fields.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        fields.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.out.extend_from_slice(b"PK\x03\x04");
        self.out.extend_from_slice(&fields);
        self.out.extend_from_slice(&((padding + 4) as u16).to_le_bytes());
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"FB");
        self.out.extend_from_slice(&(padding as u16).to_le_bytes());
        self.out.resize(self.out.len() + padding, 0);
        self.out.extend_from_slice(bytes);
        self.directory.extend_from_slice(b"PK\x01\x02\0\0");
        self.directory.extend_from_slice(&fields);
        self.directory.extend_from_slice(&[0; 12]); // no extra field, no comment, first disk, no attributes
        self.directory.extend_from_slice(&(offset as u32).to_le_bytes());
        self.directory.extend_from_slice(name.as_bytes());
        self.entries += 1;
    }
    fn finish(mut self) -> Vec<u8> {
        let (offset, len) = (self.out.len() as u32, self.directory.len() as u32);
        self.out.append(&mut self.directory);
        self.out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
        self.out.extend_from_slice(&self.entries.to_le_bytes());
        self.out.extend_from_slice(&self.entries.to_le_bytes());
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&offset.to_le_bytes());
        self.out.extend_from_slice(&[0, 0]);
        self.out
    }
}
