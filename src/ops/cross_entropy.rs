//! Softmax cross-entropy of rows of logits against labels, weighted, in f32 statistics.
//!
//! The loss is `Σ w·nll`; the host puts `1/count` into the weights of real rows and 0 into padding, so that all masked
//! positions of a batch are pooled (beit-spec §5.1). An empty pool gives 0, not NaN.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, chunked_sum, par_chunks, par_rows, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Access, Arg, Caps, KernelCall, Kernels};

/// Results: `loss[1]`, `accuracy[1]` = Σ w·(arg max = label), and `rows[M,3]` = (log-sum-exp, nll, correct).
#[derive(Debug, Clone)]
pub(crate) struct CrossEntropy;

/// `dlogits = dloss·w·(softmax − one-hot)` from `dloss[1]`, `logits`, `labels`, `weights`, `rows`.
#[derive(Debug, Clone)]
pub(crate) struct CrossEntropyGrad;

/// What [`cross_entropy`] draws.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropyOut {
    /// Weighted loss, `[1]`.
    pub loss: Var,
    /// Weighted share of rows whose largest logit (the first on ties) is the label, `[1]`.
    pub accuracy: Var,
    /// Per row: log-sum-exp, negative log likelihood, 1 if correct.
    pub rows: Var,
}

/// Cross-entropy of `logits[M,V]` against `labels[M]` with `weights[M]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn cross_entropy(g: &mut Graph, logits: Var, labels: Var, weights: Var) -> Result<CrossEntropyOut> {
    let out = g.apply_all(CrossEntropy, &[logits, labels, weights])?;
    Ok(CrossEntropyOut { loss: out[0], accuracy: out[1], rows: out[2] })
}

wide! {
    /// Log-sum-exp, nll and correctness of one row.
    pub(crate) fn row_statistics(logits: &[T], label: usize, row: &mut [T]) {
        let max = T::largest(logits);
        let lse = max + T::sum1(logits, |l| (l - max).exp()).ln();
        let hit = logits.get(label).copied().unwrap_or(T::ZERO);
        // Correct if the label is the first of the largest; the search is for the few rows where it may be.
        let correct = hit == max && logits.iter().position(|&l| l == max) == Some(label);
        row.copy_from_slice(&[lse, lse - hit, if correct { T::ONE } else { T::ZERO }]);
    }
}

wide! {
    /// `factor·softmax`, given the log-sum-exp.
    pub(crate) fn scaled_softmax(logits: &[T], lse: T, factor: T, out: &mut [T]) {
        for (d, &l) in out.iter_mut().zip(logits) {
            *d = factor * (l - lse).exp();
        }
    }
}

/// Weighted sums of nll and correctness, in a fixed order.
pub(crate) fn totals<T: Real>(rows: &[T], weights: &[T]) -> (T, T) {
    let column = |c: usize| {
        chunked_sum(weights.len(), 1024, |r| r.fold(T::ZERO, |s, i| s + weights[i] * rows[3 * i + c]))
    };
    (column(1), column(2))
}

impl CrossEntropy {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(0).cols();
        let (logits, labels, weights) = (args.real(0), args.words(1), args.real(2));
        let (loss, accuracy, rows) = (args.out(0), args.out(1), args.out(2));
        par_rows(rows, 3, v, |m, row| row_statistics(&logits[m * v..][..v], labels[m] as usize, row));
        (loss[0], accuracy[0]) = totals(rows, weights);
    }
}

/// Checks operands shared by the losses; `m` rows.
pub(crate) fn check_rows(labels: &TensorType, weights: &TensorType, m: usize) -> Result<()> {
    expect_elements("labels", labels, m)?;
    expect_elements("weights", weights, m)
}

/// Types of `loss`, `accuracy`, `rows`.
pub(crate) fn loss_types(m: usize) -> Result<Vec<TensorType>> {
    Ok(vec![TensorType::real(&[1])?, TensorType::real(&[1])?, TensorType::real(&[m, 3])?])
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        check_rows(&inputs[1], &inputs[2], inputs[0].rows())?;
        loss_types(inputs[0].rows())
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[0], v.inputs[1], v.inputs[2], v.outputs[2]];
        v.grads[0] = Some(v.g.apply(CrossEntropyGrad, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let words = [rows, cols / vec, cols];
        let each = KernelCall::new("cross_entropy", "rows").writes(&[2]).reads(&[0, 1]).words(&words);
        Ok(Kernels {
            calls: vec![each.rows(caps, rows, cols / vec, vec), totals_call(rows, Arg::In(2))],
            scratch: vec![],
        })
    }
    cpu_kernel!();
}

impl CrossEntropyGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let v = args.ty(1).cols();
        let (dloss, logits, labels, weights, rows) =
            (args.real(0)[0], args.real(1), args.words(2), args.real(3), args.real(4));
        par_chunks(args.out(0), v, |m, dlogits| {
            let (factor, lse) = (dloss * weights[m], rows[3 * m]);
            scaled_softmax(&logits[m * v..], lse, factor, dlogits);
            if let Some(d) = dlogits.get_mut(labels[m] as usize) {
                *d -= factor;
            }
        });
    }
}

impl Op for CrossEntropyGrad {
    fn name(&self) -> &'static str {
        "cross_entropy_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 5)?;
        expect_elements("cotangent", &inputs[0], 1)?;
        check_rows(&inputs[2], &inputs[3], inputs[1].rows())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[1].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("cross_entropy", "grad").writes(&[0]).reads(&[0, 1, 2, 3, 4]);
        Ok(call.words(&[rows, cols / vec, cols]).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// The dispatch that adds up results 0 (loss) and 1 (accuracy) from result 2 (rows) and the weights.
pub(crate) fn totals_call(rows: usize, weights: Arg) -> KernelCall {
    let call = KernelCall::new("cross_entropy", "totals").writes(&[0, 1]);
    let call = call.bind(Arg::Out(2), Access::Read).bind(weights, Access::Read);
    call.words(&[rows, 1, 1]).alone(1)
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties, Uniform, Words};
    let large: &[&[usize]] = &[&[65, 33], &[3, 8193], &[super::samples::MANY_ROWS, 2]];
    for (i, s) in super::samples::ROWS.iter().chain(large).enumerate() {
        let (v, m) = (s[s.len() - 1], s[..s.len() - 1].iter().product());
        let logits = [Normal, Ties, Uniform(-40.0, 40.0), Constant(1.0)][i % 4];
        let (rows, labels): (&[usize], _) = (&[m], Words(v as u32));
        let stats: (&[usize], _) = (&[m, 3], Uniform(3.0, 5.0));
        for weights in [Uniform(0.0, 1.0), Constant(0.0)].into_iter().take(1 + usize::from(i == 4)) {
            b.add(CrossEntropy, &[(s, logits), (rows, labels), (rows, weights)]);
            let one: (&[usize], _) = (&[1], Normal);
            b.add(CrossEntropyGrad, &[one, (s, Normal), (rows, labels), (rows, weights), stats]);
        }
    }
}
