//! Squared norm of a gradient page in a fixed order, and its accumulation over pages.

use super::clip::NORM2;
use super::{Args, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_rows};
use crate::error::Result;
use crate::graph::TensorType;

use super::units::widest;
use super::{Caps, KernelCall, Kernels};

/// Elements per partial sum.
pub(crate) const BLOCK: usize = 4096;

/// `partial[ceil(n/BLOCK)]` = sums of squares of consecutive blocks of `x[n]`.
#[derive(Debug, Clone)]
pub struct Norm2;

/// Adds the sum of `partial` to `control[NORM2]` where it lies. Operands: `control`, `partial`.
#[derive(Debug, Clone)]
pub struct Norm2Accumulate {
    /// Starts from zero (the first page).
    pub first: bool,
}

/// Sum of `f(x)` over a slice in eight interleaved f64 sums: the gradient norm must not carry the rounding of
/// thousands of f32 additions, and independent sums fill vector registers.
fn sum<T: Real>(x: &[T], f: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0; 8];
    for chunk in x.chunks(8) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += f(v.to_f64()));
    }
    lanes.iter().sum()
}

impl Norm2 {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0);
        par_rows(args.out(0), 1, BLOCK, |p, partial| {
            let block = &x[p * BLOCK..x.len().min((p + 1) * BLOCK)];
            partial[0] = T::of(sum(block, |v| v * v));
        });
    }
}

impl Op for Norm2 {
    fn name(&self) -> &'static str {
        "norm2"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![TensorType::real(&[inputs[0].elements().div_ceil(BLOCK)])?])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("norm2", "norm2").writes(&[0]).reads(&[0]);
        let call = call.words(&[n / wide, BLOCK / wide]);
        Ok(call.rows(caps, n.div_ceil(BLOCK), BLOCK / wide, wide).into())
    }
    cpu_kernel!();
}

impl Norm2Accumulate {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let total = T::of(sum(args.real(1), |v| v));
        let control = args.out(0);
        control[NORM2] = if self.first { total } else { control[NORM2] + total };
    }
}

impl Op for Norm2Accumulate {
    fn name(&self) -> &'static str {
        "norm2_accumulate"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("control", &inputs[0], super::CONTROL_LEN)?;
        Ok(vec![inputs[0].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let call = KernelCall::new("norm2", "accumulate").writes(&[0]).reads(&[1]);
        let call = call.define("FIRST", u32::from(self.first)).word(inputs[1].elements());
        Ok(call.alone(1).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    for n in [1, 5, 255, 257, 4095, 4096, 4097, 10_007, 257 * BLOCK + 1] {
        b.add(Norm2, &[(&[n], Normal)]);
    }
    for n in [1, 3, 64, 65, 255, 257, 1031] {
        for first in [true, false] {
            let control: (&[usize], _) = (&[super::CONTROL_LEN], Uniform(0.1, 0.9));
            b.add(Norm2Accumulate { first }, &[control, (&[n], Uniform(0.0, 1.0))]);
        }
    }
}
