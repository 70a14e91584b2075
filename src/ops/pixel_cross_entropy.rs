//! Cross-entropy of a label map against logits of a coarser grid, which are resized bilinearly on the way
//! (beit-spec §7.3 item 6, §7.6): the logits at label size, 157 MB for one 512 × 512 picture of 150 classes, never
//! exist. Pixels whose label is no class (255 = ignored) do not count.

use super::resize::{Axis, axes};
use super::units::vector;
use super::{Access, Arg, Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, chunked_sum, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

/// What the sum over pixels is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The pixels that count; 0 if there are none.
    Counted,
    /// All pixels, ignored ones included.
    All,
}

/// Results `loss[1]`, `accuracy[1]`, `counted[1]` pixels, and `rows[B·H·W,3]` = (log-sum-exp, nll, correct), the last
/// two 0 where ignored; from `logits[B,h,w,C]` and `labels[B,H,W]`.
#[derive(Debug, Clone)]
pub(crate) struct PixelCrossEntropy {
    pub over: Over,
}

/// `dlogits` from `dloss[1]`, `logits`, `labels`, `counted`, `rows`.
#[derive(Debug, Clone)]
pub(crate) struct PixelCrossEntropyGrad {
    pub over: Over,
}

/// What [`pixel_cross_entropy`] draws.
#[derive(Debug, Clone, Copy)]
pub struct PixelLoss {
    /// Mean negative log likelihood, `[1]`.
    pub loss: Var,
    /// Share of counted pixels whose largest logit (the first on ties) is the label, `[1]`.
    pub accuracy: Var,
    /// Number of counted pixels, `[1]`.
    pub counted: Var,
}

/// Cross-entropy of `labels[B,H,W]` against `logits[B,h,w,C]` resized to `H × W`.
///
/// # Errors
/// If the shapes do not fit.
pub fn pixel_cross_entropy(g: &mut Graph, logits: Var, labels: Var, over: Over) -> Result<PixelLoss> {
    let out = g.apply_all(PixelCrossEntropy { over }, &[logits, labels])?;
    Ok(PixelLoss { loss: out[0], accuracy: out[1], counted: out[2] })
}

/// The logits of pixel `at`, written to `out`.
struct Sampler<'a, T> {
    rows: Axis,
    cols: Axis,
    c: usize,
    logits: &'a [T],
}

impl<T: Real> Sampler<'_, T> {
    fn row(&self, at: usize, out: &mut [T]) {
        let (line, col) = (at / self.cols.to, at % self.cols.to);
        let (image, row) = (line / self.rows.to, line % self.rows.to);
        let (top, bottom, fy) = self.rows.taps::<T>(row);
        let (left, right, fx) = self.cols.taps::<T>(col);
        let pixel =
            |r: usize, k: usize| &self.logits[((image * self.rows.from + r) * self.cols.from + k) * self.c..];
        let (a, b, d, e) = (pixel(top, left), pixel(top, right), pixel(bottom, left), pixel(bottom, right));
        for (i, out) in out.iter_mut().enumerate() {
            let upper = (T::ONE - fx) * a[i] + fx * b[i];
            let lower = (T::ONE - fx) * d[i] + fx * e[i];
            *out = (T::ONE - fy) * upper + fy * lower;
        }
    }
}

fn sampler<'a, T: Real>(logits: &'a [T], small: &TensorType, labels: &TensorType) -> Sampler<'a, T> {
    let (rows, cols) = axes(small, labels);
    Sampler { rows, cols, c: small.dim(3), logits }
}

