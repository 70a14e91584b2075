//! Matrix products as WGSL dispatches: the operands and the calls. The choice of a variant: [`super::product`].
//!
//! Every dense product of the crate comes through here: linear layers and their gradients, the prediction head. The
//! convolutions share the choice and the shaders' inner loops.

use super::product::ProductVariant as Variant;
use super::{Access, Arg, Caps, DISPATCH_FLOPS, Ending, KernelCall, Kernels, Tier};
use crate::error::Result;
use crate::graph::TensorType;

/// A matrix in a buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub arg: Arg,
    /// Elements from one stored row to the next.
    pub stride: usize,
    /// First element.
    pub at: usize,
    /// Stored the other way round.
    pub transposed: bool,
    /// Kept in half precision.
    pub half: bool,
    /// Never stored: the rows under the taps of a convolution; `at` counts pixels.
    pub taps: Option<Taps>,
}

/// The matrix of a "same" convolution: a row for each pixel of NHWC images, `side²·channels` columns, tap by tap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taps {
    pub height: usize,
    pub width: usize,
    /// A multiple of four.
    pub channels: usize,
    /// Of the kernel.
    pub side: usize,
}

/// `C[m,n] = A[m,k]·B[k,n] (+ bias[n]) (+ C)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemm<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Matrix,
    pub b: Matrix,
    pub c: Matrix,
    /// The bias and its first element.
    pub bias: Option<(Arg, usize)>,
    /// Add to what `c` holds.
    pub accumulate: bool,
    /// What the elements go through before they are stored; `c` is then a whole tensor of rows of `n`.
    pub ending: Option<&'a Ending>,
}

/// Rows, columns and terms that a large product is cut at are multiples of this, so that no tile is cut.
const CUT: usize = 128;

/// About half of a size, in whole tiles.
fn whole_tiles(size: usize) -> usize {
    (size / 2).next_multiple_of(CUT)
}

impl Matrix {
    /// A matrix with the given columns in storage, from its first element.
    pub(crate) fn new(arg: Arg, stride: usize) -> Self {
        Matrix { arg, stride, at: 0, transposed: false, half: false, taps: None }
    }
    /// The matrix of a convolution over the images in a buffer; a row counts as one in `stride` and `at`.
    pub(crate) fn under(arg: Arg, taps: Taps) -> Self {
        Matrix { taps: Some(taps), ..Matrix::new(arg, 1) }
    }
    pub(crate) fn transposed(self, transposed: bool) -> Self {
        Matrix { transposed, ..self }
    }
    /// In the precision of a type.
    pub(crate) fn of(self, ty: &TensorType) -> Self {
        Matrix { half: ty.is_half(), ..self }
    }
    pub(crate) fn at(self, at: usize) -> Self {
        Matrix { at, ..self }
    }
    /// Whether runs of `len` neighbours can be read in fours.
    fn in_fours(&self, len: usize) -> bool {
        self.taps.is_some() || self.comes_in(4, len)
    }
    fn comes_in(&self, count: usize, len: usize) -> bool {
        [self.stride, self.at, len].iter().all(|size| size % count == 0)
    }
    /// Whether runs of `len` neighbours can be read or written in eights; `walked`: the rows of a convolution, if it is
    /// one, go along the tile.
    fn in_eights(&self, len: usize, walked: bool) -> bool {
        let fits = |t: Taps| walked && t.channels % 8 == 0;
        !self.half && self.taps.map_or_else(|| self.comes_in(8, len), fits)
    }
}

