//! Negative log likelihood of the logit-Laplace distribution (beit-spec §3.4).
//!
//! `params[.., 2C]` holds μ in the first C channels and ln b in the last C; `target[.., C]` lies in (0, 1).
//! `nll = |logit(t) − μ|·exp(−ln b) + ln b + ln 2 + ln(t(1−t))`.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::{Caps, KernelCall, Kernels};

/// `nll` like `target`, from `params`, `target`.
#[derive(Debug, Clone)]
pub(crate) struct LogitLaplace;

/// `dparams` from `dnll`, `params`, `target`.
#[derive(Debug, Clone)]
pub(crate) struct LogitLaplaceGrad;

/// `dtarget` from `dnll`, `params`, `target`.
#[derive(Debug, Clone)]
pub(crate) struct LogitLaplaceTargetGrad;

/// Per-value negative log likelihood.
///
/// # Errors
/// If `params` has not twice the channels of `target`.
pub fn logit_laplace(g: &mut Graph, params: Var, target: Var) -> Result<Var> {
    g.apply(LogitLaplace, &[params, target])
}

#[inline(always)]
fn logit<T: Real>(t: T) -> T {
    (t / (T::ONE - t)).ln()
}

impl LogitLaplace {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(1).cols();
        let (params, target) = (args.real(0), args.real(1));
        par_chunks(args.out(0), BLOCK * c, |block, nll| {
            let at = block * BLOCK * c;
            // μ and ln b of a block side by side, so that the arithmetic runs along memory.
            let mut scale = vec![T::ZERO; nll.len()];
            split(&params[2 * at..], c, nll, &mut scale);
            forward(&target[at..], &scale, nll);
        });
    }
}

/// Pixels that a CPU kernel takes at once.
const BLOCK: usize = 256;

/// Separates μ and ln b of pixels of `c` channels.
fn split<T: Real>(params: &[T], c: usize, mu: &mut [T], ln_b: &mut [T]) {
    for ((p, mu), ln_b) in params.chunks(2 * c).zip(mu.chunks_mut(c)).zip(ln_b.chunks_mut(c)) {
        mu.copy_from_slice(&p[..c]);
        ln_b.copy_from_slice(&p[c..]);
    }
}

wide! {
    /// nll of values; `nll` comes holding μ.
    fn forward(target: &[T], ln_b: &[T], nll: &mut [T]) {
        let ln2 = T::of(std::f64::consts::LN_2);
        for ((nll, &t), &ln_b) in nll.iter_mut().zip(target).zip(ln_b) {
            *nll = (logit(t) - *nll).abs() * (-ln_b).exp() + ln_b + ln2 + (t * (T::ONE - t)).ln();
        }
    }
}

wide! {
    /// `mu` and `ln_b` come holding the parameters and leave holding their cotangents.
    fn backward(target: &[T], dnll: &[T], mu: &mut [T], ln_b: &mut [T]) {
        for (((mu, ln_b), &t), &d) in mu.iter_mut().zip(ln_b).zip(target).zip(dnll) {
            let (residual, inv_b) = (logit(t) - *mu, (-*ln_b).exp());
            let slope = if residual > T::ZERO { -d } else { d };
            *mu = if residual == T::ZERO { T::ZERO } else { slope * inv_b };
            *ln_b = d * (T::ONE - residual.abs() * inv_b);
        }
    }
}

impl Op for LogitLaplace {
    fn name(&self) -> &'static str {
        "logit_laplace"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("parameters", &inputs[0], 2 * inputs[1].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[0], v.inputs[1]];
        if v.wanted[0] {
            v.grads[0] = Some(v.g.apply(LogitLaplaceGrad, &inputs)?);
        }
        if v.wanted[1] {
            v.grads[1] = Some(v.g.apply(LogitLaplaceTargetGrad, &inputs)?);
        }
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        20 * inputs[1].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (n, c) = (inputs[1].elements(), inputs[1].cols());
        let call = KernelCall::new("logit_laplace", "forward").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[n, c]).each(n, 1).into())
    }
    cpu_kernel!();
}

