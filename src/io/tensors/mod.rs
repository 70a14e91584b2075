//! Named tensors on the host, and the safetensors container they are kept in.
//!
//! A file is a u64 little-endian header length, a JSON header
//! `{name: {"dtype", "shape", "data_offsets": [begin, end]}}` and one buffer that the tensors
//! tile without gaps, row-major and little-endian.

pub(crate) mod dtype;
mod header;
mod read;
mod write;

use std::collections::BTreeMap;

use crate::error::{Error, Result};

pub(crate) use dtype::Dtype;
pub use read::read_safetensors;
pub use write::{pt_metadata, write_safetensors, write_safetensors_as};

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// A dense row-major tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes of the dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub data: TensorData,
}

/// The elements of a tensor. F16 and BF16 files are widened to `F32` without loss; BOOL becomes `U8` (0 or 1).
#[derive(Debug, Clone, PartialEq)]
pub enum TensorData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Bytes: masks, pixels.
    U8(Vec<u8>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Unsigned 32-bit integers: token ids, counters.
    U32(Vec<u32>),
}

/// How floating-point elements are kept in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Nothing known yet: a file without floating-point tensors.
    #[default]
    Unset,
    /// 32 bits, or different types in one file.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an F32.
    Bf16,
}

impl Precision {
    /// That of two files, or of two tensors, together.
    pub fn and(self, other: Precision) -> Precision {
        match (self, other) {
            (Precision::Unset, p) | (p, Precision::Unset) => p,
            (a, b) if a == b => a,
            _ => Precision::F32,
        }
    }
}

/// What a safetensors file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorFile {
    /// How its floating-point elements were kept; in memory they are F32 (or F64).
    pub precision: Precision,
    /// The tensors by name.
    pub tensors: Tensors,
    /// The free-form strings of `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

impl TensorData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorData::F32(v) => v.len(),
            TensorData::F64(v) => v.len(),
            TensorData::U8(v) => v.len(),
            TensorData::I32(v) => v.len(),
            TensorData::I64(v) => v.len(),
            TensorData::U32(v) => v.len(),
        }
    }
    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Name of the element type as safetensors writes it.
    pub fn dtype_name(&self) -> &'static str {
        match self {
            TensorData::F32(_) => "F32",
            TensorData::F64(_) => "F64",
            TensorData::U8(_) => "U8",
            TensorData::I32(_) => "I32",
            TensorData::I64(_) => "I64",
            TensorData::U32(_) => "U32",
        }
    }
    /// Bytes per element.
    pub fn width(&self) -> usize {
        match self {
            TensorData::U8(_) => 1,
            TensorData::F32(_) | TensorData::I32(_) | TensorData::U32(_) => 4,
            TensorData::F64(_) | TensorData::I64(_) => 8,
        }
    }
}

impl Tensor {
    /// A tensor whose element count is checked against its shape.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self> {
        let count =
            element_count(&shape).ok_or_else(|| Error::shape("shape too large").got(format!("{shape:?}")))?;
        if count != data.len() {
            return Err(Error::shape("wrong number of elements")
                .expected(format!("{count} for shape {shape:?}"))
                .got(data.len().to_string()));
        }
        Ok(Tensor { shape, data })
    }
    /// A tensor of 32-bit floats.
    pub fn f32(shape: Vec<usize>, data: Vec<f32>) -> Result<Self> {
        Self::new(shape, TensorData::F32(data))
    }
    /// The elements as 32-bit floats, or an error that names the type found.
    pub fn as_f32(&self) -> Result<&[f32]> {
        match &self.data {
            TensorData::F32(v) => Ok(v),
            other => Err(Error::shape("wrong element type").expected("F32").got(other.dtype_name())),
        }
    }
}

/// Product of the sizes, or nothing where it leaves the address space.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size))
}

/// Number of NaN and infinite elements; integers have none.
pub fn count_non_finite(tensor: &Tensor) -> usize {
    match &tensor.data {
        TensorData::F32(v) => v.iter().filter(|x| !x.is_finite()).count(),
        TensorData::F64(v) => v.iter().filter(|x| !x.is_finite()).count(),
        _ => 0,
    }
}

/// Refuses tensors that hold NaN or infinity, naming the first of them: no training can start from such weights.
pub fn check_finite(tensors: &Tensors) -> Result<()> {
    for (name, tensor) in tensors {
        let bad = count_non_finite(tensor);
        if bad > 0 {
            return Err(Error::checkpoint("weights that are not numbers")
                .at(format!("tensor {name}"))
                .expected("finite values")
                .got(format!("{bad} of {} NaN or infinite", tensor.data.len())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
