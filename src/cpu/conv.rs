//! "Same" convolutions of one NHWC image in f32, directly on a padded copy: no gathered rows in memory.
//!
//! Under one output pixel the inputs of a kernel row lie side by side (`k·C` numbers). A tile of pixels by one register
//! of output channels is kept in registers while these rows pass: each weight vector is loaded once per tile, each input
//! is a broadcast operand of a multiply-add.

use pulp::{Simd, WithSimd};

/// Sizes of one image's convolution: `c` inputs, `o` outputs per pixel, an odd kernel of side `k`.
#[derive(Debug, Clone, Copy)]
pub struct ConvShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Input channels.
    pub c: usize,
    /// Output channels.
    pub o: usize,
    /// Side of the kernel.
    pub k: usize,
}

/// Output channels are packed in blocks of the widest register.
const BLOCK: usize = 16;

impl ConvShape {
    /// Inputs under one output pixel.
    pub fn taps(&self) -> usize {
        self.k * self.k * self.c
    }
    /// Inputs under one output pixel in one kernel row.
    fn span(&self) -> usize {
        self.k * self.c
    }
    /// Elements of a padded row.
    fn padded_row(&self) -> usize {
        (self.width + self.k - 1) * self.c
    }
    /// Elements of a padded image.
    pub fn padded(&self) -> usize {
        (self.height + self.k - 1) * self.padded_row()
    }
    fn blocks(&self) -> usize {
        self.o.div_ceil(BLOCK)
    }
    /// Elements of packed weights.
    pub fn packed(&self) -> usize {
        self.blocks() * self.taps() * BLOCK
    }
    /// Where in a padded image the input of `tap` under `pixel`, counted from row `first` on, is.
    pub(super) fn under(&self, first: usize, pixel: usize, tap: usize) -> usize {
        let (row, x) = (first + pixel / self.width, pixel % self.width);
        (row + tap / self.span()) * self.padded_row() + x * self.c + tap % self.span()
    }
    /// Where in packed weights a tap's weight for output channel `o` is.
    pub(crate) fn packed_at(&self, tap: usize, o: usize) -> usize {
        (o / BLOCK * self.taps() + tap) * BLOCK + o % BLOCK
    }
    /// Copies an image `[H,W,C]` into a frame of zeros.
    pub(crate) fn pad<T: super::Real>(&self, image: &[T], padded: &mut [T]) {
        let (half, row) = (self.k / 2, self.width * self.c);
        for (y, to) in padded.chunks_mut(self.padded_row()).enumerate() {
            let Some(from) = image.chunks(row).nth(y.wrapping_sub(half)) else {
                to.fill(T::ZERO);
                continue;
            };
            to[..half * self.c].fill(T::ZERO);
            to[half * self.c..][..row].copy_from_slice(from);
            to[half * self.c + row..].fill(T::ZERO);
        }
    }
    /// Packs the weights `at(o, c, position in the kernel)` as `[o/16, taps, 16]`, zeros beyond the last channel.
    pub(crate) fn pack<T: super::Real>(&self, at: impl Fn(usize, usize, usize) -> T + Sync) -> Vec<T> {
        let mut packed = vec![T::ZERO; self.packed()];
        super::par_chunks(&mut packed, self.taps() * BLOCK, |b, block| {
            let outputs = b * BLOCK..self.o.min((b + 1) * BLOCK);
            for (c, t) in (0..self.c).flat_map(|c| (0..self.k * self.k).map(move |t| (c, t))) {
                let to = block[(t * self.c + c) * BLOCK..].iter_mut();
                to.zip(outputs.clone()).for_each(|(to, o)| *to = at(o, c, t));
            }
        });
        packed
    }
}

/// Rows `first..` of the output of one image.
pub(super) struct Forward<'a> {
    pub shape: ConvShape,
    pub padded: &'a [f32],
    pub packed: &'a [f32],
    /// `[o]`, or empty for none.
    pub bias: &'a [f32],
    pub first: usize,
    pub y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let s = self.shape;
        let y = std::mem::take(&mut self.y);
        for channel in (0..s.o).step_by(S::F32_LANES) {
            for (i, out) in y.chunks_mut(s.width * s.o).enumerate() {
                let (mut x, row) = (0, self.first + i);
                while x < s.width {
                    let out = &mut out[x * s.o..];
                    x += match s.width - x {
                        16.. if S::REGISTER_COUNT >= 32 => self.tile::<S, 16>(simd, (row, x), channel, out),
                        8.. => self.tile::<S, 8>(simd, (row, x), channel, out),
                        4.. => self.tile::<S, 4>(simd, (row, x), channel, out),
                        _ => self.tile::<S, 1>(simd, (row, x), channel, out),
                    };
                }
            }
        }
    }
}

