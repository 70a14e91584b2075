//! Batch norm over all rows of `x[.., C]` (beit-spec §7.3): with the statistics of the batch, or with given ones.
//!
//! `stats[3,C]` holds mean, 1/√(variance + eps) and the biased variance of every channel. Running statistics are
//! another op that updates them where they lie, and only if the batch's are finite.

use super::reduce::{ROW_BLOCK, col_sum_call, row_block, sum_blocks};
use super::units::vector;
use super::{Access, Arg, Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, par_map};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// Results `y` like `x`, and `stats` of the batch; from `x`, `gamma[C]`, `beta[C]`.
#[derive(Debug, Clone)]
pub(crate) struct BatchNorm {
    pub eps: f32,
}

/// `y = (x − mean)·rstd·gamma + beta` with given `stats`; from `x`, `gamma`, `beta`, `stats`.
#[derive(Debug, Clone)]
pub(crate) struct BatchNormGiven;

/// `stats` from the running mean and variance.
#[derive(Debug, Clone)]
pub(crate) struct BatchNormStats {
    pub eps: f32,
}

/// `dgamma`, `dbeta` in `shape` from `dy`, `x`, `stats`.
#[derive(Debug, Clone)]
pub(crate) struct BatchNormGradParams {
    pub shape: Vec<usize>,
}

/// `dx` from `dy`, `x`, `gamma`, `stats`, `dgamma`, `dbeta`; without `batch` the statistics are constants.
#[derive(Debug, Clone)]
pub(crate) struct BatchNormGradInput {
    pub batch: bool,
}

/// What [`batch_norm`] draws.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormOut {
    /// Normalised, like `x`.
    pub y: Var,
    /// Mean, 1/√(variance + eps) and biased variance, `[3,C]`.
    pub stats: Var,
}

/// Normalises by the statistics of the batch.
///
/// # Errors
/// If the widths differ.
pub fn batch_norm(g: &mut Graph, x: Var, gamma: Var, beta: Var, eps: f32) -> Result<BatchNormOut> {
    let out = g.apply_all(BatchNorm { eps }, &[x, gamma, beta])?;
    Ok(BatchNormOut { y: out[0], stats: out[1] })
}

/// Normalises by a running mean and variance, which get no gradient.
///
/// # Errors
/// If the widths differ.
pub fn batch_norm_running(
    g: &mut Graph,
    x: Var,
    (gamma, beta): (Var, Var),
    (mean, variance): (Var, Var),
    eps: f32,
) -> Result<Var> {
    let stats = g.apply(BatchNormStats { eps }, &[mean, variance])?;
    g.apply(BatchNormGiven, &[x, gamma, beta, stats])
}

fn check(inputs: &[TensorType], vectors: std::ops::Range<usize>) -> Result<()> {
    for i in vectors {
        expect_elements("a vector of channels", &inputs[i], inputs[0].cols())?;
    }
    Ok(())
}

fn apply<T: Real>(x: &[T], y: &mut [T], gamma: &[T], beta: &[T], stats: &[T]) {
    let c = gamma.len();
    par_chunks(y, c, |r, y| {
        for (i, y) in y.iter_mut().enumerate() {
            *y = (x[r * c + i] - stats[i]) * stats[c + i] * gamma[i] + beta[i];
        }
    });
}

fn apply_call(stats: Arg, rows: usize, cols: usize) -> KernelCall {
    let vec = vector(&[cols]);
    let n = rows * cols / vec;
    let call = KernelCall::new("batch_norm", "normalise").writes(&[0]).reads(&[0, 1, 2]);
    call.bind(stats, Access::Read).words(&[n, cols / vec]).each(n, vec)
}

/// `Σ_r part(r, channel)` over rows in the fixed blocks of every such sum.
fn row_sums<T: Real>(rows: usize, c: usize, part: impl Fn(usize, usize) -> T + Sync + Send) -> Vec<T> {
    let parts = par_map(rows.div_ceil(ROW_BLOCK), |p| {
        let mut sums = vec![T::ZERO; c];
        for r in p * ROW_BLOCK..rows.min((p + 1) * ROW_BLOCK) {
            sums.iter_mut().enumerate().for_each(|(i, s)| *s += part(r, i));
        }
        sums
    });
    let mut total = vec![T::ZERO; c];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(s, v)| *s += v);
    }
    total
}