impl PixelCrossEntropy {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let s = sampler(args.real(0), args.ty(0), args.ty(1));
        let labels = args.words(1);
        let (loss, accuracy, counted, rows) = (args.out(0), args.out(1), args.out(2), args.out(3));
        let width = s.cols.to;
        par_chunks(rows, 3 * width, |line, stats| {
            let mut logits = vec![T::ZERO; s.c];
            for (col, stats) in stats.chunks_mut(3).enumerate() {
                let at = line * width + col;
                s.row(at, &mut logits);
                super::cross_entropy::row_statistics(&logits, labels[at] as usize, stats);
                if labels[at] as usize >= s.c {
                    stats[1..].fill(T::ZERO);
                }
            }
        });
        let column =
            |c: usize| chunked_sum(labels.len(), 1024, |r| r.fold(T::ZERO, |sum, i| sum + rows[3 * i + c]));
        let count = labels.iter().filter(|&&l| (l as usize) < s.c).count();
        let mean = |sum: T, n: usize| if count == 0 { T::ZERO } else { sum * T::of(1.0 / n as f64) };
        loss[0] = mean(column(1), if self.over == Over::All { labels.len() } else { count });
        accuracy[0] = mean(column(2), count);
        counted[0] = T::of(count as f64);
    }
}

fn check(logits: &TensorType, labels: &TensorType) -> Result<()> {
    if logits.shape().len() != 4 || labels.shape().len() != 3 || logits.dim(0) != labels.dim(0) {
        return Err(Error::shape("label maps do not fit the logits")
            .expected("logits[B,h,w,C] and labels[B,H,W]")
            .got(format!("{logits} and {labels}")));
    }
    Ok(())
}

/// Sizes that both kernels know: units of classes, coarse grid, label map.
fn sizes(call: KernelCall, logits: &TensorType, labels: &TensorType, vec: usize) -> KernelCall {
    let (rows, cols) = axes(logits, labels);
    call.words(&[logits.dim(3) / vec, logits.dim(3), rows.from, cols.from, rows.to, cols.to])
}

impl Op for PixelCrossEntropy {
    fn name(&self) -> &'static str {
        "pixel_cross_entropy"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        check(&inputs[0], &inputs[1])?;
        let one = TensorType::real(&[1])?;
        Ok(vec![one.clone(), one.clone(), one, TensorType::real(&[inputs[1].elements(), 3])?])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[0], v.inputs[1], v.outputs[2], v.outputs[3]];
        v.grads[0] = Some(v.g.apply(PixelCrossEntropyGrad { over: self.over }, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        13 * (inputs[1].elements() * inputs[0].dim(3)) as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (pixels, c) = (inputs[1].elements(), inputs[0].dim(3));
        let vec = vector(&[c]);
        let rows = KernelCall::new("pixel_cross_entropy", "rows").writes(&[3]).reads(&[0, 1]).word(pixels);
        let rows = sizes(rows, &inputs[0], &inputs[1], vec).rows(caps, pixels, c / vec, vec);
        // Sums in two stages, as many as fit a workgroup in the second.
        let parts = pixels.div_ceil(PART);
        let sums = KernelCall::new("pixel_cross_entropy", "sums").bind(Arg::Scratch(0), Access::Write);
        let sums =
            sums.bind(Arg::Out(3), Access::Read).reads(&[1]).words(&[pixels, c, PART, parts]).each(parts, 1);
        let finish = KernelCall::new("pixel_cross_entropy", "finish").writes(&[0, 1, 2]);
        let finish = finish.bind(Arg::Scratch(0), Access::Read).words(&[parts]);
        let all = if self.over == Over::All { 1.0 / pixels as f64 } else { 0.0 };
        let scratch = vec![TensorType::real(&[parts, 4])?];
        Ok(Kernels { calls: vec![rows, sums, finish.float(all as f32).alone(1)], scratch })
    }
    cpu_kernel!();
}

/// Pixels that one invocation of the first stage of the sums adds up.
const PART: usize = 256;

