//! Patches of NHWC images under a moving window, and their adjoint: convolutions of any stride and padding.
//!
//! `unfold` lays the `C·k·k` numbers under every window side by side in the order of stored weights (channel, kh, kw);
//! a strided convolution is a linear layer of them. `fold` adds windows back where they lie; a transposed convolution
//! is a matrix product with weights `[in, out, k, k]` followed by it (beit-spec §7.2, §12 trap 32).

use super::matmul::Matmul;
use super::{Args, Op, Vjp, arity, col_sum, cpu_kernel, expect_elements, linear};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// A square window: side, distance of neighbours, zero border, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Side.
    pub k: usize,
    /// Distance of neighbouring windows.
    pub stride: usize,
    /// Zero border on every side.
    pub pad: usize,
}

/// `cols[B,h,w,C·k·k]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct Unfold {
    pub window: Window,
}

/// `y[B,height,width,C]` from `cols[B,h,w,C·k·k]`, then the bias `[C]` if `bias`.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    pub window: Window,
    pub height: usize,
    pub width: usize,
    pub bias: bool,
}

/// Convolution of `x[B,H,W,C]` with `w[O,C,k,k]`: side `(H + 2·pad − k)/stride + 1`.
///
/// # Errors
/// If the sizes do not fit.
pub fn conv2d_strided(
    g: &mut Graph,
    x: Var,
    w: Var,
    b: Option<Var>,
    stride: usize,
    pad: usize,
) -> Result<Var> {
    let window = Window { k: g.ty(w).dim(3), stride, pad };
    let cols = g.apply(Unfold { window }, &[x])?;
    linear(g, cols, w, b)
}

/// Transposed convolution of `x[B,h,w,C]` with `w[C,O,k,k]`: side `(h − 1)·stride − 2·pad + k`.
///
/// # Errors
/// If the sizes do not fit.
pub fn conv2d_transposed(
    g: &mut Graph,
    x: Var,
    w: Var,
    b: Option<Var>,
    stride: usize,
    pad: usize,
) -> Result<Var> {
    let window = Window { k: g.ty(w).dim(3), stride, pad };
    let t = g.ty(x).clone();
    let (m, k, n) = (t.rows(), t.cols(), g.ty(w).elements() / g.ty(w).dim(0));
    let wrong = || {
        Error::shape("transposed convolution operands do not fit")
            .expected("x[B,h,w,C] and w[C,O,k,k]")
            .got(format!("{t} and a kernel of {n} numbers an input, {window:?}"))
    };
    if t.shape().len() != 4
        || g.ty(w).dim(0) != k
        || window.image(t.dim(1)).zip(window.image(t.dim(2))).is_none()
    {
        return Err(wrong().at(g.path("conv2d_transposed")));
    }
    let (height, width) = (window.image(t.dim(1)).unwrap_or(1), window.image(t.dim(2)).unwrap_or(1));
    let shape = t.with_cols(n)?.shape().to_vec();
    let cols = g.apply(Matmul { m, n, k, ta: false, tb: false, bias: false, shape }, &[x, w])?;
    let inputs: Vec<Var> = [Some(cols), b].into_iter().flatten().collect();
    g.apply(Fold { window, height, width, bias: b.is_some() }, &inputs)
}

impl Window {
    /// Windows along a side of `pixels`.
    fn count(self, pixels: usize) -> Option<usize> {
        if self.stride == 0 || self.k == 0 {
            return None;
        }
        Some((pixels + 2 * self.pad).checked_sub(self.k)? / self.stride + 1)
    }
    /// Side of the image that `windows` exactly cover.
    fn image(self, windows: usize) -> Option<usize> {
        ((windows - 1) * self.stride + self.k).checked_sub(2 * self.pad).filter(|&n| n > 0 && self.stride > 0)
    }
    /// Number of the window whose tap `tap` lies on pixel `at`.
    fn at(self, at: usize, tap: usize, windows: usize) -> Option<usize> {
        let offset = (at + self.pad).checked_sub(tap)?;
        (offset % self.stride == 0 && offset / self.stride < windows).then_some(offset / self.stride)
    }
    /// `taps` elements of each of `vec` channels are copied at once.
    fn call(
        self,
        entry: &'static str,
        cols: &TensorType,
        image: &TensorType,
        vec: usize,
        taps: usize,
    ) -> KernelCall {
        let n = if entry == "fold" { image.elements() } else { cols.elements() / taps / vec };
        let call = KernelCall::new("fold", entry).writes(&[0]).reads(&[0]);
        let call = call.words(&[n, image.dim(1), image.dim(2), image.dim(3) / vec, cols.dim(1), cols.dim(2)]);
        call.words(&[self.k, self.stride, self.pad]).each(n, vec)
    }
}

fn unfolded(window: Window, x: &TensorType) -> Result<TensorType> {
    let sides = window.count(x.dim(1)).zip(window.count(x.dim(2)));
    match (x.shape(), sides) {
        (&[b, _, _, c], Some((h, w))) => TensorType::real(&[b, h, w, c * window.k * window.k]),
        _ => Err(Error::shape("windows do not fit the image")
            .expected("[B,H,W,C] at least as large as a window")
            .got(format!("{x}, {window:?}"))),
    }
}

