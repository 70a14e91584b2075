//! ReLU; its derivative at 0 is 0.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::widest;
use super::{Caps, Epilogue, KernelCall, Kernels};

const CHUNK: usize = 8192;

/// `y = max(x, 0)`.
#[derive(Debug, Clone)]
pub(crate) struct Relu;

/// `dx = dy` where `x > 0`, else 0. Operands: `dy`, `x`.
#[derive(Debug, Clone)]
pub(crate) struct ReluGrad;

/// `max(x, 0)`.
///
/// # Errors
/// Never for a real tensor.
pub fn relu(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Relu, &[x])
}

impl Relu {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0);
        par_chunks(args.out(0), CHUNK, |i, y| {
            y.iter_mut().zip(&x[i * CHUNK..]).for_each(|(y, &x)| *y = x.max(T::ZERO));
        });
    }
}

impl Op for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(ReluGrad, &[dy, v.inputs[0]])?);
        Ok(())
    }
    fn as_epilogue(&self, _: usize) -> Option<Epilogue> {
        Some(Epilogue::Relu)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("relu", "forward").writes(&[0]).reads(&[0]);
        Ok(call.word(n / wide).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

impl ReluGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (dy, x) = (args.real(0), args.real(1));
        par_chunks(args.out(0), CHUNK, |i, y| {
            let at = i * CHUNK;
            for ((y, &d), &x) in y.iter_mut().zip(&dy[at..]).zip(&x[at..]) {
                *y = if x > T::ZERO { d } else { T::ZERO };
            }
        });
    }
}

impl Op for ReluGrad {
    fn name(&self) -> &'static str {
        "relu_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        (input == 0).then_some(Epilogue::ReluGate)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("relu", "grad").writes(&[0]).reads(&[1, 0]);
        Ok(call.word(n / wide).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties};
    for s in super::samples::ODD {
        b.add(Relu, &[(s, Normal)]);
        for fill in [Ties, Constant(0.0)] {
            b.add_kinked(Relu, &[(s, fill)]);
        }
        for fill in [Normal, Ties] {
            b.add(ReluGrad, &[(s, Normal), (s, fill)]);
        }
    }
}
