//! Multi-head self-attention with the relative position bias computed from its table (beit-spec §2.3, §2.4).
//!
//! Operands: `qkv[B,N,3D]` (q, k, v side by side, heads side by side in each), optionally `table[R,H]`.
//! Results: `o[B,N,D]` and the log-sum-exp of every score row, `lse[B,H,N]`, which is all that the backward pass needs.

use super::attention_grad::AttentionGrad;
use super::units::vector;
use super::{Args, Op, Vjp, arity, cpu_kernel, expect_shape};
use super::{Caps, DISPATCH_FLOPS, KernelCall, Kernels, Tier};
use crate::cpu::{Mat, Real, par_chunks, par_chunks2, wide};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

/// Number of heads, and the patch grid if a bias table is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSpec {
    /// Heads.
    pub heads: usize,
    /// Rows and columns of the patch grid; token 0 is the class token.
    pub grid: Option<(usize, usize)>,
}

/// See the module text.
#[derive(Debug, Clone)]
pub(crate) struct Attention {
    pub spec: AttentionSpec,
}

/// Attention over `qkv`; `table` must be given exactly if `spec.grid` is.
///
/// # Errors
/// If sizes do not fit.
pub fn attention(g: &mut Graph, qkv: Var, table: Option<Var>, spec: AttentionSpec) -> Result<Var> {
    let inputs: Vec<Var> = [Some(qkv), table].into_iter().flatten().collect();
    g.apply(Attention { spec }, &inputs)
}

/// Sizes read off the types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionSize {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub hd: usize,
}

impl AttentionSize {
    pub(crate) fn of(qkv: &TensorType, heads: usize) -> Self {
        AttentionSize { batch: qkv.dim(0), tokens: qkv.dim(1), heads, hd: qkv.dim(2) / 3 / heads }
    }
    pub(crate) fn width(&self) -> usize {
        self.heads * self.hd
    }
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.hd as f64).sqrt()
    }
    /// One of q (0), k (1), v (2) of an image's `qkv[N,3D]`, for one head, as `[N, hd]`.
    pub(crate) fn part<'a, T>(&self, qkv: &'a [T], which: usize, head: usize) -> Mat<'a, T> {
        Mat { data: &qkv[which * self.width() + head * self.hd..], row: 3 * self.width(), col: 1 }
    }
}

