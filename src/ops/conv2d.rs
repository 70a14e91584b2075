//! "Same" convolution of NHWC images with an odd square kernel, stride 1; weights `[out, in, k, k]` as in checkpoints.
//!
//! All three passes are matrix products with a matrix whose rows hold the `k·k·C` inputs under one output pixel, in the
//! order (kh, kw, channel). Products read it from the image where channels come in fours; else, and for the weight
//! gradient on software adapters, its rows are gathered first. The input gradient is the same convolution with the
//! kernel flipped and its channel axes swapped.

use super::gemm::{Gemm, Matrix, Taps};
use super::units::vector;
use super::{Access, Arg, Caps, Ending, KernelCall, Kernels, Product, Tier};
use super::{Args, Op, Vjp, arity, col_sum, cpu_kernel, expect_elements, linear};
use crate::cpu::{ConvShape, Real, par_chunks, par_map, par_rows};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};
use std::any::Any;
use std::cell::Cell;

/// `y[B,H,W,O]` from `x[B,H,W,C]`, `w[O,C,k,k]`, `b[O]`.
#[derive(Debug, Clone)]
pub(crate) struct Conv2d;

/// `dx[B,H,W,C]` from `dy[B,H,W,O]`, `w[O,C,k,k]`.
#[derive(Debug, Clone)]
pub(crate) struct Conv2dGradInput;

/// `dw[O,C,k,k]` from `dy[B,H,W,O]`, `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct Conv2dGradWeight {
    pub k: usize,
}

/// Tasks that a convolution is cut into on the CPU, or partial sums of its weight gradient, about; fixed, so that results
/// do not depend on threads.
const PARTS: usize = 16;

/// Convolution with bias; a 1×1 kernel becomes a matrix product.
///
/// # Errors
/// If the kernel is not odd and square or channels differ.
pub fn conv2d(g: &mut Graph, x: Var, w: Var, b: Var) -> Result<Var> {
    if g.ty(w).dim(2) == 1 && g.ty(w).dim(3) == 1 {
        return linear(g, x, w, Some(b));
    }
    g.apply(Conv2d, &[x, w, b])
}

/// Sizes of one convolution: `c` inputs, `o` outputs per pixel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvSize {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub c: usize,
    pub o: usize,
    pub k: usize,
}

impl ConvSize {
    pub(crate) fn of(image: &TensorType, c: usize, o: usize, k: usize) -> Self {
        ConvSize { batch: image.dim(0), height: image.dim(1), width: image.dim(2), c, o, k }
    }
    pub(crate) fn pixels(&self) -> usize {
        self.height * self.width
    }
    /// Length of a gathered row.
    pub(crate) fn taps(&self) -> usize {
        self.k * self.k * self.c
    }
    fn shape(&self) -> ConvShape {
        ConvShape { height: self.height, width: self.width, c: self.c, o: self.o, k: self.k }
    }
    /// Rows of an image that one task works on, a divisor of the height: whole images if there are many.
    fn rows(&self) -> usize {
        let most = (self.height * self.batch).div_ceil(PARTS).clamp(1, self.height);
        (1..=most).rev().find(|r| self.height % r == 0).unwrap_or(1)
    }
    fn flops(&self) -> u64 {
        2 * (self.batch * self.pixels()) as u64 * (self.taps() * self.o) as u64
    }
}

thread_local! {
    /// Padded images, kept from one convolution to the next: fresh memory of this size costs as much as filling it.
    static PADDED: Cell<Box<dyn Any>> = Cell::new(Box::new(()));
}

/// Padded copies of all images, one after the other.
fn pad<T: Real>(s: &ConvSize, x: &[T]) -> Vec<T> {
    let kept = PADDED.with(|p| p.replace(Box::new(())));
    let mut padded = kept.downcast::<Vec<T>>().map(|v| *v).unwrap_or_default();
    padded.resize(s.batch * s.shape().padded(), T::ZERO);
    let image = s.pixels() * s.c;
    par_chunks(&mut padded, s.shape().padded(), |i, padded| s.shape().pad(&x[i * image..][..image], padded));
    padded
}

fn keep<T: Real>(padded: Vec<T>) {
    PADDED.with(|p| p.set(Box::new(padded)));
}

