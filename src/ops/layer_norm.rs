//! Layer norm over the innermost dimension, biased variance, affine (beit-spec §2.5).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, par_chunks2, par_map, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::reduce::{row_block, sum_blocks};
use super::units::{lanes_hold, vector};
use super::{Access, Arg, Caps, KernelCall, Kernels};

/// Results: `y` like `x`, and per row `[mean, 1/√(variance + eps)]`.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    pub eps: f32,
}

/// `dx`, `dgamma`, `dbeta` from `dy`, `x`, `gamma`, `stats`; the latter two in a shape of as many elements as the width.
#[derive(Debug, Clone)]
pub(crate) struct LayerNormGrad {
    pub shape: Vec<usize>,
    /// A last operand is added to `dx`: the cotangent of `x` from its other readers.
    pub onto: bool,
}

/// Layer norm of `x[.., D]` with `gamma[D]` and `beta[D]`.
///
/// # Errors
/// If the widths differ.
pub fn layer_norm(g: &mut Graph, x: Var, gamma: Var, beta: Var, eps: f32) -> Result<Var> {
    g.apply(LayerNorm { eps }, &[x, gamma, beta])
}

impl LayerNorm {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let d = args.ty(0).cols();
        let (x, gamma, beta) = (args.real(0), args.real(1), args.real(2));
        let eps = T::of(f64::from(self.eps));
        let (y, stats) = (args.out(0), args.out(1));
        par_chunks2(y, stats, (ROWS * d, ROWS * 2), |block, y, stats| {
            forward(&x[block * ROWS * d..], gamma, beta, eps, y, stats);
        });
    }
}

/// Rows that a CPU kernel takes at once.
const ROWS: usize = 16;

wide! {
    /// Whole rows of `gamma.len()`.
    fn forward(x: &[T], gamma: &[T], beta: &[T], eps: T, y: &mut [T], stats: &mut [T]) {
        let d = gamma.len();
        let inv_d = T::of(1.0 / d as f64);
        for ((x, y), stats) in x.chunks(d).zip(y.chunks_mut(d)).zip(stats.chunks_mut(2)) {
            let mean = T::sum1(x, |v| v) * inv_d;
            let variance = T::sum1(x, |v| (v - mean) * (v - mean)) * inv_d;
            let rstd = T::ONE / (variance + eps).sqrt();
            for (((y, &x), &g), &b) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
                *y = (x - mean) * rstd * g + b;
            }
            stats.copy_from_slice(&[mean, rstd]);
        }
    }
}

wide! {
    /// Whole rows of `gamma.len()`.
    fn grad_input(dy: &[T], x: &[T], stats: &[T], gamma: &[T], dx: &mut [T]) {
        let d = gamma.len();
        let inv_d = T::of(1.0 / d as f64);
        for (((dy, x), stats), dx) in dy.chunks(d).zip(x.chunks(d)).zip(stats.chunks(2)).zip(dx.chunks_mut(d)) {
            let (mean, rstd) = (stats[0], stats[1]);
            dx.iter_mut().zip(dy).zip(gamma).for_each(|((h, &dy), &g)| *h = dy * g);
            let h_mean = T::sum1(dx, |h| h) * inv_d;
            let hx_mean = T::sum2(dx, x, |h, x| h * (x - mean) * rstd) * inv_d;
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = rstd * (*dx - h_mean - (x - mean) * rstd * hx_mean);
            }
        }
    }
}

