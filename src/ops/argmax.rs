//! Index of the largest element of every row; the lowest index wins ties, so that ids do not depend on the device.

use super::{Args, Op, arity, cpu_kernel};
use crate::cpu::{Real, par_rows, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `ids` (words, leading shape of `x`) from `x[.., V]`.
#[derive(Debug, Clone)]
pub(crate) struct Argmax;

/// Index of the largest element of every row.
///
/// # Errors
/// Never for a real tensor of rank 2 or more.
pub fn argmax(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Argmax, &[x])
}

impl Argmax {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(0).cols();
        let x = args.real(0);
        par_rows(args.out_words(0), 1, v, |r, id| id[0] = first_largest(&x[r * v..][..v]) as u32);
    }
}

wide! {
    /// Index of the first of the largest elements; 0 if the first is NaN.
    fn first_largest(row: &[T]) -> usize {
        let max = T::largest(row);
        row.iter().position(|&x| x == max).unwrap_or(0)
    }
}

impl Op for Argmax {
    fn name(&self) -> &'static str {
        "argmax"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let s = inputs[0].shape();
        Ok(vec![TensorType::word(&s[..s.len().saturating_sub(1)])?])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("argmax", "argmax").writes(&[0]).reads(&[0]);
        Ok(call.words(&[rows, cols / vec]).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties};
    for s in super::samples::ROWS {
        for fill in [Normal, Ties, Constant(-1.5)] {
            b.add(Argmax, &[(s, fill)]);
        }
    }
    b.add(Argmax, &[(&[super::samples::MANY_ROWS, 3], Normal)]);
}
