//! Softmax of every row.

use super::gumbel::SoftmaxGrad;
use super::units::widest;
use super::{Args, Op, Vjp, arity, cpu_kernel, fill};
use super::{Caps, KernelCall, Kernels};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// `y = softmax(x)` along the innermost dimension.
#[derive(Debug, Clone)]
pub(crate) struct Softmax;

/// Softmax of every row of `x[.., V]`.
///
/// # Errors
/// Never for a real tensor.
pub fn softmax(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Softmax, &[x])
}

impl Softmax {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (v, x) = (args.ty(0).cols(), args.real(0));
        par_chunks(args.out(0), v, |r, y| {
            let x = &x[r * v..][..v];
            let max = x.iter().fold(x[0], |m, &x| m.max(x));
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - max).exp());
            let inv = T::ONE / y.iter().fold(T::ZERO, |s, &x| s + x);
            y.iter_mut().for_each(|y| *y *= inv);
        });
    }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, one) = (v.cotangent()?, fill(v.g, 1.0, &[1])?);
        v.grads[0] = Some(v.g.apply(SoftmaxGrad, &[dy, v.outputs[0], one])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        5 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let wide = widest(caps, &[cols]);
        let call = KernelCall::new("softmax", "forward").writes(&[0]).reads(&[0]);
        Ok(call.words(&[rows, cols / wide]).rows(caps, rows, cols / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    let many: &[usize] = &[super::samples::MANY_ROWS, 2];
    for (i, s) in super::samples::ROWS.iter().chain([&many]).enumerate() {
        b.add(Softmax, &[(s, [Normal, Uniform(-30.0, 30.0), Constant(2.0)][i % 3])]);
    }
}
