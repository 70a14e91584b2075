//! GELU in its exact form, `x·½(1 + erf(x/√2))`.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::widest;
use super::{Caps, Epilogue, KernelCall, Kernels};

const CHUNK: usize = 4096;

/// `y = x·Φ(x)`.
#[derive(Debug, Clone)]
pub(crate) struct Gelu;

/// `dx = dy·(Φ(x) + x·φ(x))`. Operands: `dy`, `x`.
#[derive(Debug, Clone)]
pub(crate) struct GeluGrad;

/// Exact GELU.
///
/// # Errors
/// Never for a real tensor.
pub fn gelu(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Gelu, &[x])
}

#[inline(always)]
fn phi<T: Real>(x: T) -> T {
    T::of(0.5) * (T::ONE + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

impl Gelu {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0);
        par_chunks(args.out(0), CHUNK, |i, y| forward(&x[i * CHUNK..], y));
    }
}

wide! {
    fn forward(x: &[T], y: &mut [T]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * phi(x);
        }
    }
}

wide! {
    fn backward(dy: &[T], x: &[T], dx: &mut [T]) {
        let inv_sqrt_tau = T::of(0.398_942_280_401_432_7);
        for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
            let density = inv_sqrt_tau * (T::of(-0.5) * x * x).exp();
            *dx = dy * (phi(x) + x * density);
        }
    }
}

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(GeluGrad, &[dy, v.inputs[0]])?);
        Ok(())
    }
    fn reads_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn writes_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn as_epilogue(&self, _: usize) -> Option<Epilogue> {
        Some(Epilogue::Gelu)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        20 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("gelu", "forward").writes(&[0]).reads(&[0]);
        let call = call.half("Y_HALF", &outputs[0]).half("X_HALF", &inputs[0]);
        Ok(call.word(n / wide).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

impl GeluGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (dy, x) = (args.real(0), args.real(1));
        par_chunks(args.out(0), CHUNK, |i, dx| backward(&dy[i * CHUNK..], &x[i * CHUNK..], dx));
    }
}

impl Op for GeluGrad {
    fn name(&self) -> &'static str {
        "gelu_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    fn reads_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn writes_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        (input == 0).then_some(Epilogue::GeluSlope)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        30 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("gelu", "grad").writes(&[0]).reads(&[1, 0]);
        let call = call.half("Y_HALF", &outputs[0]).half("X_HALF", &inputs[1]).half("DY_HALF", &inputs[0]);
        Ok(call.word(n / wide).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    for (i, s) in super::samples::ODD.iter().enumerate() {
        let x = [Normal, Uniform(-6.0, 6.0)][i % 2];
        b.add(Gelu, &[(s, x)]);
        b.add(GeluGrad, &[(s, Normal), (s, x)]);
    }
    b.add(Gelu, &[(&[33], Uniform(-20.0, 20.0))]);
    b.add(GeluGrad, &[(&[33], Normal), (&[33], Uniform(-20.0, 20.0))]);
}
