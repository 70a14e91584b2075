//! A moving mean of rows, `m ← k·m + (1−k)·mean of x over its rows`: the centre of self-distillation (beit-spec §8.2).

use super::{Args, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// Updates `mean[K]` where it lies from `x[R,K]`; a column whose new value is not finite keeps the old one.
#[derive(Debug, Clone)]
pub(crate) struct MovingMean {
    pub keep: f32,
}

/// Moves `mean` towards the mean of the rows of `x`.
///
/// # Errors
/// If the widths differ.
pub fn moving_mean(g: &mut Graph, mean: Var, x: Var, keep: f32) -> Result<Var> {
    g.apply(MovingMean { keep }, &[mean, x])
}

impl MovingMean {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, k) = (args.ty(1).rows(), args.ty(1).cols());
        let (x, mean) = (args.real(1), args.out(0));
        let keep = f64::from(self.keep);
        let (old, new) = (T::of(keep), T::of((1.0 - keep) / rows as f64));
        for (i, mean) in mean.iter_mut().enumerate() {
            let sum = (0..rows).fold(T::ZERO, |s, r| s + x[r * k + i]);
            if sum.is_finite() {
                *mean = old * *mean + new * sum;
            }
        }
    }
}

impl Op for MovingMean {
    fn name(&self) -> &'static str {
        "moving_mean"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("mean", &inputs[0], inputs[1].cols())?;
        Ok(vec![inputs[0].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[1].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, k) = (inputs[1].rows(), inputs[1].cols());
        let (vec, keep) = (vector(&[k]), f64::from(self.keep));
        let call = KernelCall::new("moving_mean", "moving_mean").writes(&[0]).reads(&[1]);
        let call = call.words(&[k / vec, rows]).float(self.keep).float(((1.0 - keep) / rows as f64) as f32);
        Ok(call.each(k / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal};
    for s in &super::samples::ROWS[..10] {
        let (k, s): (&[usize], &[usize]) = (&s[s.len() - 1..], s);
        b.add(MovingMean { keep: 0.9 }, &[(k, Normal), (s, Normal)]);
    }
    b.add(MovingMean { keep: 0.9 }, &[(&[5], Normal), (&[3, 5], Constant(f32::INFINITY))]);
}
