//! Matrix products as WGSL dispatches: the operands and the calls. The choice of a variant: [`super::product`].
//!
//! Every dense product of the crate comes through here: linear layers and their gradients, the prediction head. The
//! convolutions share the choice and the shaders' inner loops.

use super::product::ProductVariant as Variant;
use super::{Access, Arg, Caps, KernelCall, Kernels};
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
}

/// `C[m,n] = A[m,k]·B[k,n] (+ bias[n]) (+ C)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemm {
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
}

impl Matrix {
    /// A matrix with the given columns in storage, from its first element.
    pub(crate) fn new(arg: Arg, stride: usize) -> Self {
        Matrix { arg, stride, at: 0, transposed: false }
    }
    pub(crate) fn transposed(self, transposed: bool) -> Self {
        Matrix { transposed, ..self }
    }
    pub(crate) fn at(self, at: usize) -> Self {
        Matrix { at, ..self }
    }
    /// Whether runs of `len` neighbours can be read in fours.
    fn in_fours(&self, len: usize) -> bool {
        self.stride % 4 == 0 && self.at % 4 == 0 && len % 4 == 0
    }
}

impl Gemm {
    /// Appends the dispatches.
    ///
    /// # Errors
    /// If the parts of a split product are impossibly large.
    pub(crate) fn draw(&self, caps: &Caps, kernels: &mut Kernels) -> Result<()> {
        self.draw_as(Variant::choose(caps, self.m, self.n), caps, kernels)
    }
    fn draw_as(&self, variant: Variant, caps: &Caps, kernels: &mut Kernels) -> Result<()> {
        let Gemm { m, n, .. } = *self;
        let swap = matches!(variant, Variant::Strip { swap: true, .. });
        let (parts, chunk) = if swap { variant.split(n, m, self.k) } else { variant.split(m, n, self.k) };
        if parts == 1 {
            kernels.calls.push(self.product(variant, caps, chunk));
            return Ok(());
        }
        let scratch = Arg::Scratch(kernels.scratch.len());
        kernels.scratch.push(TensorType::real(&[parts, m, n])?);
        let part = Gemm { c: Matrix::new(scratch, n), bias: None, accumulate: false, ..*self };
        kernels.calls.push(part.product(variant, caps, chunk));
        let mut sum = KernelCall::new("matmul_sum", "main").bind(scratch, Access::Read);
        if let Some((bias, _)) = self.bias {
            sum = sum.bind(bias, Access::Read);
        }
        let sum = sum
            .bind(self.c.arg, Access::Write)
            .define("BIAS", u32::from(self.bias.is_some()))
            .define("ACCUMULATE", u32::from(self.accumulate))
            .words(&[m, n, self.c.stride, self.c.at, parts, self.bias.map_or(0, |b| b.1)])
            .over(m * n, 64);
        kernels.calls.push(sum);
        Ok(())
    }
    fn product(&self, variant: Variant, caps: &Caps, chunk: usize) -> KernelCall {
        let c_vec = self.c.in_fours(self.n);
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
        let tile = variant.tile();
        let (tiles_m, tiles_n) = (g.m.div_ceil(tile.0), g.n.div_ceil(tile.1));
        let shader = if matches!(variant, Variant::Tile { .. }) { "matmul_tile" } else { "matmul" };
        let mut call =
            KernelCall::new(shader, "main").bind(g.a.arg, Access::Read).bind(g.b.arg, Access::Read);
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
            .define("K_TAIL", u32::from(g.k % variant.step() != 0))
            .define("BIAS", u32::from(g.bias.is_some()))
            .define("ACCUMULATE", u32::from(g.accumulate))
            .words(&[g.m, g.n, g.k, g.a.stride, g.b.stride, g.c.stride, g.a.at, g.b.at, g.c.at])
            .words(&[tiles_m, tiles_n, chunk, g.bias.map_or(0, |b| b.1)])
            .groups(tiles_m * tiles_n * g.k.div_ceil(chunk));
        variant.define(call, caps)
    }
}
