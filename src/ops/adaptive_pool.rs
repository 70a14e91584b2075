//! Adaptive average pooling of NHWC images: cell `i` of `s` averages input rows ⌊i·H/s⌋ to ⌈(i+1)·H/s⌉ (beit-spec §7.3).

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};
use std::ops::Range;

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y[B,rows,cols,C]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct AdaptivePool {
    pub rows: usize,
    pub cols: usize,
}

/// `dx[B,height,width,C]` from `dy[B,rows,cols,C]`.
#[derive(Debug, Clone)]
pub(crate) struct AdaptivePoolGrad {
    pub height: usize,
    pub width: usize,
}

/// Averages to `side × side` cells.
///
/// # Errors
/// If `x` is not `[B,H,W,C]`.
pub fn adaptive_pool(g: &mut Graph, x: Var, side: usize) -> Result<Var> {
    g.apply(AdaptivePool { rows: side, cols: side }, &[x])
}

/// Input pixels of cell `i` of `cells` along a side of `pixels`.
fn window(i: usize, pixels: usize, cells: usize) -> Range<usize> {
    i * pixels / cells..((i + 1) * pixels).div_ceil(cells)
}

/// Cells whose window holds pixel `at`.
fn cells_at(at: usize, pixels: usize, cells: usize) -> Range<usize> {
    at * cells / pixels..((at + 1) * cells).div_ceil(pixels)
}

fn sized(t: &TensorType, height: usize, width: usize) -> Result<Vec<TensorType>> {
    match *t.shape() {
        [b, _, _, c] => Ok(vec![TensorType::real(&[b, height, width, c])?]),
        _ => Err(Error::shape("pooling of the wrong shape").expected("[B,H,W,C]").got(t.to_string())),
    }
}

impl AdaptivePool {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (h, w, c) = (args.ty(0).dim(1), args.ty(0).dim(2), args.ty(0).dim(3));
        let x = args.real(0);
        par_chunks(args.out(0), c, |cell, y| {
            let (line, col) = (cell / self.cols, cell % self.cols);
            let (image, row) = (line / self.rows, line % self.rows);
            let (down, across) = (window(row, h, self.rows), window(col, w, self.cols));
            let scale = T::of(1.0 / (down.len() * across.len()) as f64);
            y.fill(T::ZERO);
            for r in down {
                for k in across.clone() {
                    let from = &x[((image * h + r) * w + k) * c..][..c];
                    y.iter_mut().zip(from).for_each(|(s, &v)| *s += v);
                }
            }
            y.iter_mut().for_each(|v| *v *= scale);
        });
    }
}

impl Op for AdaptivePool {
    fn name(&self) -> &'static str {
        "adaptive_pool"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        sized(&inputs[0], self.rows, self.cols)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, x) = (v.cotangent()?, v.g.ty(v.inputs[0]));
        let op = AdaptivePoolGrad { height: x.dim(1), width: x.dim(2) };
        v.grads[0] = Some(v.g.apply(op, &[dy])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("forward", &inputs[0], &outputs[0], &outputs[0]))
    }
    cpu_kernel!();
}

impl AdaptivePoolGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (rows, cols, c) = (args.ty(0).dim(1), args.ty(0).dim(2), args.ty(0).dim(3));
        let dy = args.real(0);
        par_chunks(args.out(0), c, |pixel, dx| {
            let (line, col) = (pixel / self.width, pixel % self.width);
            let (image, row) = (line / self.height, line % self.height);
            dx.fill(T::ZERO);
            for r in cells_at(row, self.height, rows) {
                for k in cells_at(col, self.width, cols) {
                    let size = window(r, self.height, rows).len() * window(k, self.width, cols).len();
                    let scale = T::of(1.0 / size as f64);
                    let from = &dy[((image * rows + r) * cols + k) * c..][..c];
                    dx.iter_mut().zip(from).for_each(|(s, &v)| *s += scale * v);
                }
            }
        });
    }
}

impl Op for AdaptivePoolGrad {
    fn name(&self) -> &'static str {
        "adaptive_pool_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        sized(&inputs[0], self.height, self.width)
    }
    fn flops(&self, _: &[TensorType], outputs: &[TensorType]) -> u64 {
        2 * outputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("grad", &outputs[0], &inputs[0], &outputs[0]))
    }
    cpu_kernel!();
}

/// `image` and `pooled` are the sides of the pooling, `result` what the kernel writes.
fn dispatch(entry: &'static str, image: &TensorType, pooled: &TensorType, result: &TensorType) -> Kernels {
    let vec = vector(&[result.dim(3)]);
    let n = result.elements() / vec;
    let call = KernelCall::new("adaptive_pool", entry).writes(&[0]).reads(&[0]);
    let call = call.words(&[n, result.dim(3) / vec, image.dim(1), image.dim(2)]);
    call.words(&[pooled.dim(1), pooled.dim(2)]).each(n, vec).into()
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for ([batch, h, w, c], rows, cols) in [
        ([1, 1, 1, 1], 1, 1),
        ([1, 4, 4, 3], 3, 3),
        ([2, 5, 7, 8], 2, 3),
        ([3, 2, 3, 17], 6, 6),
        ([1, 16, 16, 4], 6, 6),
        ([2, 8, 8, 64], 1, 1),
        ([1, 13, 1, 5], 4, 1),
        ([1, 33, 31, 2], 6, 5),
    ] {
        b.add(AdaptivePool { rows, cols }, &[(&[batch, h, w, c], Normal)]);
        b.add(AdaptivePoolGrad { height: h, width: w }, &[(&[batch, rows, cols, c], Normal)]);
    }
}

#[cfg(test)]
mod tests {
    use super::{cells_at, window};

    #[test]
    fn cells_are_the_windows_that_hold_a_pixel() {
        for (pixels, cells) in [(1, 1), (4, 3), (2, 6), (16, 6), (7, 2), (5, 5), (3, 7), (31, 4)] {
            for at in 0..pixels {
                let holding: Vec<usize> =
                    (0..cells).filter(|&i| window(i, pixels, cells).contains(&at)).collect();
                assert_eq!(cells_at(at, pixels, cells).collect::<Vec<_>>(), holding, "{at} of {pixels}");
            }
        }
    }
}