impl BatchNorm {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, c) = (args.ty(0).rows(), args.ty(0).cols());
        let (x, gamma, beta) = (args.real(0), args.real(1), args.real(2));
        let (y, stats) = (args.out(0), args.out(1));
        let (inv, eps) = (T::of(1.0 / rows as f64), T::of(f64::from(self.eps)));
        let mean: Vec<T> = row_sums(rows, c, |r, i| x[r * c + i]).into_iter().map(|s| s * inv).collect();
        let squares = row_sums(rows, c, |r, i| {
            let d = x[r * c + i] - mean[i];
            d * d
        });
        for i in 0..c {
            let variance = squares[i] * inv;
            (stats[i], stats[c + i], stats[2 * c + i]) =
                (mean[i], T::ONE / (variance + eps).sqrt(), variance);
        }
        apply(x, y, gamma, beta, stats);
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        check(inputs, 1..3)?;
        Ok(vec![inputs[0].clone(), TensorType::real(&[3, inputs[0].cols()])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, stats) = (v.cotangent()?, v.outputs[1]);
        gradients(v, dy, stats, true)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols, block) = (inputs[0].rows(), inputs[0].cols(), row_block(caps));
        let (vec, blocks, inv) = (vector(&[cols]), rows.div_ceil(block), (1.0 / rows as f64) as f32);
        let (sums, squares) = (Arg::Scratch(0), Arg::Scratch(1));
        let vectors = TensorType::real(&[cols])?;
        let mut kernels = Kernels { calls: vec![], scratch: vec![vectors.clone(), vectors] };
        sum_blocks(caps, &mut kernels, blocks, cols, &[sums], |to| {
            col_sum_call(caps, &[Arg::In(0)], to, (rows, cols, block))
        })?;
        sum_blocks(caps, &mut kernels, blocks, cols, &[squares], |to| {
            let n = blocks * cols / vec;
            let call = KernelCall::new("batch_norm", "squares").bind(to[0], Access::Write);
            let call = call.reads(&[0]).bind(sums, Access::Read);
            call.words(&[n, cols / vec, rows, block]).float(inv).each(n, vec)
        })?;
        let finish = KernelCall::new("batch_norm", "finish").writes(&[1]);
        let finish = finish.bind(sums, Access::Read).bind(squares, Access::Read);
        kernels.calls.push(finish.words(&[cols / vec]).float(inv).float(self.eps).each(cols / vec, vec));
        kernels.calls.push(apply_call(Arg::Out(1), rows, cols));
        Ok(kernels)
    }
    cpu_kernel!();
}

impl BatchNormGiven {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (x, y) = (args.real(0), args.out(0));
        apply(x, y, args.real(1), args.real(2), args.real(3));
    }
}

impl Op for BatchNormGiven {
    fn name(&self) -> &'static str {
        "batch_norm_given"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4)?;
        check(inputs, 1..3)?;
        expect_elements("statistics", &inputs[3], 3 * inputs[0].cols())?;
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input < 3
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, stats) = (v.cotangent()?, v.inputs[3]);
        gradients(v, dy, stats, false)
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        Ok(apply_call(Arg::In(3), inputs[0].rows(), inputs[0].cols()).into())
    }
    cpu_kernel!();
}

/// Cotangents of `x`, `gamma` and `beta`.
fn gradients(v: &mut Vjp<'_>, dy: Var, stats: Var, batch: bool) -> Result<()> {
    let (x, gamma) = (v.inputs[0], v.inputs[1]);
    let shape = v.g.shape(gamma).to_vec();
    let params = v.g.apply_all(BatchNormGradParams { shape }, &[dy, x, stats])?;
    if v.wanted[0] {
        let op = BatchNormGradInput { batch };
        v.grads[0] = Some(v.g.apply(op, &[dy, x, gamma, stats, params[0], params[1]])?);
    }
    for i in 1..3 {
        v.grads[i] = v.wanted[i].then_some(params[i - 1]);
    }
    Ok(())
}

impl BatchNormStats {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (mean, variance, stats) = (args.real(0), args.real(1), args.out(0));
        let (c, eps) = (mean.len(), T::of(f64::from(self.eps)));
        for i in 0..c {
            (stats[i], stats[c + i], stats[2 * c + i]) =
                (mean[i], T::ONE / (variance[i] + eps).sqrt(), variance[i]);
        }
    }
}

impl Op for BatchNormStats {
    fn name(&self) -> &'static str {
        "batch_norm_stats"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("running variance", &inputs[1], inputs[0].elements())?;
        Ok(vec![TensorType::real(&[3, inputs[0].elements()])?])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let cols = inputs[0].elements();
        let vec = vector(&[cols]);
        let call = KernelCall::new("batch_norm", "finish").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[cols / vec]).float(1.0).float(self.eps).each(cols / vec, vec).into())
    }
    cpu_kernel!();
}

