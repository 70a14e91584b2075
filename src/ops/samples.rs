//! Sample applications of every op, for the generic suite: forward, vjp, determinism, guards, variants.

use super::Op;
use crate::graph::{DType, TensorType};
use std::sync::Arc;

/// What a sample operand is filled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Standard normal numbers.
    Normal,
    /// Uniform in (low, high).
    Uniform(f32, f32),
    /// All equal.
    Constant(f32),
    /// Small integers, so that ties happen.
    Ties,
    /// Words below the bound.
    Words(u32),
    /// The words 0, 1, 2, ….
    Count,
    /// 1 + the position for the first `n`, 0 after: the inverse of [`Fill::Count`].
    InverseCount(u32),
}

/// One application of an op.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Operand types and contents.
    pub inputs: Vec<(TensorType, Fill)>,
}

/// Builds samples tersely; impossible shapes are left out (a test counts the samples of every op).
pub(crate) struct Builder(Vec<Sample>);

impl Builder {
    /// Adds an application; `inputs` are (shape, contents).
    pub(crate) fn add(&mut self, op: impl Op, inputs: &[(&[usize], Fill)]) {
        let typed: Option<Vec<_>> = inputs
            .iter()
            .map(|(shape, fill)| {
                let words = matches!(fill, Fill::Words(_) | Fill::Count | Fill::InverseCount(_));
                let ty = TensorType::new(shape, if words { DType::U32 } else { DType::F32 });
                ty.ok().map(|t| (t, *fill))
            })
            .collect();
        if let Some(inputs) = typed {
            self.0.push(Sample { op: Arc::new(op), inputs });
        }
    }
}

/// The list of all ops.
const ALL: &[fn(&mut Builder)] = &[];

/// Samples of every op.
pub fn samples() -> Vec<Sample> {
    let mut b = Builder(vec![]);
    ALL.iter().for_each(|add| add(&mut b));
    b.0
}
