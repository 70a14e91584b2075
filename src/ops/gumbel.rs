//! Gumbel-softmax relaxation of a categorical choice: `y = softmax((logits + G)/τ)` per row (beit-spec §3.5).
//!
//! The noise G = −ln(−ln U) is drawn from the key, one draw per element, or given as an operand (golden tests).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, wide};
use crate::error::Result;
use crate::graph::{DType, Graph, TensorType, Var};
use crate::rng::Key;

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y` from `logits[.., V]`, `tau[1]`, and a key (4 words) or noise like `logits`.
#[derive(Debug, Clone)]
pub(crate) struct GumbelSoftmax;

/// `dlogits = y⊙(dy − Σ dy⊙y)/τ` from `dy`, `y`, `tau`.
#[derive(Debug, Clone)]
pub(crate) struct SoftmaxGrad;

/// Relaxed choice with noise from a key input.
///
/// # Errors
/// If the sizes do not fit.
pub fn gumbel_softmax(g: &mut Graph, logits: Var, tau: Var, key: Var) -> Result<Var> {
    g.apply(GumbelSoftmax, &[logits, tau, key])
}

/// Relaxed choice with given noise.
///
/// # Errors
/// If the sizes do not fit.
pub fn gumbel_softmax_with_noise(g: &mut Graph, logits: Var, tau: Var, noise: Var) -> Result<Var> {
    g.apply(GumbelSoftmax, &[logits, tau, noise])
}

impl GumbelSoftmax {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(0).cols();
        let (logits, inv_tau) = (args.real(0), T::ONE / args.real(1)[0]);
        let (noise, words) = (args.real(2), args.words(2));
        let key = match *words {
            [a, b, c, d] => Some(Key([a, b, c, d])),
            _ => None,
        };
        par_chunks(args.out(0), v, |r, y| {
            match key {
                Some(key) => draw(key, (r * v) as u32, y),
                None => y.copy_from_slice(&noise[r * v..][..v]),
            }
            relax(&logits[r * v..][..v], inv_tau, y);
        });
    }
}

wide! {
    /// Gumbel noise of consecutive indices.
    fn draw(key: Key, first: u32, y: &mut [T]) {
        for (i, y) in y.iter_mut().enumerate() {
            let uniform = T::of(f64::from(key.uniform(first.wrapping_add(i as u32))));
            *y = -(-uniform.ln()).ln();
        }
    }
}

wide! {
    /// `softmax((logits + y)/τ)` into `y`.
    fn relax(logits: &[T], inv_tau: T, y: &mut [T]) {
        y.iter_mut().zip(logits).for_each(|(y, &l)| *y = (l + *y) * inv_tau);
        let max = T::largest(y);
        for x in y.iter_mut() {
            *x = (*x - max).exp();
        }
        let inv = T::ONE / T::sum1(y, |x| x);
        y.iter_mut().for_each(|x| *x *= inv);
    }
}

wide! {
    fn grad_row(dy: &[T], y: &[T], inv_tau: T, dx: &mut [T]) {
        let dot = T::sum2(dy, y, |a, b| a * b);
        for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = y * (dy - dot) * inv_tau;
        }
    }
}

impl Op for GumbelSoftmax {
    fn name(&self) -> &'static str {
        "gumbel_softmax"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("temperature", &inputs[1], 1)?;
        let drawn = inputs[2].dtype() == DType::U32;
        expect_elements("noise", &inputs[2], if drawn { 4 } else { inputs[0].elements() })?;
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.outputs[0], v.inputs[1]];
        v.grads[0] = Some(v.g.apply(SoftmaxGrad, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        30 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let given = inputs[2].dtype() == DType::F32;
        let call = KernelCall::new("gumbel", "softmax").writes(&[0]).reads(&[1, 0, 2]);
        let call = call.define("NOISE", u32::from(given)).words(&[rows, cols / vec]);
        Ok(call.rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

impl SoftmaxGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(1).cols();
        let (dy, y, inv_tau) = (args.real(0), args.real(1), T::ONE / args.real(2)[0]);
        par_chunks(args.out(0), v, |r, dx| {
            grad_row(&dy[r * v..][..v], &y[r * v..][..v], inv_tau, dx);
        });
    }
}

impl Op for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        expect_elements("temperature", &inputs[2], 1)?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("gumbel", "softmax_grad").writes(&[0]).reads(&[2, 0, 1]);
        Ok(call.words(&[rows, cols / vec]).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform, Words};
    let many: &[usize] = &[super::samples::MANY_ROWS, 2];
    for (i, s) in super::samples::ROWS.iter().chain([&many]).enumerate() {
        let tau: (&[usize], _) = (&[1], [Uniform(0.5, 1.0), Constant(1.0)][i % 2]);
        b.add(GumbelSoftmax, &[(s, Normal), tau, (s, Normal)]);
        b.add(GumbelSoftmax, &[(s, Normal), tau, (&[4], Words(u32::MAX))]);
        b.add(SoftmaxGrad, &[(s, Normal), (s, Uniform(0.0, 1.0)), tau]);
    }
}
