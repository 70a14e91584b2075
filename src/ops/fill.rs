//! A constant tensor: the seed of a backward pass.

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// All elements equal to `value`.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub value: f32,
    pub shape: Vec<usize>,
}

/// A tensor of equal elements.
///
/// # Errors
/// If the shape is impossible.
pub fn fill(g: &mut Graph, value: f32, shape: &[usize]) -> Result<Var> {
    g.apply(Constant { value, shape: shape.to_vec() }, &[])
}

impl Constant {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        args.out(0).fill(T::of(f64::from(self.value)));
    }
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "fill"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 0)?;
        Ok(vec![TensorType::real(&self.shape)?])
    }
    fn vjp(&self, _: &mut Vjp<'_>) -> Result<()> {
        Ok(())
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let n = outputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("fill", "fill").writes(&[0]);
        Ok(call.word(n / vec).float(self.value).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    for (i, s) in super::samples::ODD.iter().enumerate() {
        b.add(Constant { value: [1.0, 0.0, -2.75][i % 3], shape: s.to_vec() }, &[]);
    }
}
