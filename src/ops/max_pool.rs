//! Max-pooling 2×2, stride 2, of NHWC images; on ties the first of the four (row-major) wins.

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks, wide};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::widest;
use super::{Caps, KernelCall, Kernels};

/// `y[B,H/2,W/2,C]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct MaxPool;

/// `dx` from `dy`, `x`.
#[derive(Debug, Clone)]
pub(crate) struct MaxPoolGrad;

/// 2×2 max-pooling.
///
/// # Errors
/// If height or width is odd.
pub fn max_pool(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(MaxPool, &[x])
}

/// Offset of cell `q` (0..4) of the window of output pixel `(b, y, x)` in an image of `h × w`.
fn cell(pixel: usize, q: usize, h: usize, w: usize) -> usize {
    let (b, y, x) = (pixel / (h / 2 * (w / 2)), pixel / (w / 2) % (h / 2), pixel % (w / 2));
    (b * h + 2 * y + q / 2) * w + 2 * x + q % 2
}

impl MaxPool {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (h, w, c) = (args.ty(0).dim(1), args.ty(0).dim(2), args.ty(0).dim(3));
        let x = args.real(0);
        par_chunks(args.out(0), c, |pixel, y| {
            y.copy_from_slice(&x[cell(pixel, 0, h, w) * c..][..c]);
            for q in 1..4 {
                y.iter_mut().zip(&x[cell(pixel, q, h, w) * c..]).for_each(|(y, &x)| *y = y.max(x));
            }
        });
    }
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let s = inputs[0].shape();
        if s.len() != 4 || s[1] < 2 || s[2] < 2 {
            return Err(Error::shape("max-pool over the wrong shape")
                .expected("[B,H,W,C] of at least 2 x 2 pixels")
                .got(inputs[0].to_string()));
        }
        Ok(vec![TensorType::real(&[s[0], s[1] / 2, s[2] / 2, s[3]])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(MaxPoolGrad, &[dy, v.inputs[0]])?);
        Ok(())
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let call = KernelCall::new("max_pool", "forward").writes(&[0]).reads(&[0]);
        Ok(over(caps, call, &inputs[0], outputs[0].elements()))
    }
    cpu_kernel!();
}

impl MaxPoolGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (h, w, c) = (args.ty(1).dim(1), args.ty(1).dim(2), args.ty(1).dim(3));
        let (dy, x) = (args.real(0), args.real(1));
        // A row of the input per chunk: an odd last row or column lies under no window.
        par_chunks(args.out(0), w * c, |line, dx| {
            let (image, row) = (line / h, line % h);
            dx.fill(T::ZERO);
            if row / 2 == h / 2 {
                return;
            }
            for (px, dx) in dx.chunks_exact_mut(2 * c).enumerate() {
                let pixel = (image * (h / 2) + row / 2) * (w / 2) + px;
                let pair = |q: usize| &x[cell(pixel, q, h, w) * c..][..2 * c];
                window_grad(&dy[pixel * c..][..c], pair(0), pair(2), row % 2, dx);
            }
        });
    }
}

wide! {
    /// One row (0 or 1) of a window: each channel's cotangent goes to its first largest value. Rows hold two pixels.
    fn window_grad(dy: &[T], upper: &[T], lower: &[T], row: usize, dx: &mut [T]) {
        let c = dy.len();
        let ((x0, x1), (x2, x3)) = (upper.split_at(c), lower.split_at(c));
        let (left, right) = dx.split_at_mut(c);
        for (ch, &dy) in dy.iter().enumerate() {
            let (mut best, mut max) = (0, x0[ch]);
            for (q, x) in [(1, x1[ch]), (2, x2[ch]), (3, x3[ch])] {
                (best, max) = if x > max { (q, x) } else { (best, max) };
            }
            left[ch] = if best == 2 * row { dy } else { T::ZERO };
            right[ch] = if best == 2 * row + 1 { dy } else { T::ZERO };
        }
    }
}

impl Op for MaxPoolGrad {
    fn name(&self) -> &'static str {
        "max_pool_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        Ok(vec![inputs[1].clone()])
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let call = KernelCall::new("max_pool", "grad").writes(&[0]).reads(&[1, 0]);
        // Windows that an odd edge cuts off too: their cells get zeros.
        let t = &inputs[1];
        Ok(over(caps, call, t, t.dim(0) * t.dim(1).div_ceil(2) * t.dim(2).div_ceil(2) * t.dim(3)))
    }
    cpu_kernel!();
}

/// Constants and grid of a kernel over `elements` windows and channels of the image `t`.
fn over(caps: &Caps, call: KernelCall, t: &TensorType, elements: usize) -> Kernels {
    let wide = widest(caps, &[t.dim(3)]);
    let n = elements / wide;
    call.words(&[n, t.dim(1), t.dim(2), t.dim(3) / wide]).each(n, wide).into()
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties};
    let shapes: [[usize; 4]; 11] = [
        [1, 2, 2, 1],
        [1, 2, 6, 3],
        [2, 4, 4, 5],
        [3, 6, 2, 17],
        [1, 8, 10, 65],
        [2, 14, 6, 4],
        [1, 34, 66, 3],
        [5, 2, 2, 257],
        [1, 16, 16, 64],
        [2, 3, 5, 4],
        [3, 7, 4, 3],
    ];
    for [batch, h, w, c] in shapes {
        let (x, y) = ([batch, h, w, c], [batch, h / 2, w / 2, c]);
        b.add(MaxPool, &[(&x, Normal)]);
        for fill in [Ties, Constant(0.0)] {
            b.add_kinked(MaxPool, &[(&x, fill)]);
        }
        for fill in [Normal, Ties] {
            b.add(MaxPoolGrad, &[(&y, Normal), (&x, fill)]);
        }
    }
}