impl Gemm<'_> {
    /// Appends the dispatches.
    ///
    /// # Errors
    /// If the parts of a split product are impossibly large.
    pub(crate) fn draw(&self, caps: &Caps, kernels: &mut Kernels) -> Result<()> {
        if let Some([first, second]) = self.halves(caps) {
            first.draw(caps, kernels)?;
            return second.draw(caps, kernels);
        }
        let variant = Variant::choose(caps, (self.m, self.n, self.k), self.in_eights());
        let taps = self.a.taps.is_some() || self.b.taps.is_some();
        self.draw_as(if taps { variant.under_taps(caps) } else { variant }, caps, kernels)
    }
    /// Whether both operands can be read in eights.
    fn in_eights(&self) -> bool {
        let Gemm { m, n, k, a, b, .. } = *self;
        k % 8 == 0
            && a.in_eights(if a.transposed { m } else { k }, !a.transposed)
            && b.in_eights(if b.transposed { k } else { n }, b.transposed)
    }
    fn flops(&self) -> u64 {
        2 * (self.m * self.n) as u64 * self.k as u64
    }
    /// The product as two of about half the rows, columns or terms, if it is too much for one dispatch of a GPU.
    fn halves(&self, caps: &Caps) -> Option<[Self; 2]> {
        if caps.tier != Tier::Hardware || self.flops() <= DISPATCH_FLOPS {
            return None;
        }
        // An ending may read a row of its own by column, so that only rows are cut.
        let columns = self.ending.is_none().then(|| self.half_the_columns()).flatten();
        if self.m >= self.n || columns.is_none() {
            return self.half_the_rows().or(columns).or_else(|| self.half_the_terms());
        }
        columns
    }
    fn half_the_rows(&self) -> Option<[Self; 2]> {
        let (rows, a, c) = (whole_tiles(self.m), self.a, self.c);
        let skip = rows * if a.transposed { 1 } else { a.stride };
        (rows < self.m).then(|| {
            let (a, c) = (a.at(a.at + skip), c.at(c.at + rows * c.stride));
            [Gemm { m: rows, ..*self }, Gemm { m: self.m - rows, a, c, ..*self }]
        })
    }
    fn half_the_columns(&self) -> Option<[Self; 2]> {
        let (columns, b, c) = (whole_tiles(self.n), self.b, self.c);
        let skip = columns * if b.transposed { b.stride } else { 1 };
        (columns < self.n && b.taps.is_none()).then(|| {
            let bias = self.bias.map(|(arg, at)| (arg, at + columns));
            let (b, c) = (b.at(b.at + skip), c.at(c.at + columns));
            [Gemm { n: columns, ..*self }, Gemm { n: self.n - columns, b, c, bias, ..*self }]
        })
    }
    /// The second product adds to the first.
    fn half_the_terms(&self) -> Option<[Self; 2]> {
        let (terms, a, b) = (whole_tiles(self.k), self.a, self.b);
        let along = a.taps.is_some() || (b.taps.is_some() && b.transposed);
        (terms < self.k && !along && self.ending.is_none()).then(|| {
            let a = a.at(a.at + terms * if a.transposed { a.stride } else { 1 });
            let b = b.at(b.at + terms * if b.transposed { 1 } else { b.stride });
            let rest = Gemm { k: self.k - terms, a, b, bias: None, accumulate: true, ..*self };
            [Gemm { k: terms, ..*self }, rest]
        })
    }
    fn draw_as(&self, variant: Variant, caps: &Caps, kernels: &mut Kernels) -> Result<()> {
        let Gemm { m, n, .. } = *self;
        let swap = matches!(variant, Variant::Strip { swap: true, .. });
        let (parts, chunk) =
            if swap { variant.split(caps, n, m, self.k) } else { variant.split(caps, m, n, self.k) };
        if parts == 1 {
            kernels.calls.push(self.product(variant, caps, chunk));
            return Ok(());
        }
        let scratch = Arg::Scratch(kernels.scratch.len());
        kernels.scratch.push(TensorType::real(&[parts, m, n])?);
        let part = Gemm { c: Matrix::new(scratch, n), bias: None, accumulate: false, ending: None, ..*self };
        kernels.calls.push(part.product(variant, caps, chunk));
        let mut sum = KernelCall::new("matmul_sum", "main").bind(scratch, Access::Read);
        if let Some((bias, _)) = self.bias {
            sum = sum.bind(bias, Access::Read);
        }
        let bias_at = self.bias.map_or(0, |b| b.1);
        let vec = if self.c.in_fours(n) && bias_at % 4 == 0 { 4 } else { 1 };
        let sum = sum
            .bind(self.c.arg, Access::Write)
            .define("BIAS", u32::from(self.bias.is_some()))
            .define("ACCUMULATE", u32::from(self.accumulate))
            .define("C_HALF", u32::from(self.c.half))
            .define("VEC", u32::from(vec == 4))
            .words(&[m, n / vec, self.c.stride / vec, self.c.at / vec, parts, bias_at / vec])
            .over(m * n / vec, 64)
            .work((parts * m * n) as u64);
        kernels.calls.push(self.ending.map_or(sum.clone(), |e| e.end(sum)));
        Ok(())
    }
    /// How a register tile goes along the rows of a convolution; if they run along k it can't.
    fn walk(&self, variant: Variant, caps: &Caps, call: KernelCall) -> KernelCall {
        let a = self.a.taps.is_some() && !self.a.transposed;
        let b = self.b.taps.is_some() && self.b.transposed;
        let pixels = if b { 8 } else { variant.rows_loaded(caps) };
        call.define("WALK_A", u32::from(a))
            .define("WALK_B", u32::from(b))
            .define("WALK", u32::from(a || b))
            .define("PIXELS", pixels as u32)
    }
    fn product(&self, variant: Variant, caps: &Caps, chunk: usize) -> KernelCall {
        let c_vec = self.c.in_fours(self.n);
        let oct = variant.in_eights(caps, self.in_eights());
        let c_oct = oct && self.ending.is_none() && self.c.in_eights(self.n, false);
        let g = match variant {
            Variant::Strip { swap: true, .. } => Gemm {
                m: self.n,
                n: self.m,
                a: self.b.transposed(!self.b.transposed),
                b: self.a.transposed(!self.a.transposed),
                ..*self
            },
            _ => *self,
        };
        let (a_len, b_len) = (if g.a.transposed { g.m } else { g.k }, if g.b.transposed { g.k } else { g.n });
        let tile = variant.tile(caps);
        let (tiles_m, tiles_n) = (g.m.div_ceil(tile.0), g.n.div_ceil(tile.1));
        let mut call =
            KernelCall::new(variant.shader(), "main").bind(g.a.arg, Access::Read).bind(g.b.arg, Access::Read);
        if let Some((bias, _)) = g.bias {
            call = call.bind(bias, Access::Read);
        }
        call = call
            .bind(g.c.arg, Access::Write)
            .define("TA", u32::from(g.a.transposed))
            .define("TB", u32::from(g.b.transposed))
            .define("LEFT_BY_K", u32::from(g.a.transposed))
            .define("A_VEC", u32::from(g.a.in_fours(a_len)))
            .define("B_VEC", u32::from(g.b.in_fours(b_len)))
            .define("C_VEC", u32::from(c_vec))
            .define("A_HALF", u32::from(g.a.half))
            .define("B_HALF", u32::from(g.b.half))
            .define("C_HALF", u32::from(g.c.half))
            .define("VEC", u32::from(c_vec))
            .define("K_TAIL", u32::from(g.k % variant.step() != 0))
            .define("BIAS", u32::from(g.bias.is_some()))
            .define("ACCUMULATE", u32::from(g.accumulate))
            .words(&[g.m, g.n, g.k, g.a.stride, g.b.stride, g.c.stride, g.a.at, g.b.at, g.c.at])
            .words(&[tiles_m, tiles_n, chunk, g.bias.map_or(0, |b| b.1)])
            .define("A_CONV", u32::from(g.a.taps.is_some()))
            .define("B_CONV", u32::from(g.b.taps.is_some()));
        if oct {
            call = call.define("OCT", 1).define("C_OCT", u32::from(c_oct));
        }
        if let Some(t) = g.a.taps.or(g.b.taps) {
            call = call.define("CONV", 1).words(&[t.height, t.width, t.channels, t.side]);
        }
        if matches!(variant, Variant::Strip { .. }) {
            call = g.walk(variant, caps, call);
        }
        call = call.groups(tiles_m * tiles_n * g.k.div_ceil(chunk)).work(self.flops());
        variant.define(self.ending.map_or(call.clone(), |e| e.end(call)), caps)
    }
}