impl PixelCrossEntropyGrad {
    /// `dlogits` at a coarse pixel: `factor · Σ weight · (softmax − one-hot)` over the label pixels that it touches.
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let s = sampler(args.real(1), args.ty(1), args.ty(2));
        let (labels, rows) = (args.words(2), args.real(4));
        let counted = args.real(3)[0];
        let pixels = T::of(labels.len() as f64);
        let n = if self.over == Over::All { pixels } else { counted };
        let factor = if counted == T::ZERO { T::ZERO } else { args.real(0)[0] / n };
        par_chunks(args.out(0), s.c, |at, dlogits| {
            let (line, col) = (at / s.cols.from, at % s.cols.from);
            let (image, row) = (line / s.rows.from, line % s.rows.from);
            let mut logits = vec![T::ZERO; s.c];
            dlogits.fill(T::ZERO);
            for r in s.rows.touching(row) {
                for k in s.cols.touching(col) {
                    let pixel = (image * s.rows.to + r) * s.cols.to + k;
                    let label = labels[pixel] as usize;
                    if label >= s.c {
                        continue;
                    }
                    let w = factor * s.rows.weight::<T>(r, row) * s.cols.weight::<T>(k, col);
                    s.row(pixel, &mut logits);
                    for (d, &l) in dlogits.iter_mut().zip(&logits) {
                        *d += w * (l - rows[3 * pixel]).exp();
                    }
                    dlogits[label] -= w;
                }
            }
        });
    }
}

impl Op for PixelCrossEntropyGrad {
    fn name(&self) -> &'static str {
        "pixel_cross_entropy_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 5)?;
        expect_elements("cotangent", &inputs[0], 1)?;
        check(&inputs[1], &inputs[2])?;
        expect_elements("number of pixels", &inputs[3], 1)?;
        expect_elements("statistics", &inputs[4], 3 * inputs[2].elements())?;
        Ok(vec![inputs[1].clone()])
    }
    /// Every label pixel is seen from four coarse ones.
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        52 * (inputs[2].elements() * inputs[1].dim(3)) as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let vec = vector(&[inputs[1].dim(3)]);
        let n = inputs[1].elements() / vec;
        let all = if self.over == Over::All { 1.0 / inputs[2].elements() as f64 } else { 0.0 };
        let call =
            KernelCall::new("pixel_cross_entropy", "grad").writes(&[0]).reads(&[0, 1, 2, 3, 4]).word(n);
        Ok(sizes(call, &inputs[1], &inputs[2], vec).float(all as f32).each(n, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform, Words};
    for (i, ([batch, h, w, c], [height, width])) in [
        ([1, 1, 1, 2], [1, 1]),
        ([1, 2, 3, 5], [8, 12]),
        ([2, 4, 4, 6], [7, 9]),
        ([1, 3, 3, 17], [12, 12]),
        ([3, 2, 5, 8], [2, 5]),
        ([1, 6, 4, 3], [3, 2]),
        ([1, 8, 8, 64], [16, 16]),
        ([2, 5, 3, 65], [10, 13]),
    ]
    .into_iter()
    .enumerate()
    {
        let over = [Over::Counted, Over::All][i % 2];
        let (logits, map): (&[usize], &[usize]) = (&[batch, h, w, c], &[batch, height, width]);
        let (one, rows): (&[usize], &[usize]) = (&[1], &[batch * height * width, 3]);
        // A third of the labels are no classes.
        for labels in [Words(c as u32 + c as u32 / 2), Words(c as u32)] {
            b.add(PixelCrossEntropy { over }, &[(logits, Normal), (map, labels)]);
            let stats = [(one, Constant(7.0)), (rows, Uniform(3.0, 5.0))];
            let inputs = [(one, Normal), (logits, Normal), (map, labels), stats[0], stats[1]];
            b.add(PixelCrossEntropyGrad { over }, &inputs);
        }
    }
    // Nothing but ignored pixels: a loss of 0 and no gradient.
    let (logits, map): (&[usize], &[usize]) = (&[1, 1, 1, 1], &[1, 2, 2]);
    let ignored = super::samples::Fill::Steps(super::samples::Steps { first: 255, step: 0, rows: 256 });
    b.add(PixelCrossEntropy { over: Over::Counted }, &[(logits, Normal), (map, ignored)]);
}
