//! KL divergence of softmax(logits) to the uniform distribution, per row: `ln V + Σ q ln q` (beit-spec §3.5).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, par_rows, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `kl[R]` from `logits[.., V]`, in the leading shape of the logits.
#[derive(Debug, Clone)]
pub(crate) struct KlUniform;

/// `dlogits = dkl·q⊙(ln q − Σ q ln q)` from `dkl`, `logits`.
#[derive(Debug, Clone)]
pub(crate) struct KlUniformGrad;

/// KL to the uniform distribution of every row.
///
/// # Errors
/// Never for a real tensor of rank 2 or more.
pub fn kl_uniform(g: &mut Graph, logits: Var) -> Result<Var> {
    g.apply(KlUniform, &[logits])
}

wide! {
    /// Log-sum-exp and Σ q ln q of one row.
    fn negative_entropy(logits: &[T]) -> (T, T) {
        let max = T::largest(logits);
        let sum = T::sum1(logits, |l| (l - max).exp());
        let weighted = T::sum1(logits, |l| (l - max).exp() * (l - max));
        let ln_sum = sum.ln();
        (max + ln_sum, weighted / sum - ln_sum)
    }
}

wide! {
    fn grad_row(dkl: T, lse: T, negative_entropy: T, logits: &[T], dx: &mut [T]) {
        for (dx, &l) in dx.iter_mut().zip(logits) {
            let ln_q = l - lse;
            *dx = dkl * ln_q.exp() * (ln_q - negative_entropy);
        }
    }
}

impl KlUniform {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(0).cols();
        let logits = args.real(0);
        let ln_v = T::of((v as f64).ln());
        par_rows(args.out(0), 1, v, |r, kl| {
            kl[0] = ln_v + negative_entropy(&logits[r * v..][..v]).1;
        });
    }
}

impl Op for KlUniform {
    fn name(&self) -> &'static str {
        "kl_uniform"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let s = inputs[0].shape();
        Ok(vec![TensorType::real(&s[..s.len().saturating_sub(1)])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(KlUniformGrad, &[dy, v.inputs[0]])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        12 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("kl_uniform", "forward").writes(&[0]).reads(&[0]);
        let call = call.words(&[rows, cols / vec]).float((cols as f64).ln() as f32);
        Ok(call.rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

impl KlUniformGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(1).cols();
        let (dkl, logits) = (args.real(0), args.real(1));
        par_chunks(args.out(0), v, |r, dx| {
            let logits = &logits[r * v..][..v];
            let (lse, negative_entropy) = negative_entropy(logits);
            grad_row(dkl[r], lse, negative_entropy, logits, dx);
        });
    }
}

impl Op for KlUniformGrad {
    fn name(&self) -> &'static str {
        "kl_uniform_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("cotangent", &inputs[0], inputs[1].rows())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        20 * inputs[1].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("kl_uniform", "grad").writes(&[0]).reads(&[1, 0]);
        let call = call.words(&[rows, cols / vec]).float((cols as f64).ln() as f32);
        Ok(call.rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    let many: &[usize] = &[super::samples::MANY_ROWS, 2];
    for (i, s) in super::samples::ROWS.iter().chain([&many]).enumerate() {
        let logits = [Normal, Uniform(-9.0, 9.0)][i % 2];
        b.add(KlUniform, &[(s, logits)]);
        b.add(KlUniformGrad, &[(&s[..s.len() - 1], Normal), (s, logits)]);
    }
}
