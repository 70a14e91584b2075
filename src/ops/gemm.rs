//! Matrix products as WGSL dispatches: the operands, the choice of a kernel variant, and the split along k.
//!
//! Every dense product of the crate comes through here: linear layers and their gradients, the prediction head. The
//! convolutions share the choice and the shaders' inner loops.

use super::{Access, Arg, Caps, KernelCall, Kernels, Tier};
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

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// Register tiles of `rows` × 64 by one subgroup of eight; with `swap` the operands are exchanged.
    Strip { rows: usize, swap: bool },
    /// Tiles of `edge` × `edge` in workgroup memory.
    Tile { edge: usize },
}

impl Variant {
    /// The variant that wastes least on an `m` × `n` product.
    pub(crate) fn choose(caps: &Caps, m: usize, n: usize) -> Self {
        if caps.tier == Tier::Hardware {
            let edge = [128, 64].into_iter().find(|&e| tiles(m, n, (e, e)) >= BUSY && m.min(n) > e / 2);
            return Variant::Tile { edge: edge.unwrap_or(if m.min(n) > 32 { 64 } else { 32 }) };
        }
        let mut best = (usize::MAX, Variant::Strip { rows: 16, swap: false });
        for swap in [false, true] {
            for rows in [64, 32, 16] {
                let (m, n) = if swap { (n, m) } else { (m, n) };
                let cost = strip_cost(caps, rows) * tiles(m, n, (rows, STRIP)).next_multiple_of(THREADS);
                if cost < best.0 {
                    best = (cost, Variant::Strip { rows, swap });
                }
            }
        }
        best.1
    }
    /// Rows and columns of one workgroup.
    pub(crate) fn tile(self) -> (usize, usize) {
        match self {
            Variant::Strip { rows, .. } => (rows, STRIP),
            Variant::Tile { edge } => (edge, edge),
        }
    }
    /// Terms of k between two looks at the loop condition.
    pub(crate) fn step(self) -> usize {
        match self {
            Variant::Strip { .. } => 4,
            Variant::Tile { edge: 64 } => 16,
            Variant::Tile { .. } => 8,
        }
    }
    /// Parts of k so that about as many workgroups run as the adapter wants, and the length of a part.
    pub(crate) fn split(self, m: usize, n: usize, k: usize) -> (usize, usize) {
        let (want, shortest) = if matches!(self, Variant::Tile { .. }) { (BUSY, 256) } else { (16, 512) };
        let parts = (want / tiles(m, n, self.tile())).min(k / shortest).clamp(1, 64);
        let chunk = k.div_ceil(parts).next_multiple_of(self.step());
        (k.div_ceil(chunk), chunk)
    }
    /// The defines of the variant.
    pub(crate) fn define(self, call: KernelCall, caps: &Caps) -> KernelCall {
        match self {
            Variant::Strip { rows, swap } => call
                .define("ROWS", rows as u32)
                .define("MID", u32::from(rows >= 32))
                .define("TALL", u32::from(rows >= 64))
                .define("SWAP", u32::from(swap))
                .define("SUBGROUP", u32::from(caps.subgroup_size == 8))
                .define("WIDE", u32::from(caps.int64)),
            Variant::Tile { edge } => call
                .define("EDGE", edge as u32)
                .define("DEPTH", self.step() as u32)
                .define("WG", (edge * self.step() / 4) as u32)
                .define("BIG", u32::from(edge == 128)),
        }
    }
}

/// Columns of a register tile: eight lanes of eight.
const STRIP: usize = 64;
/// Threads of a software adapter, at a guess.
const THREADS: usize = 4;
/// Workgroups that keep a GPU busy.
const BUSY: usize = 128;

fn tiles(m: usize, n: usize, tile: (usize, usize)) -> usize {
    m.div_ceil(tile.0) * n.div_ceil(tile.1)
}

/// Cost of one term of k of a register tile: loads go lane by lane and word by word, arithmetic by vectors of eight.
fn strip_cost(caps: &Caps, rows: usize) -> usize {
    let words = if caps.subgroup_size == 8 { rows + STRIP } else { 8 * rows + STRIP };
    4 * words + rows * STRIP / 8
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