/// Convolves every image with packed weights.
fn convolve<T: Real>(s: &ConvSize, x: &[T], packed: &[T], bias: &[T], y: &mut [T]) {
    let (padded, shape, rows) = (pad(s, x), s.shape(), s.rows());
    par_rows(y, rows * s.width * s.o, rows * s.width * s.o * s.taps(), |i, y| {
        let (image, first) = (i * rows / s.height, i * rows % s.height);
        T::convolve(shape, &padded[image * shape.padded()..][..shape.padded()], packed, bias, first, y);
    });
    keep(padded);
}

/// Bytes of gathered rows that are in memory at once; larger images go through in chunks of pixels.
const ROWS_BYTES: usize = 16 << 20;

/// Scratch buffers of the WGSL kernels.
const PACKED: Arg = Arg::Scratch(0);
const ROWS: Arg = Arg::Scratch(1);

impl ConvSize {
    /// Pixels per chunk, a multiple of 64 where there is more than one chunk.
    fn chunk(&self) -> usize {
        let all = self.batch * self.pixels();
        let fit = (ROWS_BYTES / 4 / self.taps()).max(64) / 64 * 64;
        fit.min(all)
    }
    /// Chunks of pixels: first one and number.
    fn chunks(&self) -> impl Iterator<Item = (usize, usize)> {
        let (all, chunk) = (self.batch * self.pixels(), self.chunk());
        (0..all).step_by(chunk).map(move |first| (first, chunk.min(all - first)))
    }
    /// The matrix of rows under the pixels, read from an image operand by the products themselves.
    fn under(&self, image: usize) -> Option<Matrix> {
        let taps = Taps { height: self.height, width: self.width, channels: self.c, side: self.k };
        (self.c % 4 == 0).then(|| Matrix::under(Arg::In(image), taps))
    }
    /// Scratch: packed weights, and gathered rows if products need them.
    fn kernels(&self, gathers: bool) -> Result<Kernels> {
        let mut scratch = vec![TensorType::real(&[self.taps() * self.o])?];
        if gathers {
            scratch.push(TensorType::real(&[self.chunk() * self.taps()])?);
        }
        Ok(Kernels { calls: vec![], scratch })
    }
    /// Gathers the rows of a chunk of the image operand.
    ///
    /// A GPU takes an invocation per unit, whose neighbours write neighbours; a software adapter one per pixel, because
    /// the divisions that find a unit's place cost it more than the copy.
    fn gather_call(&self, caps: &Caps, image: usize, first: usize, count: usize) -> KernelCall {
        let vec = vector(&[self.c]);
        let by_pixel = caps.tier == Tier::Software;
        let items = if by_pixel { count } else { count * self.taps() / vec };
        KernelCall::new("conv2d", "gather")
            .bind(ROWS, Access::Write)
            .reads(&[image])
            .define("BY_PIXEL", u32::from(by_pixel))
            .define("WIDE", u32::from(by_pixel && caps.int64 && vec == 4))
            .words(&[items, first, self.height, self.width, self.c / vec, self.k])
            .each(items, vec)
    }
    /// Rearranges the weights of checkpoints, `[o, c, k, k]`, or such a gradient; for `flip` this is the mirrored convolution.
    fn weights_call(&self, entry: &'static str, to: Arg, of: Arg) -> KernelCall {
        let vec = vector(&[self.c]);
        let (units, flips) = (self.c / vec, entry == "flip");
        let (o, c) = if flips { (self.c, self.o) } else { (self.o, self.c) };
        KernelCall::new("conv2d", entry)
            .bind(to, Access::Write)
            .bind(of, Access::Read)
            .define("TAPS", (self.k * self.k) as u32)
            .words(&[units, o, c])
            .each(self.o * units, vec)
    }
    /// The product of the rows under the pixels and weights packed as `[o, taps]`.
    fn convolve_calls(
        &self,
        caps: &Caps,
        pack: &'static str,
        bias: Option<usize>,
        ending: Option<&Ending>,
    ) -> Result<Kernels> {
        let product = |a: Matrix, first: usize, count: usize| Gemm {
            m: count,
            n: self.o,
            k: self.taps(),
            a,
            b: Matrix::new(PACKED, self.taps()).transposed(true),
            c: Matrix::new(Arg::Out(0), self.o).at(first * self.o),
            bias: bias.map(|b| (Arg::In(b), 0)),
            accumulate: false,
            ending,
        };
        let under = self.under(0);
        let mut kernels = self.kernels(under.is_none())?;
        kernels.calls.push(self.weights_call(pack, PACKED, Arg::In(1)));
        if let Some(a) = under {
            product(a, 0, self.batch * self.pixels()).draw(caps, &mut kernels)?;
            return Ok(kernels);
        }
        for (first, count) in self.chunks() {
            kernels.calls.push(self.gather_call(caps, 0, first, count));
            product(Matrix::new(ROWS, self.taps()), first, count).draw(caps, &mut kernels)?;
        }
        Ok(kernels)
    }
}