impl AttentionSpec {
    /// Rows of the bias table, (2gh−1)(2gw−1)+3, or 0 without one.
    pub fn table_rows(&self) -> usize {
        self.grid.map_or(0, |(gh, gw)| (2 * gh - 1) * (2 * gw - 1) + 3)
    }
    /// Row of the bias table for query token `i` and key token `j` (beit-spec §2.3).
    pub fn table_row(&self, i: usize, j: usize) -> usize {
        let (gh, gw) = self.grid.unwrap_or((1, 1));
        let rows = self.table_rows();
        match (i, j) {
            (0, 0) => rows - 1,
            (0, _) => rows - 3,
            (_, 0) => rows - 2,
            _ => {
                let (i, j) = (i - 1, j - 1);
                let dr = i / gw + gh - 1 - j / gw;
                let dc = i % gw + gw - 1 - j % gw;
                dr * (2 * gw - 1) + dc
            }
        }
    }
    /// Checks the table against the grid and the number of tokens.
    pub(crate) fn check(&self, qkv: &TensorType, table: Option<&TensorType>) -> Result<()> {
        if qkv.shape().len() != 3 || qkv.dim(2) % (3 * self.heads) != 0 {
            return Err(Error::shape("attention over the wrong shape")
                .expected(format!("qkv[B,N,3D] with D a multiple of {} heads", self.heads))
                .got(qkv.to_string()));
        }
        match (self.grid, table) {
            (None, None) => Ok(()),
            (Some((gh, gw)), Some(table)) => {
                expect_shape("relative position bias table", table, &[self.table_rows(), self.heads])?;
                expect_shape("qkv", qkv, &[qkv.dim(0), gh * gw + 1, qkv.dim(2)])
            }
            _ => Err(Error::shape("attention needs a bias table exactly if it has a grid")),
        }
    }
    /// The bias of every head as `[H,N,N]`, or nothing without a table.
    pub(crate) fn biases<T: Real>(&self, table: &[T], tokens: usize) -> Vec<T> {
        let Some((_, gw)) = self.grid else { return vec![] };
        let mut map = vec![T::ZERO; self.heads * tokens * tokens];
        par_chunks(&mut map, tokens * tokens, |head, map| {
            let [to_cls, from_cls, cls] =
                [3, 2, 1].map(|k| table[(self.table_rows() - k) * self.heads + head]);
            let column = self.reversed(table, head);
            for (i, row) in map.chunks_mut(tokens).enumerate() {
                if i == 0 {
                    row.fill(to_cls);
                    row[0] = cls;
                    continue;
                }
                row[0] = from_cls;
                for (jy, cells) in row[1..].chunks_mut(gw).enumerate() {
                    let first = self.run(i, jy, gw);
                    cells.copy_from_slice(&column[first..first + gw]);
                }
            }
        });
        map
    }
    /// One head's column of the table without its last three rows, last row first: along a row of keys the bias of a
    /// query then runs along memory.
    fn reversed<T: Real>(&self, table: &[T], head: usize) -> Vec<T> {
        let rows = self.table_rows() - 3;
        (0..rows).rev().map(|r| table[r * self.heads + head]).collect()
    }
    /// Where in a reversed column the biases of query token `i > 0` for the keys of grid row `jy` begin.
    pub(crate) fn run(&self, i: usize, jy: usize, gw: usize) -> usize {
        self.table_rows() - 4 - self.table_row(i, 1 + jy * gw)
    }
}

/// Invocations per workgroup of the attention kernels.
const WG: usize = 32;
/// Tokens that the lanes of a subgroup hold.
const LANES: usize = 8;

/// Whether the kernels of `attention_lanes.wgsl` are the ones for an adapter.
pub(crate) fn in_lanes(caps: &Caps) -> bool {
    caps.tier == Tier::Software && caps.subgroup_size == LANES as u32
}

/// Rows that a workgroup of `attention_tile.wgsl` holds, one an invocation.
const TILE_ROWS: usize = 64;
/// Workgroups that keep a GPU busy.
const RUNS: usize = 512;
/// Bytes of workgroup memory for a tile of the other side, a little less than WebGPU guarantees.
const TILE_BYTES: usize = 12 << 10;

/// Whether the kernels of `attention_tile.wgsl` are the ones for an adapter; heads must be narrow enough for registers.
pub(crate) fn in_tiles(caps: &Caps, hd: usize) -> bool {
    caps.tier == Tier::Hardware && hd <= 128
}

/// Whether the kernels for an adapter take q, k, v and what is mixed of them in half precision.
pub(crate) fn takes_half(caps: &Caps, qkv: &TensorType, heads: usize) -> bool {
    let hd = AttentionSize::of(qkv, heads).hd;
    (in_lanes(caps) || in_tiles(caps, hd)) && hd % 4 == 0
}

