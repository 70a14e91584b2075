//! The prediction head fused with softmax-cross-entropy, in chunks, so that no `[M,V]` logits live across the step.
//!
//! Forward keeps three numbers per row; backward computes each chunk of logits again. Use [`super::linear`] and
//! [`super::cross_entropy`] where the logits are small or wanted.

use super::cross_entropy::{check_rows, loss_types, row_statistics, totals, totals_call};
use super::gemm::{Gemm, Matrix};
use super::units::vector;
use super::{Access, Arg, Caps, KernelCall, Kernels};
use super::{Args, CrossEntropyOut, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Mat, Real, par_chunks, par_rows, wide};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// Rows of one chunk on the CPU (the WGSL kernels chunk over the vocabulary instead).
const ROWS: usize = 256;

/// Results `loss[1]`, `accuracy[1]`, `rows[M,3]` from `x[M,D]`, `w[V,D]`, `b[V]`, `labels[M]`, `weights[M]`.
#[derive(Debug, Clone)]
pub(crate) struct HeadLoss;

/// `dx`, `dw`, `db` from `dloss[1]`, `x`, `w`, `b`, `labels`, `weights`, `rows`.
#[derive(Debug, Clone)]
pub(crate) struct HeadLossGrad;

/// Cross-entropy of `x·wᵀ + b` against `labels`.
///
/// # Errors
/// If the sizes do not fit.
pub fn head_loss(
    g: &mut Graph,
    x: Var,
    w: Var,
    b: Var,
    labels: Var,
    weights: Var,
) -> Result<CrossEntropyOut> {
    let out = g.apply_all(HeadLoss, &[x, w, b, labels, weights])?;
    Ok(CrossEntropyOut { loss: out[0], accuracy: out[1], rows: out[2] })
}

/// Logits of rows `x` (`rows·d` elements).
fn logits<T: Real>(x: &[T], w: &[T], b: &[T], out: &mut [T]) {
    let v = b.len();
    let (rows, d) = (out.len() / v, w.len() / v);
    let (x, w) = (Mat { data: x, row: d, col: 1 }, Mat { data: w, row: 1, col: d });
    T::gemm_bias((rows, v, d), x, w, b, out);
}

wide! {
    /// Logits become `factor·softmax`, given the log-sum-exp.
    fn softmax_in_place(row: &mut [T], lse: T, factor: T) {
        for l in row.iter_mut() {
            *l = factor * (*l - lse).exp();
        }
    }
}

/// Columns that one task adds up on the CPU.
const COLUMNS: usize = 512;

/// Bytes of logits that are in memory at once on a GPU.
const LOGITS_BYTES: usize = 32 << 20;

/// The chunk of logits.
const LOGITS: Arg = Arg::Scratch(0);

/// Sizes of a head on a GPU: rows, width, vocabulary, rows per chunk.
struct HeadSize {
    m: usize,
    d: usize,
    v: usize,
    chunk: usize,
}

impl HeadSize {
    fn of(x: &TensorType, bias: &TensorType) -> Self {
        let (m, d, v) = (x.rows(), x.cols(), bias.elements());
        HeadSize { m, d, v, chunk: (LOGITS_BYTES / 4 / v).clamp(1, m) }
    }
    fn kernels(&self) -> Result<Kernels> {
        Ok(Kernels { calls: vec![], scratch: vec![TensorType::real(&[self.chunk, self.v])?] })
    }
    /// Chunks of rows: first one and number.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (m, chunk) = (self.m, self.chunk);
        (0..m).step_by(chunk).map(move |first| (first, chunk.min(m - first)))
    }
    /// Logits of a chunk; `x`, `w`, `b` are the operands of these numbers.
    fn logits(&self, (first, count): (usize, usize), [x, w, b]: [usize; 3]) -> Gemm<'static> {
        Gemm {
            m: count,
            n: self.v,
            k: self.d,
            a: Matrix::new(Arg::In(x), self.d).at(first * self.d),
            b: Matrix::new(Arg::In(w), self.d).transposed(true),
            c: Matrix::new(LOGITS, self.v),
            bias: Some((Arg::In(b), 0)),
            accumulate: false,
            ending: None,
        }
    }
    fn words(&self, call: KernelCall, (first, count): (usize, usize)) -> KernelCall {
        call.words(&[count, self.v / vector(&[self.v]), self.v, first])
    }
    fn rows(&self, call: KernelCall, caps: &Caps, chunk: (usize, usize)) -> KernelCall {
        let vec = vector(&[self.v]);
        self.words(call, chunk).rows(caps, chunk.1, self.v / vec, vec)
    }
}