impl LogitLaplaceGrad {
    /// ∂/∂μ = −sign(logit(t) − μ)/b (0 at the kink), ∂/∂ln b = 1 − |logit(t) − μ|/b.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(2).cols();
        let (dnll, params, target) = (args.real(0), args.real(1), args.real(2));
        par_chunks(args.out(0), BLOCK * 2 * c, |block, out| {
            let at = block * BLOCK * c;
            let (mut mu, mut ln_b) = (vec![T::ZERO; out.len() / 2], vec![T::ZERO; out.len() / 2]);
            split(&params[2 * at..], c, &mut mu, &mut ln_b);
            backward(&target[at..], &dnll[at..], &mut mu, &mut ln_b);
            for ((out, mu), ln_b) in out.chunks_mut(2 * c).zip(mu.chunks(c)).zip(ln_b.chunks(c)) {
                out[..c].copy_from_slice(mu);
                out[c..].copy_from_slice(ln_b);
            }
        });
    }
}

impl Op for LogitLaplaceGrad {
    fn name(&self) -> &'static str {
        "logit_laplace_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("cotangent", &inputs[0], inputs[2].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        20 * inputs[2].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (n, c) = (inputs[2].elements(), inputs[2].cols());
        let call = KernelCall::new("logit_laplace", "grad").writes(&[0]).reads(&[1, 2, 0]);
        Ok(call.words(&[n, c]).each(n, 1).into())
    }
    cpu_kernel!();
}

impl LogitLaplaceTargetGrad {
    /// ∂/∂t = (sign(logit(t) − μ)/b + 1 − 2t) / (t(1 − t)), the sign 0 at the kink.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(2).cols();
        let (dnll, params, target) = (args.real(0), args.real(1), args.real(2));
        par_chunks(args.out(0), c, |r, out| {
            let (mu, ln_b) = params[r * 2 * c..][..2 * c].split_at(c);
            for (i, out) in out.iter_mut().enumerate() {
                let t = target[r * c + i];
                let (residual, inv_b) = (logit(t) - mu[i], (-ln_b[i]).exp());
                let slope = if residual > T::ZERO {
                    inv_b
                } else if residual < T::ZERO {
                    -inv_b
                } else {
                    T::ZERO
                };
                *out = dnll[r * c + i] * (slope + T::ONE - t - t) / (t * (T::ONE - t));
            }
        });
    }
}

impl Op for LogitLaplaceTargetGrad {
    fn name(&self) -> &'static str {
        "logit_laplace_target_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("cotangent", &inputs[0], inputs[2].elements())?;
        Ok(vec![inputs[2].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        20 * inputs[2].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (n, c) = (inputs[2].elements(), inputs[2].cols());
        let call = KernelCall::new("logit_laplace", "target_grad").writes(&[0]).reads(&[1, 2, 0]);
        Ok(call.words(&[n, c]).each(n, 1).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    for s in super::samples::ROWS {
        let mut params = s.to_vec();
        params[s.len() - 1] *= 2;
        let target = (*s, Uniform(0.1, 0.9));
        b.add(LogitLaplace, &[(&params, Normal), target]);
        b.add(LogitLaplaceGrad, &[(s, Normal), (&params, Normal), target]);
        b.add(LogitLaplaceTargetGrad, &[(s, Normal), (&params, Normal), target]);
    }
    // Exactly at the kink: logit(1/2) = 0 = μ.
    b.add_kinked(LogitLaplace, &[(&[5, 6], Constant(0.0)), (&[5, 3], Constant(0.5))]);
    let kink: [(&[usize], _); 3] = [(&[5, 3], Normal), (&[5, 6], Constant(0.0)), (&[5, 3], Constant(0.5))];
    b.add(LogitLaplaceGrad, &kink);
    b.add(LogitLaplaceTargetGrad, &kink);
}