impl AttentionSize {
    fn complete(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
        stride: usize,
    ) -> KernelCall {
        let vec = vector(&[self.hd]);
        let (gh, gw) = spec.grid.unwrap_or((0, 0));
        call.define("VEC", u32::from(vec == 4))
            .define("UNITS", (self.hd / vec) as u32)
            .define("TABLE", u32::from(spec.grid.is_some()))
            .words(&[self.batch, self.tokens, self.heads, gh, gw])
            .float(self.scale() as f32)
            .words(&[heads.0, heads.1, images, self.tiles(), stride, 1])
    }
    /// Completes a dispatch of the tiles' kernels: `heads` are (first, number), and each workgroup goes through `images`.
    pub(crate) fn in_tiles(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
    ) -> KernelCall {
        let tiles = self.tokens.div_ceil(TILE_ROWS);
        // Two arrays; a power of two up to 32.
        let fit = (TILE_BYTES / (8 * self.hd)).clamp(1, 32);
        let keys = if fit.is_power_of_two() { fit } else { fit.next_power_of_two() / 2 };
        let mut call = self.complete(call, spec, heads, images, self.tokens);
        let at = call.params.len() - 3;
        call.params[at] = tiles as u32;
        call.define("WG", TILE_ROWS as u32)
            .define("KEYS", keys as u32)
            .groups(self.batch.div_ceil(images) * heads.1 * tiles)
    }
    /// Groups of heads, (first, number), of one dispatch each: `terms` products of a query and a key row for each pair
    /// stay within the work of a dispatch, and no more than `most` heads.
    pub(crate) fn head_groups(&self, terms: u64, most: usize) -> Vec<(usize, usize)> {
        let fit = (DISPATCH_FLOPS / self.flops(terms, 1).max(1)) as usize;
        let group = fit.min(most).clamp(1, self.heads);
        (0..self.heads).step_by(group).map(|first| (first, group.min(self.heads - first))).collect()
    }
    /// FLOPs of `terms` products for each pair of tokens of some heads.
    pub(crate) fn flops(&self, terms: u64, heads: usize) -> u64 {
        2 * terms * (self.batch * self.tokens * self.tokens) as u64 * (heads * self.hd) as u64
    }
    /// Images that one workgroup goes through when the gradient of the table is summed over them: few enough groups to
    /// keep the map small, enough to keep a GPU busy.
    pub(crate) fn images_of_run(&self) -> usize {
        let groups = self.heads * self.tokens.div_ceil(TILE_ROWS);
        self.batch.div_ceil(RUNS.div_ceil(groups).clamp(1, self.batch))
    }
    /// Groups of eight tokens.
    pub(crate) fn tiles(&self) -> usize {
        self.tokens.div_ceil(LANES)
    }
    /// Rows and columns of a head in the map of summed score gradients.
    pub(crate) fn map_stride(&self, caps: &Caps) -> usize {
        if in_lanes(caps) { LANES * self.tiles() } else { self.tokens }
    }
    /// Completes a dispatch of the lanes' kernels: `heads` are (first, number), and each workgroup goes through `images`.
    pub(crate) fn lanes(
        &self,
        caps: &Caps,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
    ) -> KernelCall {
        let groups = self.batch.div_ceil(images) * heads.1 * self.tiles();
        let call = self.complete(call, spec, heads, images, LANES * self.tiles());
        call.define("WIDE", u32::from(caps.int64)).groups(groups)
    }
    /// Completes a dispatch of the attention kernels with `items` invocations; `heads` are (first, number) of the heads
    /// that a dispatch of the table gradient works on.
    pub(crate) fn dispatch(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        items: usize,
        heads: (usize, usize),
        stride: usize,
    ) -> KernelCall {
        self.complete(call, spec, heads, 1, stride).define("WG", WG as u32).over(items, WG)
    }
    /// Query rows of all images and heads.
    pub(crate) fn rows(&self) -> usize {
        self.batch * self.heads * self.tokens
    }
}

/// Binds the table, operand number `input`, if there is one.
pub(crate) fn with_table(call: KernelCall, spec: &AttentionSpec, input: usize) -> KernelCall {
    if spec.grid.is_none() {
        return call;
    }
    let at = call.bindings.len() as u32;
    call.reads(&[input]).define("TABLE_AT", at)
}