impl HeadLoss {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (x, w, b, labels, weights) =
            (args.real(0), args.real(1), args.real(2), args.words(3), args.real(4));
        let (v, d) = (b.len(), args.ty(0).cols());
        let (loss, accuracy, rows) = (args.out(0), args.out(1), args.out(2));
        let mut chunk = vec![T::ZERO; ROWS.min(labels.len()) * v];
        for (c, rows) in rows.chunks_mut(3 * ROWS).enumerate() {
            let count = rows.len() / 3;
            let out = &mut chunk[..count * v];
            logits(&x[c * ROWS * d..][..count * d], w, b, out);
            par_rows(rows, 3, v, |i, row| {
                row_statistics(&out[i * v..][..v], labels[c * ROWS + i] as usize, row);
            });
        }
        (loss[0], accuracy[0]) = totals(rows, weights);
    }
}

impl Op for HeadLoss {
    fn name(&self) -> &'static str {
        "head_loss"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 5)?;
        let (m, d, v) = (inputs[0].rows(), inputs[0].cols(), inputs[2].elements());
        expect_elements("head weight", &inputs[1], v * d)?;
        check_rows(&inputs[3], &inputs[4], m)?;
        loss_types(m)
    }
    fn differentiable(&self, input: usize) -> bool {
        input < 3
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let mut inputs = vec![v.cotangent()?];
        inputs.extend_from_slice(&v.inputs);
        inputs.push(v.outputs[2]);
        let grads = v.g.apply_all(HeadLossGrad, &inputs)?;
        for (i, grad) in grads.into_iter().enumerate() {
            v.grads[i] = Some(grad);
        }
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].rows() as u64 * inputs[1].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let s = HeadSize::of(&inputs[0], &inputs[2]);
        let mut kernels = s.kernels()?;
        for chunk in s.chunks() {
            s.logits(chunk, [0, 1, 2]).draw(caps, &mut kernels)?;
            let rows =
                KernelCall::new("head_loss", "rows").writes(&[2]).bind(LOGITS, Access::Read).reads(&[3]);
            kernels.calls.push(s.rows(rows, caps, chunk));
        }
        kernels.calls.push(totals_call(s.m, Arg::In(4)));
        Ok(kernels)
    }
    cpu_kernel!();
}

impl HeadLossGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (dloss, x, w, b) = (args.real(0)[0], args.real(1), args.real(2), args.real(3));
        let (labels, weights, stats) = (args.words(4), args.real(5), args.real(6));
        let (v, d) = (b.len(), args.ty(1).cols());
        let (dx, dw, db) = (args.out(0), args.out(1), args.out(2));
        dw.fill(T::ZERO);
        db.fill(T::ZERO);
        let mut chunk = vec![T::ZERO; ROWS.min(labels.len()) * v];
        for (c, dx) in dx.chunks_mut(ROWS * d).enumerate() {
            let (count, first) = (dx.len() / d, c * ROWS);
            let x = &x[first * d..][..count * d];
            let dl = &mut chunk[..count * v];
            logits(x, w, b, dl);
            par_chunks(dl, v, |i, row| {
                let (factor, lse) = (dloss * weights[first + i], stats[3 * (first + i)]);
                softmax_in_place(row, lse, factor);
                if let Some(l) = row.get_mut(labels[first + i] as usize) {
                    *l -= factor;
                }
            });
            let dl = &*dl;
            par_chunks(db, COLUMNS, |i, db| {
                for row in dl.chunks(v) {
                    db.iter_mut().zip(&row[i * COLUMNS..]).for_each(|(s, &l)| *s += l);
                }
            });
            let rows = Mat { data: dl, row: v, col: 1 };
            T::gemm((count, d, v), rows, Mat { data: w, row: d, col: 1 }, dx, d, false, true);
            let cols = Mat { data: dl, row: 1, col: v };
            T::gemm((v, d, count), cols, Mat { data: x, row: d, col: 1 }, dw, d, true, true);
        }
    }
}