impl Forward<'_> {
    /// `P` pixels from `(row, x)` on by one register of channels from `channel` on; returns `P`.
    #[inline(always)]
    fn tile<S: Simd, const P: usize>(
        &self,
        simd: S,
        (row, x): (usize, usize),
        channel: usize,
        out: &mut [f32],
    ) -> usize {
        let s = self.shape;
        let (span, channels) = (s.span(), channel..s.o.min(channel + S::F32_LANES));
        let bias = self.bias.get(channels.clone()).unwrap_or(&[]);
        let mut acc = [simd.partial_load_f32s(bias); P];
        let (per_tap, part) = (BLOCK / S::F32_LANES, channel % BLOCK / S::F32_LANES);
        let block = &self.packed[channel / BLOCK * s.taps() * BLOCK..][..s.taps() * BLOCK];
        for kh in 0..s.k {
            let window = &self.padded[(row + kh) * s.padded_row() + x * s.c..][..(P - 1) * s.c + span];
            let pixels: [&[f32]; P] = std::array::from_fn(|p| &window[p * s.c..][..span]);
            let (weights, _) = S::as_simd_f32s(&block[kh * span * BLOCK..][..span * BLOCK]);
            for (q, w) in weights.chunks_exact(per_tap).enumerate().take(span) {
                for p in 0..P {
                    acc[p] = simd.mul_add_e_f32s(simd.splat_f32s(pixels[p][q]), w[part], acc[p]);
                }
            }
        }
        for (out, acc) in out.chunks_mut(s.o).zip(acc) {
            simd.partial_store_f32s(&mut out[channels.clone()], acc);
        }
        P
    }
}

/// Adds to packed weight gradients what rows `first..` of one image give.
pub(super) struct GradWeight<'a> {
    pub shape: ConvShape,
    pub padded: &'a [f32],
    /// Cotangent of the output rows.
    pub dy: &'a [f32],
    pub first: usize,
    /// In the order of [`ConvShape::pack`].
    pub dw: &'a mut [f32],
}

/// Rows of pixels that a weight gradient runs over while its operands are in the first cache.
const ROWS: usize = 4;

impl WithSimd for GradWeight<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let s = self.shape;
        let dw = std::mem::take(&mut self.dw);
        // One register of channels of a band's cotangents, zeros beyond the last channel.
        let mut band_dy = vec![simd.splat_f32s(0.0); ROWS * s.width];
        for (band, dy) in self.dy.chunks(ROWS * s.width * s.o).enumerate() {
            let row = self.first + band * ROWS;
            for channel in (0..s.o).step_by(S::F32_LANES) {
                let channels = channel..s.o.min(channel + S::F32_LANES);
                for (to, from) in band_dy.iter_mut().zip(dy.chunks_exact(s.o)) {
                    *to = simd.partial_load_f32s(&from[channels.clone()]);
                }
                let dy = &band_dy[..dy.len() / s.o];
                for kh in 0..s.k {
                    let mut q = 0;
                    while q < s.span() {
                        let at = (row, kh, q);
                        q += match s.span() - q {
                            24.. if S::REGISTER_COUNT >= 32 => self.taps::<S, 24>(simd, at, channel, dy, dw),
                            8.. => self.taps::<S, 8>(simd, at, channel, dy, dw),
                            4.. => self.taps::<S, 4>(simd, at, channel, dy, dw),
                            _ => self.taps::<S, 1>(simd, at, channel, dy, dw),
                        };
                    }
                }
            }
        }
    }
}

impl GradWeight<'_> {
    /// `Q` taps from `q` on of kernel row `kh` by one register of channels; returns `Q`.
    #[inline(always)]
    fn taps<S: Simd, const Q: usize>(
        &self,
        simd: S,
        (row, kh, q): (usize, usize, usize),
        channel: usize,
        dy: &[S::f32s],
        dw: &mut [f32],
    ) -> usize {
        let s = self.shape;
        let (per_tap, part) = (BLOCK / S::F32_LANES, channel % BLOCK / S::F32_LANES);
        let first = (channel / BLOCK * s.taps() + kh * s.span() + q) * BLOCK;
        let (sums, _) = S::as_mut_simd_f32s(&mut dw[first..first + Q * BLOCK]);
        let mut acc: [S::f32s; Q] = std::array::from_fn(|i| sums[i * per_tap + part]);
        for (i, dy) in dy.chunks(s.width).enumerate() {
            let line = &self.padded[(row + i + kh) * s.padded_row() + q..];
            for (x, &dy) in dy.iter().enumerate() {
                if let Some(window) = line.get(x * s.c..x * s.c + Q) {
                    for i in 0..Q {
                        acc[i] = simd.mul_add_e_f32s(simd.splat_f32s(window[i]), dy, acc[i]);
                    }
                }
            }
        }
        for i in 0..Q {
            sums[i * per_tap + part] = acc[i];
        }
        Q
    }
}