/// Scores of one head of one image: `s[i,j] = scale·q_i·k_j + bias[i,j]`.
pub(crate) fn scores<T: Real>(size: &AttentionSize, qkv: &[T], head: usize, bias: Option<&[T]>, s: &mut [T]) {
    let n = size.tokens;
    let (q, k) = (size.part(qkv, 0, head), size.part(qkv, 1, head));
    let keys = Mat { data: k.data, row: k.col, col: k.row };
    T::gemm((n, n, size.hd), q, keys, s, n, false, size.batch == 1);
    scale_and_shift(s, T::of(size.scale()), bias.unwrap_or(&[]));
}

wide! {
    /// `s·scale (+ bias)`.
    fn scale_and_shift(s: &mut [T], scale: T, bias: &[T]) {
        if bias.is_empty() {
            s.iter_mut().for_each(|s| *s *= scale);
        } else {
            s.iter_mut().zip(bias).for_each(|(s, &b)| *s = *s * scale + b);
        }
    }
}

impl Attention {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let size = AttentionSize::of(args.ty(0), self.spec.heads);
        let AttentionSize { tokens: n, heads, hd, .. } = size;
        let d = size.width();
        let qkv = args.real(0);
        let biases = self.spec.biases(args.real(1), n);
        let (o, lse) = (args.out(0), args.out(1));
        par_chunks2(o, lse, (n * d, heads * n), |b, o, lse| {
            let qkv = &qkv[b * n * 3 * d..][..n * 3 * d];
            let mut s = vec![T::ZERO; n * n];
            for h in 0..heads {
                scores(&size, qkv, h, biases.chunks(n * n).nth(h), &mut s);
                softmax_rows(&mut s, &mut lse[h * n..(h + 1) * n]);
                let p = Mat { data: &s, row: n, col: 1 };
                T::gemm((n, hd, n), p, size.part(qkv, 2, h), &mut o[h * hd..], d, false, size.batch == 1);
            }
        });
    }
}

wide! {
    /// Softmax of every row in place; the log-sum-exp of each goes to `lse`.
    fn softmax_rows(s: &mut [T], lse: &mut [T]) {
        let n = s.len() / lse.len();
        for (row, lse) in s.chunks_mut(n).zip(lse) {
            let max = T::largest(row);
            for v in row.iter_mut() {
                *v = (*v - max).exp();
            }
            let sum = T::sum1(row, |v| v);
            let inv = T::ONE / sum;
            row.iter_mut().for_each(|v| *v *= inv);
            *lse = max + sum.ln();
        }
    }
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1 + usize::from(self.spec.grid.is_some()))?;
        self.spec.check(&inputs[0], inputs.get(1))?;
        let (b, n) = (inputs[0].dim(0), inputs[0].dim(1));
        Ok(vec![
            TensorType::real(&[b, n, inputs[0].dim(2) / 3])?,
            TensorType::real(&[b, self.spec.heads, n])?,
        ])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let mut inputs = vec![v.cotangent()?, v.inputs[0], v.outputs[0], v.outputs[1]];
        inputs.extend(v.inputs.get(1));
        let grads = v.g.apply_all(AttentionGrad { spec: self.spec }, &inputs)?;
        v.grads[0] = Some(grads[0]);
        if v.grads.len() > 1 {
            v.grads[1] = Some(grads[1]);
        }
        Ok(())
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let s = AttentionSize::of(&inputs[0], self.spec.heads);
        let shader = match () {
            () if in_lanes(caps) => "attention_lanes",
            () if in_tiles(caps, s.hd) => "attention_tile",
            () => "attention",
        };
        let call = KernelCall::new(shader, "forward").writes(&[0, 1]).reads(&[0]);
        let call = call.half("QKV_HALF", &inputs[0]).half("OUT_HALF", &outputs[0]);
        let call = with_table(call, &self.spec, 1);
        let calls = match shader {
            "attention_lanes" => vec![s.lanes(caps, call, &self.spec, (0, s.heads), 1)],
            "attention_tile" => {
                let call = call.define("QKV_AT", 2);
                let groups = s.head_groups(2, s.heads).into_iter();
                groups
                    .map(|heads| s.in_tiles(call.clone(), &self.spec, heads, 1).work(s.flops(2, heads.1)))
                    .collect()
            }
            _ => vec![s.dispatch(call, &self.spec, s.rows(), (0, 0), 0)],
        };
        Ok(Kernels { calls, scratch: vec![] })
    }
    fn reads_half(&self, caps: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        input == 0 && takes_half(caps, &inputs[0], self.spec.heads)
    }
    fn writes_half(&self, caps: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        output == 0 && takes_half(caps, &inputs[0], self.spec.heads)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        let s = AttentionSize::of(&inputs[0], self.spec.heads);
        4 * (s.batch * s.tokens * s.tokens) as u64 * s.width() as u64
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (batch, tokens, hd, spec) in sample_sizes() {
        let qkv = [batch, tokens, 3 * spec.heads * hd];
        let table = [spec.table_rows(), spec.heads];
        let inputs: [(&[usize], _); 2] = [(&qkv, Normal), (&table, Normal)];
        b.add(Attention { spec }, &inputs[..1 + usize::from(spec.grid.is_some())]);
    }
}