impl Unfold {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let Window { k, stride, pad } = self.window;
        let (h, w, c) = (args.ty(0).dim(1), args.ty(0).dim(2), args.ty(0).dim(3));
        let (rows, cols) = (args.out_ty(0).dim(1), args.out_ty(0).dim(2));
        let x = args.real(0);
        par_chunks(args.out(0), c * k * k, |i, y| {
            let (line, col) = (i / cols, i % cols);
            let (image, row) = (line / rows, line % rows);
            for tap in 0..k * k {
                let at = (row * stride + tap / k).wrapping_sub(pad);
                let across = (col * stride + tap % k).wrapping_sub(pad);
                let inside = at < h && across < w;
                let from = if inside { &x[((image * h + at) * w + across) * c..][..c] } else { &[] };
                for ch in 0..c {
                    y[ch * k * k + tap] = from.get(ch).copied().unwrap_or(T::ZERO);
                }
            }
        });
    }
}

impl Op for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![unfolded(self.window, &inputs[0])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, x) = (v.cotangent()?, v.g.ty(v.inputs[0]));
        let op = Fold { window: self.window, height: x.dim(1), width: x.dim(2), bias: false };
        v.grads[0] = Some(v.g.apply(op, &[dy])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        // Taps lie apart from each other in the image and channels in the windows: fours of both, or neither of them.
        let (quad, image) = (self.window.k % 4 == 0, &inputs[0]);
        let (taps, vec) = if quad { (4, vector(&[image.dim(3)])) } else { (1, 1) };
        let call = self.window.call("unfold", &outputs[0], image, vec, taps);
        Ok(call.define("TAPS", taps as u32).define("QUAD", u32::from(quad)).into())
    }
    cpu_kernel!();
}

impl Fold {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let k = self.window.k;
        let (rows, cols) = (args.ty(0).dim(1), args.ty(0).dim(2));
        let c = args.out_ty(0).dim(3);
        let (x, bias) = (args.real(0), args.real(usize::from(self.bias)));
        par_chunks(args.out(0), c, |pixel, y| {
            let (line, col) = (pixel / self.width, pixel % self.width);
            let (image, row) = (line / self.height, line % self.height);
            if self.bias {
                y.copy_from_slice(bias)
            } else {
                y.fill(T::ZERO)
            }
            for tap in 0..k * k {
                let down = self.window.at(row, tap / k, rows);
                let across = self.window.at(col, tap % k, cols);
                let Some((r, q)) = down.zip(across) else { continue };
                let from = &x[((image * rows + r) * cols + q) * c * k * k..][..c * k * k];
                y.iter_mut().enumerate().for_each(|(ch, y)| *y += from[ch * k * k + tap]);
            }
        });
    }
}

impl Op for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1 + usize::from(self.bias))?;
        let taps = self.window.k * self.window.k;
        let (t, c) = (&inputs[0], inputs[0].cols() / taps.max(1));
        let image = TensorType::real(&[t.dim(0), self.height, self.width, c])?;
        let cols = unfolded(self.window, &image)?;
        if cols.shape() != t.shape() {
            return Err(Error::shape("windows do not fit the image")
                .expected(cols.to_string())
                .got(t.to_string()));
        }
        if self.bias {
            expect_elements("bias", &inputs[1], c)?;
        }
        Ok(vec![image])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        if v.wanted[0] {
            v.grads[0] = Some(v.g.apply(Unfold { window: self.window }, &[dy])?);
        }
        if self.bias && v.wanted[1] {
            let (cols, shape) = (v.g.ty(v.inputs[1]).elements(), v.g.shape(v.inputs[1]).to_vec());
            v.grads[1] = Some(col_sum(v.g, dy, cols, &shape)?);
        }
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let call = self.window.call("fold", &inputs[0], &outputs[0], 1, 1);
        Ok(if self.bias { call.reads(&[1]).define("BIAS", 1) } else { call }.into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for ([batch, height, width, c], k, stride, pad) in [
        ([1, 1, 1, 1], 1, 1, 0),
        ([1, 4, 4, 3], 2, 2, 0),
        ([2, 8, 6, 5], 4, 2, 1),
        ([1, 7, 5, 2], 3, 2, 1),
        ([3, 5, 9, 1], 3, 3, 0),
        ([1, 6, 6, 33], 2, 2, 0),
        ([1, 9, 11, 4], 5, 1, 2),
        ([2, 16, 16, 8], 4, 2, 1),
    ] {
        let window = Window { k, stride, pad };
        let x = [batch, height, width, c];
        b.add(Unfold { window }, &[(&x, Normal)]);
        let sides = window.count(height).zip(window.count(width));
        let Some((rows, cols)) = sides else { continue };
        let cols = [batch, rows, cols, c * k * k];
        b.add(Fold { window, height, width, bias: false }, &[(&cols, Normal)]);
        b.add(Fold { window, height, width, bias: true }, &[(&cols, Normal), (&[c], Normal)]);
    }
}