impl Conv2d {
    fn size(inputs: &[TensorType]) -> ConvSize {
        ConvSize::of(&inputs[0], inputs[1].dim(1), inputs[1].dim(0), inputs[1].dim(2))
    }
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let s = Self::size(args.in_types);
        let (w, kk) = (args.real(1), s.k * s.k);
        let packed = s.shape().pack(|o, c, t| w[(o * s.c + c) * kk + t]);
        convolve(&s, args.real(0), &packed, args.real(2), args.out(0));
    }
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        let (x, w) = (&inputs[0], &inputs[1]);
        let odd_square = w.dim(2) == w.dim(3) && w.dim(2) % 2 == 1;
        if x.shape().len() != 4 || w.shape().len() != 4 || x.dim(3) != w.dim(1) || !odd_square {
            return Err(Error::shape("convolution operands do not fit")
                .expected("x[B,H,W,C] and w[O,C,k,k] with odd k")
                .got(format!("{x} and {w}")));
        }
        expect_elements("bias", &inputs[2], w.dim(0))?;
        Ok(vec![x.with_cols(w.dim(0))?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        let (x, w, b) = (v.inputs[0], v.inputs[1], v.inputs[2]);
        if v.wanted[0] {
            v.grads[0] = Some(v.g.apply(Conv2dGradInput, &[dy, w])?);
        }
        if v.wanted[1] {
            let k = v.g.ty(w).dim(2);
            v.grads[1] = Some(v.g.apply(Conv2dGradWeight { k }, &[dy, x])?);
        }
        if v.wanted[2] {
            let (cols, shape) = (v.g.ty(b).elements(), v.g.shape(b).to_vec());
            v.grads[2] = Some(col_sum(v.g, dy, cols, &shape)?);
        }
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        Self::size(inputs).flops()
    }
    fn as_product(&self) -> Option<&dyn Product> {
        Some(self)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        self.kernels_ending(caps, inputs, &outputs[0], None)
    }
    cpu_kernel!();
}

impl Product for Conv2d {
    fn kernels_ending(
        &self,
        caps: &Caps,
        inputs: &[TensorType],
        _: &TensorType,
        ending: Option<&Ending>,
    ) -> Result<Kernels> {
        let s = Self::size(inputs);
        s.convolve_calls(caps, "pack", Some(2), ending)
    }
}

impl Conv2dGradInput {
    /// The mirrored convolution: `o` channels in, `c` channels out.
    fn size(inputs: &[TensorType]) -> ConvSize {
        ConvSize::of(&inputs[0], inputs[1].dim(0), inputs[1].dim(1), inputs[1].dim(2))
    }
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let s = Self::size(args.in_types);
        let (w, kk) = (args.real(1), s.k * s.k);
        // Stored as [c, o, k, k] seen from here; the kernel is turned by half a circle.
        let packed = s.shape().pack(|o, c, t| w[(c * s.o + o) * kk + kk - 1 - t]);
        convolve(&s, args.real(0), &packed, &[], args.out(0));
    }
}

impl Op for Conv2dGradInput {
    fn name(&self) -> &'static str {
        "conv2d_grad_input"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("channels", &inputs[0], inputs[0].rows() * inputs[1].dim(0))?;
        Ok(vec![inputs[0].with_cols(inputs[1].dim(1))?])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        Self::size(inputs).flops()
    }
    fn as_product(&self) -> Option<&dyn Product> {
        Some(self)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        self.kernels_ending(caps, inputs, &outputs[0], None)
    }
    cpu_kernel!();
}

impl Product for Conv2dGradInput {
    fn kernels_ending(
        &self,
        caps: &Caps,
        inputs: &[TensorType],
        _: &TensorType,
        ending: Option<&Ending>,
    ) -> Result<Kernels> {
        // The mirrored convolution has `c` input and `o` output channels; the stored weights are [c, o, k, k].
        let s = Self::size(inputs);
        s.convolve_calls(caps, "flip", None, ending)
    }
}