impl BatchNormGradParams {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, c) = (args.ty(1).rows(), args.ty(1).cols());
        let (dy, x, stats) = (args.real(0), args.real(1), args.real(2));
        let normal = |r: usize, i: usize| (x[r * c + i] - stats[i]) * stats[c + i];
        let dgamma = row_sums(rows, c, |r, i| dy[r * c + i] * normal(r, i));
        let dbeta = row_sums(rows, c, |r, i| dy[r * c + i]);
        args.out(0).copy_from_slice(&dgamma);
        args.out(1).copy_from_slice(&dbeta);
    }
}

impl Op for BatchNormGradParams {
    fn name(&self) -> &'static str {
        "batch_norm_grad_params"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        expect_elements("statistics", &inputs[2], 3 * inputs[1].cols())?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("gamma", &out, inputs[1].cols())?;
        Ok(vec![out.clone(), out])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        5 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols, block) = (inputs[1].rows(), inputs[1].cols(), row_block(caps));
        let (vec, blocks) = (vector(&[cols]), rows.div_ceil(block));
        let mut kernels = Kernels::default();
        sum_blocks(caps, &mut kernels, blocks, cols, &[Arg::Out(0), Arg::Out(1)], |to| {
            let n = blocks * cols / vec;
            let call = KernelCall::new("batch_norm", "grad_params");
            let call = call.bind(to[0], Access::Write).bind(to[1], Access::Write).reads(&[0, 1, 2]);
            call.words(&[n, cols / vec, rows, block]).each(n, vec)
        })?;
        Ok(kernels)
    }
    cpu_kernel!();
}

impl BatchNormGradInput {
    /// With x̂ = (x − mean)·rstd over n rows: dx = gamma·rstd·(dy − (dbeta + x̂·dgamma)/n); the mean of dy and of
    /// dy·x̂ belong to statistics that depend on x.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, c) = (args.ty(1).rows(), args.ty(1).cols());
        let (dy, x, gamma, stats) = (args.real(0), args.real(1), args.real(2), args.real(3));
        let (dgamma, dbeta) = (args.real(4), args.real(5));
        let inv = if self.batch { T::of(1.0 / rows as f64) } else { T::ZERO };
        par_chunks(args.out(0), c, |r, dx| {
            for (i, dx) in dx.iter_mut().enumerate() {
                let normal = (x[r * c + i] - stats[i]) * stats[c + i];
                *dx = gamma[i] * stats[c + i] * (dy[r * c + i] - inv * (dbeta[i] + normal * dgamma[i]));
            }
        });
    }
}

impl Op for BatchNormGradInput {
    fn name(&self) -> &'static str {
        "batch_norm_grad_input"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 6)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        expect_elements("statistics", &inputs[3], 3 * inputs[1].cols())?;
        for i in [2, 4, 5] {
            expect_elements("a vector of channels", &inputs[i], inputs[1].cols())?;
        }
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let n = rows * cols / vec;
        let inv = if self.batch { (1.0 / rows as f64) as f32 } else { 0.0 };
        let call = KernelCall::new("batch_norm", "grad_input").writes(&[0]).reads(&[0, 1, 2, 3, 4, 5]);
        Ok(call.words(&[n, cols / vec]).float(inv).each(n, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    let shapes: [&[usize]; 8] =
        [&[2, 1], &[3, 2, 2, 5], &[17, 4], &[33, 3], &[2, 5, 7, 65], &[513, 2], &[4, 4, 4, 64], &[5, 257]];
    for (i, s) in shapes.into_iter().enumerate() {
        let c = s[s.len() - 1];
        let (wide, three): (&[usize], &[usize]) = (&[c], &[3, c]);
        let (x, vector, stats) = ((s, Normal), (wide, Normal), (three, Uniform(0.5, 1.5)));
        let eps = if s[0] < 4 { 0.1 } else { 1e-5 };
        b.add(BatchNorm { eps }, &[(s, [Normal, Uniform(2.0, 4.0)][i % 2]), vector, vector]);
        b.add(BatchNormGiven, &[x, vector, vector, stats]);
        b.add(BatchNormStats { eps }, &[vector, (wide, Uniform(0.5, 1.5))]);
        b.add(BatchNormGradParams { shape: vec![c] }, &[x, x, stats]);
        for batch in [true, false] {
            b.add(BatchNormGradInput { batch }, &[x, x, vector, stats, vector, vector]);
        }
    }
}
