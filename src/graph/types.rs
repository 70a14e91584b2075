//! Tensor types: a shape and an element type, with checked arithmetic.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Largest number of elements of one tensor (the planner's limit, reliability of 32-bit indices in WGSL).
pub const MAX_ELEMENTS: u64 = 1 << 31;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// Real numbers: f32 on devices, f64 in the reference session.
    F32,
    /// Real numbers that the planner keeps in two bytes on a GPU; no model draws them (see `plan::half`).
    F16,
    /// Ids, masks, counts and random keys.
    U32,
}

impl DType {
    /// Bytes of an element on a GPU.
    pub fn bytes(self) -> u64 {
        if self == DType::F16 { 2 } else { 4 }
    }
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 => "u32",
        }
    }
}

/// Shape and element type.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorType {
    shape: Vec<usize>,
    dtype: DType,
}

impl TensorType {
    /// A type with a checked number of elements.
    ///
    /// # Errors
    /// If a dimension is 0 or the product passes [`MAX_ELEMENTS`].
    pub fn new(shape: &[usize], dtype: DType) -> Result<Self> {
        let product = shape
            .iter()
            .try_fold(1u64, |p, &d| p.checked_mul(d as u64).filter(|&p| p > 0 && p <= MAX_ELEMENTS));
        match product {
            Some(_) => Ok(TensorType { shape: shape.to_vec(), dtype }),
            None => Err(Error::shape("impossible tensor")
                .expected(format!("dimensions of at least 1 and at most {MAX_ELEMENTS} elements"))
                .got(format!("{shape:?}"))),
        }
    }
    /// A real tensor.
    ///
    /// # Errors
    /// As [`TensorType::new`].
    pub fn real(shape: &[usize]) -> Result<Self> {
        Self::new(shape, DType::F32)
    }
    /// A tensor of unsigned words.
    ///
    /// # Errors
    /// As [`TensorType::new`].
    pub fn word(shape: &[usize]) -> Result<Self> {
        Self::new(shape, DType::U32)
    }
    /// The same numbers in two bytes each.
    pub(crate) fn in_half(&self) -> Self {
        TensorType { shape: self.shape.clone(), dtype: DType::F16 }
    }
    /// Whether the numbers take two bytes each.
    pub fn is_half(&self) -> bool {
        self.dtype == DType::F16
    }
    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
    /// Bytes on a device.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes() * self.elements() as u64
    }
    /// Size of the innermost dimension (1 for a scalar).
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
    /// Product of all other dimensions.
    pub fn rows(&self) -> usize {
        self.elements() / self.cols()
    }
    /// Dimension `axis`, or 1 beyond the rank.
    pub fn dim(&self, axis: usize) -> usize {
        self.shape.get(axis).copied().unwrap_or(1)
    }
    /// The same type with the innermost dimension replaced.
    ///
    /// # Errors
    /// As [`TensorType::new`].
    pub fn with_cols(&self, cols: usize) -> Result<Self> {
        let mut shape = self.shape.clone();
        match shape.last_mut() {
            Some(last) => *last = cols,
            None => shape.push(cols),
        }
        Self::new(&shape, self.dtype)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        write!(f, "{}[{}]", self.dtype.name(), dims.join(","))
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_are_errors() {
        for shape in [&[0usize][..], &[1 << 16, 1 << 16], &[usize::MAX, 2], &[usize::MAX, usize::MAX]] {
            assert!(TensorType::real(shape).is_err(), "{shape:?}");
        }
        assert_eq!(TensorType::real(&[2, 3, 4]).unwrap().rows(), 6);
    }
}
