//! Bilinear resizing of NHWC images, corners not aligned, and its adjoint (beit-spec §7.3).
//!
//! Output pixel `d` of `n` lies at `max(0, (d + ½)·m/n − ½)` of an input side `m`. With numerator
//! `max(0, (2d+1)·m − n)` over `2n` the two neighbours and the weight come from whole numbers, exact on every device.

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y[B,height,width,C]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct Resize {
    pub height: usize,
    pub width: usize,
}

/// `dx[B,height,width,C]` from `dy[B,H',W',C]`.
#[derive(Debug, Clone)]
pub(crate) struct ResizeGrad {
    pub height: usize,
    pub width: usize,
}

/// Bilinear to `height × width`; nothing is drawn if that is the size already.
///
/// # Errors
/// If `x` is not `[B,H,W,C]`.
pub fn resize(g: &mut Graph, x: Var, (height, width): (usize, usize)) -> Result<Var> {
    if g.shape(x).len() == 4 && (g.ty(x).dim(1), g.ty(x).dim(2)) == (height, width) {
        return Ok(x);
    }
    g.apply(Resize { height, width }, &[x])
}

/// One side of a resizing: `from` input pixels, `to` output pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Axis {
    pub from: usize,
    pub to: usize,
}

impl Axis {
    /// Lower and upper neighbour of output pixel `d`, and the weight of the upper one.
    pub(crate) fn taps<T: Real>(self, d: usize) -> (usize, usize, T) {
        let at = ((2 * d + 1) * self.from).saturating_sub(self.to);
        let low = at / (2 * self.to);
        let weight = (at % (2 * self.to)) as f64 / (2 * self.to) as f64;
        (low, (low + 1).min(self.from - 1), T::of(weight))
    }
    /// Output pixels with a tap at input pixel `i`.
    pub(crate) fn touching(self, i: usize) -> std::ops::Range<usize> {
        let ceil = |n: usize| n.saturating_sub(self.from).div_ceil(2 * self.from);
        let first = if i < 2 { 0 } else { ceil(self.to * (2 * i - 1)) };
        first..ceil(self.to * (2 * i + 3)).min(self.to)
    }
    /// Weight of output pixel `d` at input pixel `i`.
    pub(crate) fn weight<T: Real>(self, d: usize, i: usize) -> T {
        let (low, high, upper) = self.taps::<T>(d);
        let low = if low == i { T::ONE - upper } else { T::ZERO };
        if high == i { low + upper } else { low }
    }
    /// For every input pixel: output pixels and weights.
    fn adjoint<T: Real>(self) -> Vec<Vec<(usize, T)>> {
        (0..self.from).map(|i| self.touching(i).map(|d| (d, self.weight(d, i))).collect()).collect()
    }
}

/// The two sides of a resizing between images.
pub(crate) fn axes(from: &TensorType, to: &TensorType) -> (Axis, Axis) {
    (Axis { from: from.dim(1), to: to.dim(1) }, Axis { from: from.dim(2), to: to.dim(2) })
}

fn image(t: &TensorType, height: usize, width: usize) -> Result<Vec<TensorType>> {
    match *t.shape() {
        [b, _, _, c] => Ok(vec![TensorType::real(&[b, height, width, c])?]),
        _ => Err(Error::shape("resizing of the wrong shape").expected("[B,H,W,C]").got(t.to_string())),
    }
}

impl Resize {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, cols) = axes(args.ty(0), args.out_ty(0));
        let (x, c) = (args.real(0), args.ty(0).dim(3));
        par_chunks(args.out(0), self.width * c, |line, y| {
            let (image, row) = (line / rows.to, line % rows.to);
            let (top, bottom, fy) = rows.taps::<T>(row);
            let start = |row: usize| (image * rows.from + row) * cols.from;
            for (col, y) in y.chunks_mut(c).enumerate() {
                let (left, right, fx) = cols.taps::<T>(col);
                let pixel = |row: usize, col: usize| &x[(start(row) + col) * c..][..c];
                let (a, b) = (pixel(top, left), pixel(top, right));
                let (d, e) = (pixel(bottom, left), pixel(bottom, right));
                for (i, y) in y.iter_mut().enumerate() {
                    let upper = (T::ONE - fx) * a[i] + fx * b[i];
                    let lower = (T::ONE - fx) * d[i] + fx * e[i];
                    *y = (T::ONE - fy) * upper + fy * lower;
                }
            }
        });
    }
}