/// (images, tokens, head width, spec) of the samples of attention and its vjp.
pub(crate) fn sample_sizes() -> Vec<(usize, usize, usize, AttentionSpec)> {
    let plain = [(1, 1, 1, 1), (2, 3, 5, 1), (1, 17, 8, 3), (2, 33, 16, 2), (1, 65, 32, 1), (3, 7, 3, 2)];
    let plain = plain.map(|(b, n, hd, heads)| (b, n, hd, AttentionSpec { heads, grid: None }));
    let grids = [
        (1, (1, 1), 4, 1),
        (2, (2, 2), 8, 2),
        (1, (2, 3), 5, 3),
        (2, (3, 2), 16, 1),
        (1, (1, 5), 7, 2),
        (9, (2, 2), 4, 2),
        (17, (1, 3), 3, 1),
        (2, (4, 4), 32, 2),
        (2, (5, 7), 16, 2),
        (1, (8, 8), 64, 2),
        (1, (14, 14), 8, 1),
    ];
    let grids = grids
        .map(|(b, grid, hd, heads)| (b, grid.0 * grid.1 + 1, hd, AttentionSpec { heads, grid: Some(grid) }));
    [&plain[..], &grids[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::AttentionSpec;

    /// The map that kernels read against the definition of a row.
    #[test]
    fn biases_follow_the_table() {
        for grid in [(1, 1), (2, 3), (3, 2), (1, 5), (7, 4)] {
            let spec = AttentionSpec { heads: 2, grid: Some(grid) };
            let n = grid.0 * grid.1 + 1;
            let table: Vec<f64> = (0..2 * spec.table_rows()).map(|i| i as f64).collect();
            for (at, &b) in spec.biases(&table, n).iter().enumerate() {
                let (head, i, j) = (at / (n * n), at / n % n, at % n);
                assert_eq!(b, (2 * spec.table_row(i, j) + head) as f64, "{grid:?} {head} {i} {j}");
            }
        }
    }

    /// The worked examples of beit-spec §2.3.
    #[test]
    fn table_rows_match_the_official_index() {
        let two = AttentionSpec { heads: 1, grid: Some((2, 2)) };
        let expected =
            [[11, 9, 9, 9, 9], [10, 4, 3, 1, 0], [10, 5, 4, 2, 1], [10, 7, 6, 4, 3], [10, 8, 7, 5, 4]];
        for (i, row) in expected.iter().enumerate() {
            for (j, &want) in row.iter().enumerate() {
                assert_eq!(two.table_row(i, j), want, "query {i}, key {j}");
            }
        }
        let base = AttentionSpec { heads: 12, grid: Some((14, 14)) };
        let sum: usize = (0..197 * 197).map(|ij| base.table_row(ij / 197, ij % 197)).sum();
        assert_eq!(sum, 14_270_119);
        assert_eq!(base.table_rows(), 732);
    }
}