wide! {
    /// Adds the rows' parts of the gradients of gamma and beta.
    fn grad_params(dy: &[T], x: &[T], stats: &[T], dg: &mut [T], db: &mut [T]) {
        let d = dg.len();
        for ((dy, x), stats) in dy.chunks(d).zip(x.chunks(d)).zip(stats.chunks(2)) {
            let (mean, rstd) = (stats[0], stats[1]);
            for (((dg, db), &dy), &x) in dg.iter_mut().zip(db.iter_mut()).zip(dy).zip(x) {
                *dg += dy * (x - mean) * rstd;
                *db += dy;
            }
        }
    }
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("gamma", &inputs[1], inputs[0].cols())?;
        expect_elements("beta", &inputs[2], inputs[0].cols())?;
        Ok(vec![inputs[0].clone(), TensorType::real(&[inputs[0].rows(), 2])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, stats) = (v.cotangent()?, v.outputs[1]);
        let (x, gamma) = (v.inputs[0], v.inputs[1]);
        let shape = v.g.shape(gamma).to_vec();
        let others = v.onto[0].take_if(|_| v.wanted[0]);
        let inputs: Vec<Var> = [dy, x, gamma, stats].into_iter().chain(others).collect();
        let grads = v.g.apply_all(LayerNormGrad { shape, onto: others.is_some() }, &inputs)?;
        for (i, &grad) in grads.iter().enumerate() {
            v.grads[i] = v.wanted[i].then_some(grad);
        }
        Ok(())
    }
    fn writes_half(&self, _: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        output == 0 && inputs[0].cols() % 4 == 0
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        8 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let inv_d = (1.0 / cols as f64) as f32;
        if lanes_hold(caps, cols) {
            let block = rows.div_ceil(32).max(8);
            let call = KernelCall::new("layer_norm_lanes", "forward").writes(&[0, 1]).reads(&[0, 1, 2]);
            let call = call.half("Y_HALF", &outputs[0]).words(&[rows, block]).float(inv_d).float(self.eps);
            return Ok(call.lanes(rows.div_ceil(block), cols).into());
        }
        let vec = vector(&[cols]);
        let call = KernelCall::new("layer_norm", "forward").writes(&[0, 1]).reads(&[0, 1, 2]);
        let call = call.half("Y_HALF", &outputs[0]);
        let call = call.words(&[rows, cols / vec]).float(inv_d).float(self.eps);
        Ok(call.rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

impl LayerNormGrad {
    /// Binds what is added to `dx`.
    fn adding(&self, call: KernelCall) -> KernelCall {
        if self.onto { call.reads(&[4]).define("ONTO", 1) } else { call }
    }
    /// With x̂ = (x−mean)·rstd and h = dy·gamma: dx = rstd·(h − mean(h) − x̂·mean(h·x̂)), dgamma = Σ dy·x̂, dbeta = Σ dy.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, d) = (args.ty(1).rows(), args.ty(1).cols());
        let (dy, x, gamma, stats) = (args.real(0), args.real(1), args.real(2), args.real(3));
        let onto = if self.onto { args.real(4) } else { &[] };
        par_chunks(args.out(0), ROWS * d, |block, dx| {
            let at = block * ROWS;
            grad_input(&dy[at * d..], &x[at * d..], &stats[2 * at..], gamma, dx);
            dx.iter_mut().zip(onto.get(at * d..).unwrap_or_default()).for_each(|(dx, &o)| *dx += o);
        });
        let block = super::reduce::ROW_BLOCK;
        let parts = par_map(rows.div_ceil(block), |p| {
            let (mut dg, mut db) = (vec![T::ZERO; d], vec![T::ZERO; d]);
            let (first, last) = (p * block, rows.min((p + 1) * block));
            grad_params(&dy[first * d..last * d], &x[first * d..], &stats[2 * first..], &mut dg, &mut db);
            (dg, db)
        });
        let (dgamma, dbeta) = (args.out(1), args.out(2));
        dgamma.fill(T::ZERO);
        dbeta.fill(T::ZERO);
        for (dg, db) in parts {
            dgamma.iter_mut().zip(dg).for_each(|(s, v)| *s += v);
            dbeta.iter_mut().zip(db).for_each(|(s, v)| *s += v);
        }
    }
}

impl Op for LayerNormGrad {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4 + usize::from(self.onto))?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        expect_elements("stats", &inputs[3], 2 * inputs[1].rows())?;
        if self.onto {
            expect_elements("other cotangents", &inputs[4], inputs[1].elements())?;
        }
        let out = TensorType::real(&self.shape)?;
        expect_elements("gamma", &out, inputs[1].cols())?;
        Ok(vec![inputs[1].clone(), out.clone(), out])
    }
    fn reads_half(&self, _: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        input == 0 && inputs[1].cols() % 4 == 0
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        18 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let inv_d = (1.0 / cols as f64) as f32;
        let params = [Arg::Out(1), Arg::Out(2)];
        let mut kernels = Kernels::default();
        if lanes_hold(caps, cols) {
            let block = rows.div_ceil(16).max(8);
            sum_blocks(caps, &mut kernels, rows.div_ceil(block), cols, &params, |to| {
                let call =
                    KernelCall::new("layer_norm_lanes", "grad").half("DY_HALF", &inputs[0]).writes(&[0]);
                let call = call.bind(to[0], Access::Write).bind(to[1], Access::Write).reads(&[0, 1, 2, 3]);
                self.adding(call)
                    .words(&[rows, block])
                    .float(inv_d)
                    .float(0.0)
                    .lanes(rows.div_ceil(block), cols)
            })?;
            return Ok(kernels);
        }
        let (vec, block) = (vector(&[cols]), row_block(caps));
        let call = KernelCall::new("layer_norm", "grad_input").writes(&[0]).reads(&[0, 1, 2, 3]);
        let call = self.adding(call).half("DY_HALF", &inputs[0]).words(&[rows, cols / vec]).float(inv_d);
        kernels.calls.push(call.rows(caps, rows, cols / vec, vec));
        sum_blocks(caps, &mut kernels, rows.div_ceil(block), cols, &params, |to| {
            let n = rows.div_ceil(block) * cols / vec;
            let call = KernelCall::new("layer_norm", "grad_params").half("DY_HALF", &inputs[0]);
            let call = call.bind(to[0], Access::Write).bind(to[1], Access::Write).reads(&[0, 1, 3]);
            call.words(&[n, rows, cols / vec, block]).each(n, vec)
        })?;
        Ok(kernels)
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    let large: &[&[usize]] = &[&[7, 768], &[3, 67, 64], &[300, 192], &[super::samples::MANY_ROWS, 3]];
    for (i, s) in super::samples::ROWS.iter().chain(large).enumerate() {
        let (d, rows) = (s[s.len() - 1], s[..s.len() - 1].iter().product());
        let eps = if d < 16 { 0.1 } else { 1e-6 };
        let (width, stats): (&[usize], &[usize]) = (&[d], &[rows, 2]);
        let x = [Normal, Uniform(9.0, 11.0)][usize::from(i % 3 == 2)];
        b.add(LayerNorm { eps }, &[(s, x), (width, Normal), (width, Normal)]);
        let stats = (stats, Uniform(0.5, 1.5));
        let inputs = [(*s, Normal), (*s, Normal), (width, Normal), stats, (*s, Normal)];
        for onto in [false, true] {
            b.add(LayerNormGrad { shape: vec![d], onto }, &inputs[..4 + usize::from(onto)]);
        }
    }
}