impl Op for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        image(&inputs[0], self.height, self.width)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, x) = (v.cotangent()?, v.g.ty(v.inputs[0]));
        let op = ResizeGrad { height: x.dim(1), width: x.dim(2) };
        v.grads[0] = Some(v.g.apply(op, &[dy])?);
        Ok(())
    }
    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        9 * outputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("forward", &inputs[0], &outputs[0], &outputs[0]))
    }
    cpu_kernel!();
}

impl ResizeGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, cols) = axes(args.out_ty(0), args.ty(0));
        let (dy, c) = (args.real(0), args.ty(0).dim(3));
        let (down, across) = (rows.adjoint::<T>(), cols.adjoint::<T>());
        par_chunks(args.out(0), c, |pixel, dx| {
            let (line, col) = (pixel / cols.from, pixel % cols.from);
            let (image, row) = (line / rows.from, line % rows.from);
            dx.fill(T::ZERO);
            for &(r, wy) in &down[row] {
                for &(k, wx) in &across[col] {
                    let from = &dy[((image * rows.to + r) * cols.to + k) * c..][..c];
                    let w = wy * wx;
                    dx.iter_mut().zip(from).for_each(|(s, &v)| *s += w * v);
                }
            }
        });
    }
}

impl Op for ResizeGrad {
    fn name(&self) -> &'static str {
        "resize_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        image(&inputs[0], self.height, self.width)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        9 * inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("grad", &outputs[0], &inputs[0], &outputs[0]))
    }
    cpu_kernel!();
}

/// `from` and `to` are the images of the resizing, `result` what the kernel writes.
fn dispatch(entry: &'static str, from: &TensorType, to: &TensorType, result: &TensorType) -> Kernels {
    let vec = vector(&[result.dim(3)]);
    let n = result.elements() / vec;
    let call = KernelCall::new("resize", entry).writes(&[0]).reads(&[0]);
    call.words(&[n, result.dim(3) / vec, from.dim(1), from.dim(2), to.dim(1), to.dim(2)]).each(n, vec).into()
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for ([batch, h, w, c], (height, width)) in [
        ([1, 1, 1, 1], (3, 2)),
        ([1, 3, 5, 2], (6, 10)),
        ([2, 4, 4, 7], (9, 3)),
        ([3, 1, 9, 17], (2, 5)),
        ([1, 7, 3, 65], (7, 13)),
        ([2, 2, 2, 64], (8, 8)),
        ([1, 17, 33, 3], (5, 4)),
        ([5, 6, 6, 4], (1, 1)),
        ([1, 3, 2, 1], (32, 31)),
    ] {
        b.add(Resize { height, width }, &[(&[batch, h, w, c], Normal)]);
        b.add(ResizeGrad { height: h, width: w }, &[(&[batch, height, width, c], Normal)]);
    }
}

#[cfg(test)]
mod tests {
    use super::Axis;

    /// `touching` finds exactly the output pixels with a weight.
    #[test]
    fn adjoint_misses_no_tap() {
        for (from, to) in [(1, 1), (1, 9), (9, 1), (3, 7), (7, 3), (16, 4), (4, 16), (5, 5), (13, 14)] {
            let axis = Axis { from, to };
            for i in 0..from {
                for d in 0..to {
                    let (low, high, _) = axis.taps::<f64>(d);
                    assert_eq!(axis.touching(i).contains(&d), low == i || high == i);
                }
            }
            for d in 0..to {
                let sum: f64 = (0..from).map(|i| axis.weight::<f64>(d, i)).sum();
                assert!((sum - 1.0).abs() < 1e-12);
            }
        }
    }
}