impl Op for HeadLossGrad {
    fn name(&self) -> &'static str {
        "head_loss_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 7)?;
        expect_elements("cotangent", &inputs[0], 1)?;
        expect_elements("row statistics", &inputs[6], 3 * inputs[1].rows())?;
        Ok(inputs[1..4].to_vec())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        6 * inputs[1].rows() as u64 * inputs[2].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let s = HeadSize::of(&inputs[1], &inputs[3]);
        let mut kernels = s.kernels()?;
        for chunk in s.chunks() {
            let (first, count) = chunk;
            s.logits(chunk, [1, 2, 3]).draw(caps, &mut kernels)?;
            let grad = KernelCall::new("head_loss", "grad").bind(LOGITS, Access::Write).reads(&[0, 4, 5, 6]);
            kernels.calls.push(s.rows(grad, caps, chunk));
            let dx = Gemm {
                m: count,
                n: s.d,
                k: s.v,
                a: Matrix::new(LOGITS, s.v),
                b: Matrix::new(Arg::In(2), s.d),
                c: Matrix::new(Arg::Out(0), s.d).at(first * s.d),
                bias: None,
                accumulate: false,
                ending: None,
            };
            dx.draw(caps, &mut kernels)?;
            let dw = Gemm {
                m: s.v,
                n: s.d,
                k: count,
                a: Matrix::new(LOGITS, s.v).transposed(true),
                b: Matrix::new(Arg::In(1), s.d).at(first * s.d),
                c: Matrix::new(Arg::Out(1), s.d),
                bias: None,
                accumulate: first > 0,
                ending: None,
            };
            dw.draw(caps, &mut kernels)?;
            let vec = vector(&[s.v]);
            let bias = KernelCall::new("head_loss", "bias").writes(&[2]).bind(LOGITS, Access::Read);
            let bias = s.words(bias, chunk).define("ACCUMULATE", u32::from(first > 0));
            kernels.calls.push(bias.each(s.v / vec, vec));
        }
        Ok(kernels)
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform, Words};
    for (m, d, v) in [
        (1, 1, 1),
        (1, 7, 2),
        (2, 3, 5),
        (7, 17, 33),
        (33, 65, 17),
        (65, 16, 129),
        (257, 5, 3),
        (513, 2, 7),
        (3, 64, 1025),
        (5, 8, 8192),
        (64, 32, 256),
        (1, 257, 255),
    ] {
        let x: [(&[usize], _); 3] = [(&[m, d], Normal), (&[v, d], Uniform(-0.5, 0.5)), (&[v], Normal)];
        let labels: (&[usize], _) = (&[m], Words(v as u32));
        let stats: (&[usize], _) = (&[m, 3], Uniform(6.0, 8.0));
        for weights in [Uniform(0.0, 1.0), Constant(0.0)].into_iter().take(1 + usize::from(m == 7)) {
            let rest: [(&[usize], _); 2] = [labels, (&[m], weights)];
            b.add(HeadLoss, &[&x[..], &rest[..]].concat());
            b.add(HeadLossGrad, &[&[(&[1][..], Normal)], &x[..], &rest[..], &[stats]].concat());
        }
    }
}
