//! Hyperbolic tangent, between the linear layers of the projections of a VQ-KD tokenizer (beit-spec §3.7).

use super::units::vector;
use super::{Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

const CHUNK: usize = 4096;

/// `y = tanh(x)`.
#[derive(Debug, Clone)]
pub(crate) struct Tanh;

/// `dx = dy·(1 − y²)`. Operands: `dy`, `y`.
#[derive(Debug, Clone)]
pub(crate) struct TanhGrad;

/// Hyperbolic tangent.
///
/// # Errors
/// Never for a real tensor.
pub fn tanh(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Tanh, &[x])
}

wide! {
    /// By e^−2|x|, which cannot overflow.
    fn forward(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            let t = (T::of(-2.0) * x.abs()).exp();
            let magnitude = (T::ONE - t) / (T::ONE + t);
            *y = if x < T::ZERO { -magnitude } else { magnitude };
        }
    }
}

impl Tanh {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0);
        par_chunks(args.out(0), CHUNK, |i, y| forward(&x[i * CHUNK..], y));
    }
}

impl Op for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(TanhGrad, &[dy, v.outputs[0]])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        10 * inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("tanh", "forward").writes(&[0]).reads(&[0]);
        Ok(call.word(n / vec).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

impl TanhGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (dy, y) = (args.real(0), args.real(1));
        par_chunks(args.out(0), CHUNK, |i, dx| {
            let at = i * CHUNK;
            for ((dx, &dy), &y) in dx.iter_mut().zip(&dy[at..]).zip(&y[at..]) {
                *dx = dy * (T::ONE - y * y);
            }
        });
    }
}

impl Op for TanhGrad {
    fn name(&self) -> &'static str {
        "tanh_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("tanh", "grad").writes(&[0]).reads(&[1, 0]);
        Ok(call.word(n / vec).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    for (i, s) in super::samples::ODD.iter().enumerate() {
        let x = [Normal, Uniform(-4.0, 4.0)][i % 2];
        b.add(Tanh, &[(s, x)]);
        b.add(TanhGrad, &[(s, Normal), (s, Uniform(-1.0, 1.0))]);
    }
    b.add(Tanh, &[(&[33], Uniform(-200.0, 200.0))]);
}