impl Conv2dGradWeight {
    fn size(&self, inputs: &[TensorType]) -> ConvSize {
        ConvSize::of(&inputs[1], inputs[1].dim(3), inputs[0].dim(3), self.k)
    }
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let s = self.size(args.in_types);
        let (dy, shape, rows) = (args.real(0), s.shape(), s.rows());
        let padded = pad(&s, args.real(1));
        // A task is some rows of one image; a partial sum takes several tasks if there are more images than parts.
        let (tasks, task) = (s.batch * s.height / rows, rows * s.width * s.o);
        let per_part = tasks.div_ceil(PARTS);
        let parts = par_map(tasks.div_ceil(per_part), |p| {
            let mut part = vec![T::ZERO; shape.packed()];
            for i in p * per_part..tasks.min((p + 1) * per_part) {
                let (image, first) = (i * rows / s.height, i * rows % s.height);
                let image = &padded[image * shape.padded()..][..shape.padded()];
                T::convolve_grad_weight(shape, image, &dy[i * task..][..task], first, &mut part);
            }
            part
        });
        keep(padded);
        let sum = parts.into_iter().reduce(|mut sum, part| {
            sum.iter_mut().zip(part).for_each(|(s, v)| *s += v);
            sum
        });
        let (sum, dw) = (sum.unwrap_or_default(), args.out(0));
        for (oc, dw) in dw.chunks_mut(s.k * s.k).enumerate() {
            let (o, c) = (oc / s.c, oc % s.c);
            dw.iter_mut().enumerate().for_each(|(t, dw)| *dw = sum[shape.packed_at(t * s.c + c, o)]);
        }
    }
}

impl Op for Conv2dGradWeight {
    fn name(&self) -> &'static str {
        "conv2d_grad_weight"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("pixels", &inputs[0], inputs[1].rows() * inputs[0].cols())?;
        Ok(vec![TensorType::real(&[inputs[0].dim(3), inputs[1].dim(3), self.k, self.k])?])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        self.size(inputs).flops()
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let s = self.size(inputs);
        let product = |b: Matrix, first: usize, count: usize| Gemm {
            m: s.o,
            n: s.taps(),
            k: count,
            a: Matrix::new(Arg::In(0), s.o).transposed(true).at(first * s.o),
            b,
            c: Matrix::new(PACKED, s.taps()),
            bias: None,
            accumulate: first > 0,
            ending: None,
        };
        // Going along the pixels means divisions for every load, which only a GPU hides.
        let under = s.under(1).filter(|_| caps.tier == Tier::Hardware);
        let mut kernels = s.kernels(under.is_none())?;
        if let Some(b) = under {
            product(b, 0, s.batch * s.pixels()).draw(caps, &mut kernels)?;
        } else {
            for (first, count) in s.chunks() {
                kernels.calls.push(s.gather_call(caps, 1, first, count));
                product(Matrix::new(ROWS, s.taps()), first, count).draw(caps, &mut kernels)?;
            }
        }
        kernels.calls.push(s.weights_call("unpack", Arg::Out(0), PACKED));
        Ok(kernels)
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (batch, h, w, c, o, k) in [
        (1, 1, 1, 1, 1, 3),
        (1, 5, 7, 3, 4, 3),
        (2, 4, 4, 1, 5, 3),
        (3, 3, 2, 2, 3, 5),
        (1, 9, 5, 3, 8, 7),
        (2, 8, 8, 17, 33, 3),
        (1, 1, 13, 5, 2, 3),
        (1, 16, 16, 4, 65, 3),
        (2, 3, 5, 7, 9, 1),
        (1, 17, 33, 2, 3, 3),
        (5, 2, 2, 3, 3, 3),
        (1, 6, 6, 32, 16, 3),
        (1, 7, 9, 64, 8, 3),
    ] {
        let (x, y, weight): (&[usize], &[usize], &[usize]) =
            (&[batch, h, w, c], &[batch, h, w, o], &[o, c, k, k]);
        b.add(Conv2d, &[(x, Normal), (weight, Normal), (&[o], Normal)]);
        b.add(Conv2dGradInput, &[(y, Normal), (weight, Normal)]);
        b.add(Conv2dGradWeight { k }, &[(y, Normal), (x, Normal)]);
    }
}
