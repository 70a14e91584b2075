//! Multi-head self-attention with the relative position bias computed from its table (beit-spec §2.3, §2.4).
//!
//! Operands: `qkv[B,N,3D]` (q, k, v side by side, heads side by side in each), optionally `table[R,H]`.
//! Results: `o[B,N,D]` and the log-sum-exp of every score row, `lse[B,H,N]`, which is all that the backward pass needs.

use super::attend::{AttentionSize, in_lanes, in_tiles, takes_half, with_table};
use super::attention_grad::AttentionGrad;
use super::{Args, Op, Vjp, arity, cpu_kernel, expect_shape};
use super::{Caps, KernelCall, Kernels};
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
        let call = with_table(call, caps, &self.spec, 1);
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
