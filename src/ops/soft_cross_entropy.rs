//! Softmax cross-entropy of rows of logits against rows of target weights: label smoothing, mixup, cutmix.
//!
//! The loss is `Σ w·nll` with `nll = −Σ_c t_c·ln softmax(l)_c` (beit-spec §6.4); `t` need not add up to 1.

use super::cross_entropy::{loss_types, totals_call};
use super::units::vector;
use super::{Arg, CrossEntropyOut};
use super::{Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements, expect_shape};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// Results: `loss[1]`, `accuracy[1]` = Σ w·(largest logit = largest target), and `rows[M,3]` = (log-sum-exp, nll,
/// correct).
#[derive(Debug, Clone)]
pub(crate) struct SoftCrossEntropy;

/// `dlogits = dloss·w·(Σt·softmax − t)` from `dloss[1]`, `logits`, `targets`, `weights`, `rows`.
#[derive(Debug, Clone)]
pub(crate) struct SoftCrossEntropyGrad;

/// Cross-entropy of `logits[M,C]` against `targets[M,C]` with `weights[M]`. The targets get no gradient.
///
/// # Errors
/// If the sizes do not fit.
pub fn soft_cross_entropy(g: &mut Graph, logits: Var, targets: Var, weights: Var) -> Result<CrossEntropyOut> {
    let out = g.apply_all(SoftCrossEntropy, &[logits, targets, weights])?;
    Ok(CrossEntropyOut { loss: out[0], accuracy: out[1], rows: out[2] })
}

/// Index of the largest element, the first on ties.
fn first_largest<T: Real>(values: &[T]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

fn log_sum_exp<T: Real>(logits: &[T]) -> T {
    let max = logits.iter().fold(logits[0], |m, &l| if l > m { l } else { m });
    max + logits.iter().fold(T::ZERO, |s, &l| s + (l - max).exp()).ln()
}

impl SoftCrossEntropy {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(0).cols();
        let (logits, targets, weights) = (args.real(0), args.real(1), args.real(2));
        let (loss, accuracy, rows) = (args.out(0), args.out(1), args.out(2));
        par_chunks(rows, 3, |m, row| {
            let (l, t) = (&logits[m * c..][..c], &targets[m * c..][..c]);
            let lse = log_sum_exp(l);
            let nll = l.iter().zip(t).fold(T::ZERO, |s, (&l, &t)| s + t * (lse - l));
            let right = first_largest(l) == first_largest(t);
            row.copy_from_slice(&[lse, nll, if right { T::ONE } else { T::ZERO }]);
        });
        (loss[0], accuracy[0]) = super::cross_entropy::totals(rows, weights);
    }
}

impl Op for SoftCrossEntropy {
    fn name(&self) -> &'static str {
        "soft_cross_entropy"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_shape("targets", &inputs[1], inputs[0].shape())?;
        expect_elements("weights", &inputs[2], inputs[0].rows())?;
        loss_types(inputs[0].rows())
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[0], v.inputs[1], v.inputs[2], v.outputs[2]];
        v.grads[0] = Some(v.g.apply(SoftCrossEntropyGrad, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        6 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let each = KernelCall::new("soft_cross_entropy", "rows").writes(&[2]).reads(&[0, 1]);
        let each = each.words(&[rows, cols / vec]).rows(caps, rows, cols / vec, vec);
        Ok(Kernels { calls: vec![each, totals_call(rows, Arg::In(2))], scratch: vec![] })
    }
    cpu_kernel!();
}

impl SoftCrossEntropyGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(1).cols();
        let (dloss, logits, targets, weights, rows) =
            (args.real(0)[0], args.real(1), args.real(2), args.real(3), args.real(4));
        par_chunks(args.out(0), c, |m, dlogits| {
            let t = &targets[m * c..][..c];
            let mass = t.iter().fold(T::ZERO, |s, &t| s + t);
            let (factor, lse) = (dloss * weights[m], rows[3 * m]);
            for ((d, &l), &t) in dlogits.iter_mut().zip(&logits[m * c..]).zip(t) {
                *d = factor * (mass * (l - lse).exp() - t);
            }
        });
    }
}

impl Op for SoftCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "soft_cross_entropy_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 5)?;
        expect_elements("cotangent", &inputs[0], 1)?;
        expect_shape("targets", &inputs[2], inputs[1].shape())?;
        expect_elements("weights", &inputs[3], inputs[1].rows())?;
        expect_elements("rows", &inputs[4], 3 * inputs[1].rows())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        6 * inputs[1].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("soft_cross_entropy", "grad").writes(&[0]).reads(&[0, 1, 2, 3, 4]);
        Ok(call.words(&[rows, cols / vec]).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties, Uniform};
    let large: &[&[usize]] = &[&[65, 33], &[3, 1000], &[super::samples::MANY_ROWS, 2]];
    for (i, s) in super::samples::ROWS.iter().chain(large).enumerate() {
        let m: usize = s[..s.len() - 1].iter().product();
        let logits = [Normal, Ties, Uniform(-40.0, 40.0), Constant(1.0)][i % 4];
        let (targets, weights) = ([Uniform(0.0, 1.0), Ties][i % 2], Uniform(0.0, 1.0));
        let (row, stats): (&[usize], &[usize]) = (&[m], &[m, 3]);
        b.add(SoftCrossEntropy, &[(s, logits), (s, targets), (row, weights)]);
        let one: &[usize] = &[1];
        let operands =
            [(one, Normal), (*s, Normal), (*s, targets), (row, weights), (stats, Uniform(3.0, 5.0))];
        b.add(SoftCrossEntropyGrad, &operands);
    }
}
