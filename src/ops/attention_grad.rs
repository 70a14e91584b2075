//! Backward pass of [`super::attention`]: scores are recomputed from q, k and the saved log-sum-exp.
//!
//! With P = exp(S − lse), dP = dO·Vᵀ and δ = Σ dO⊙O per row: dS = P⊙(dP − δ), dV = Pᵀ·dO, dQ = scale·dS·K,
//! dK = scale·dSᵀ·Q, and each row of the bias table gathers its dS over images and token pairs in a fixed order.

use super::attend::{AttentionSize, in_lanes, in_tiles, takes_half, with_table};
use super::attention::{AttentionSpec, scores};
use super::{Access, Arg, Caps, KernelCall, Kernels};
use super::{Args, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Mat, Real, par_map, wide};
use crate::error::Result;
use crate::graph::TensorType;

/// Operands: `do[B,N,D]`, `qkv`, `o`, `lse`, and `table` if there is one. Results: `dqkv`, and `dtable`.
#[derive(Debug, Clone)]
pub(crate) struct AttentionGrad {
    pub spec: AttentionSpec,
}

/// Partial sums of the table gradient at most; fixed, so that results do not depend on threads.
const PARTS: usize = 16;

/// δ of every query row, and the map of summed score gradients, on a GPU.
const DELTA: Arg = Arg::Scratch(0);
const SUMS: Arg = Arg::Scratch(1);
/// Bytes of the map at once: heads go through in groups.
const SUMS_BYTES: usize = 32 << 20;

impl AttentionGrad {
    /// Groups of heads, (first, number), whose maps of summed score gradients are in memory together, and the map's type.
    fn head_groups(&self, s: &AttentionSize, stride: usize) -> Result<(Vec<(usize, usize)>, TensorType)> {
        let group = (SUMS_BYTES / 4 / (stride * stride)).clamp(1, s.heads);
        let groups = (0..s.heads).step_by(group).map(|first| (first, group.min(s.heads - first))).collect();
        Ok((groups, TensorType::real(&[group, stride, stride])?))
    }
    /// The gradient of the table from the map of a group of heads.
    fn table_call(&self, s: &AttentionSize, heads: (usize, usize), stride: usize) -> KernelCall {
        let call = KernelCall::new("attention_table", "table").writes(&[1]).bind(SUMS, Access::Read);
        s.dispatch(call, &self.spec, self.spec.table_rows() * heads.1, heads, stride)
    }
    /// The passes over queries and over keys, in the precision of what they bind.
    fn passes(
        &self,
        caps: &Caps,
        shader: &'static str,
        inputs: &[TensorType],
        output: &TensorType,
    ) -> [KernelCall; 2] {
        let halves = |call: KernelCall| {
            let call = call.half("QKV_HALF", &inputs[1]).half("DO_HALF", &inputs[0]);
            call.half("O_HALF", &inputs[2]).half("OUT_HALF", output)
        };
        let queries = KernelCall::new(shader, "queries").writes(&[0]).bind(DELTA, Access::Write);
        let queries = with_table(halves(queries).reads(&[0, 1, 3, 2]), caps, &self.spec, 4);
        let keys = KernelCall::new(shader, "keys").writes(&[0]).bind(DELTA, Access::Read);
        [queries, with_table(halves(keys).reads(&[0, 1, 3]), caps, &self.spec, 4)]
    }
    /// The kernels of `attention_tile.wgsl`; with a table each workgroup of the pass over the queries sums a run of
    /// images into a map of its own.
    fn tile_kernels(&self, s: &AttentionSize, [queries, keys]: [KernelCall; 2]) -> Result<Kernels> {
        let mut kernels = Kernels { calls: vec![], scratch: vec![TensorType::real(&[s.rows()])?] };
        if self.spec.grid.is_some() {
            let images = s.images_of_run();
            let parts = s.batch.div_ceil(images);
            let groups = s.head_groups(3, (SUMS_BYTES / 4 / (parts * s.tokens * s.tokens)).max(1));
            kernels.scratch.push(TensorType::real(&[parts, groups[0].1, s.tokens, s.tokens])?);
            for heads in groups {
                let call = queries.clone().bind(SUMS, Access::Write).define("QKV_AT", 3);
                kernels.calls.push(s.in_tiles(call, &self.spec, heads, images).work(s.flops(3, heads.1)));
                let mut table = self.table_call(s, heads, s.tokens).define("BY_KEY", 1);
                table.params.pop();
                let cells = (parts * heads.1 * s.tokens * s.tokens) as u64;
                kernels.calls.push(table.word(parts).work(cells));
            }
        } else {
            let call = queries.define("QKV_AT", 3);
            for heads in s.head_groups(3, s.heads) {
                kernels.calls.push(s.in_tiles(call.clone(), &self.spec, heads, 1).work(s.flops(3, heads.1)));
            }
        }
        for heads in s.head_groups(4, s.heads) {
            kernels.calls.push(s.in_tiles(keys.clone(), &self.spec, heads, 1).work(s.flops(4, heads.1)));
        }
        Ok(kernels)
    }
    /// The table's gradient, a group of heads at a time.
    fn table_kernels(&self, s: &AttentionSize, kernels: &mut Kernels) -> Result<()> {
        let (groups, map) = self.head_groups(s, s.tokens)?;
        kernels.scratch.push(map);
        for heads in groups {
            let call = KernelCall::new("attention_table", "pairs").bind(SUMS, Access::Write);
            let call = call.bind(DELTA, Access::Read).reads(&[0, 1, 3, 4]);
            let pairs = heads.1 * s.tokens * s.tokens;
            kernels.calls.push(s.dispatch(call, &self.spec, pairs, heads, s.tokens));
            kernels.calls.push(self.table_call(s, heads, s.tokens));
        }
        Ok(())
    }
    /// The kernels of `attention_lanes.wgsl`; with a table the pass over the queries fills the map on its way.
    fn lanes_kernels(
        &self,
        caps: &Caps,
        s: &AttentionSize,
        [queries, keys]: [KernelCall; 2],
    ) -> Result<Kernels> {
        let mut kernels = Kernels { calls: vec![], scratch: vec![TensorType::real(&[s.rows()])?] };
        if self.spec.grid.is_some() {
            let stride = s.map_stride(caps);
            let (groups, map) = self.head_groups(s, stride)?;
            kernels.scratch.push(map);
            for heads in groups {
                let call = queries.clone().bind(SUMS, Access::Write);
                kernels.calls.push(s.lanes(caps, call, &self.spec, heads, s.batch));
                kernels.calls.push(self.table_call(s, heads, stride));
            }
        } else {
            kernels.calls.push(s.lanes(caps, queries, &self.spec, (0, s.heads), 1));
        }
        kernels.calls.push(s.lanes(caps, keys, &self.spec, (0, s.heads), 1));
        Ok(kernels)
    }
}

/// One image's operands.
struct Image<'a, T> {
    d_o: &'a [T],
    qkv: &'a [T],
    o: &'a [T],
    lse: &'a [T],
}

impl AttentionGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let size = AttentionSize::of(args.ty(1), self.spec.heads);
        let (n, d, heads) = (size.tokens, size.width(), size.heads);
        let (d_o, qkv, o, lse) = (args.real(0), args.real(1), args.real(2), args.real(3));
        let biases = self.spec.biases(args.real(4), n);
        let dqkv = args.out(0);
        let per_part = size.batch.div_ceil(PARTS).max(1);
        let parts: Vec<Vec<T>> = par_parts(dqkv, per_part * n * 3 * d, |p, block| {
            let mut dbias = vec![T::ZERO; biases.len()];
            let mut work = (vec![T::ZERO; n * n], vec![T::ZERO; n * n]);
            for (i, dqkv) in block.chunks_mut(n * 3 * d).enumerate() {
                let b = p * per_part + i;
                let image = Image {
                    d_o: &d_o[b * n * d..][..n * d],
                    qkv: &qkv[b * n * 3 * d..][..n * 3 * d],
                    o: &o[b * n * d..][..n * d],
                    lse: &lse[b * heads * n..][..heads * n],
                };
                for h in 0..heads {
                    head_grad(&size, &image, h, biases.chunks(n * n).nth(h), &mut work, dqkv);
                    if let Some(dbias) = dbias.chunks_mut(n * n).nth(h) {
                        add(&work.1, dbias);
                    }
                }
            }
            dbias
        });
        if self.spec.grid.is_some() {
            self.gather_table(&parts, n, args.out(1));
        }
    }

    /// Sums the score gradients of every pair into its table row.
    fn gather_table<T: Real>(&self, parts: &[Vec<T>], n: usize, dtable: &mut [T]) {
        let (heads, rows) = (self.spec.heads, self.spec.table_rows());
        let columns = par_map(heads, |h| {
            let mut column = vec![T::ZERO; rows];
            parts.iter().for_each(|part| self.gather_column(&part[h * n * n..][..n * n], n, &mut column));
            column
        });
        for (r, row) in dtable.chunks_mut(heads).enumerate() {
            // Pairs of patches come last row first, so that they run along memory.
            let at = if r + 3 < rows { rows - 4 - r } else { r };
            row.iter_mut().zip(&columns).for_each(|(d, column)| *d = column[at]);
        }
    }

    /// Adds one head's map `[N,N]` to its column of the table; the rows of pairs of patches are in reverse order.
    fn gather_column<T: Real>(&self, map: &[T], n: usize, column: &mut [T]) {
        let rows = column.len();
        let gw = self.spec.grid.map_or(1, |g| g.1);
        for (i, row) in map.chunks(n).enumerate() {
            if i == 0 {
                column[rows - 1] += row[0];
                row[1..].iter().for_each(|&v| column[rows - 3] += v);
                continue;
            }
            column[rows - 2] += row[0];
            for (jy, cells) in row[1..].chunks(gw).enumerate() {
                let first = self.spec.run(i, jy, gw);
                column[first..first + gw].iter_mut().zip(cells).for_each(|(s, &v)| *s += v);
            }
        }
    }
}

/// Runs `work` on consecutive blocks of `out` in parallel; its results in order.
fn par_parts<T: Real>(
    out: &mut [T],
    size: usize,
    work: impl Fn(usize, &mut [T]) -> Vec<T> + Sync + Send,
) -> Vec<Vec<T>> {
    let blocks: Vec<std::sync::Mutex<&mut [T]>> = out.chunks_mut(size).map(std::sync::Mutex::new).collect();
    par_map(blocks.len(), |p| match blocks[p].lock() {
        Ok(mut block) => work(p, &mut block),
        Err(_) => vec![],
    })
}

/// dq, dk, dv of one head of one image into `dqkv`; leaves dS in `work.1`.
fn head_grad<T: Real>(
    size: &AttentionSize,
    image: &Image<'_, T>,
    h: usize,
    bias: Option<&[T]>,
    (p, ds): &mut (Vec<T>, Vec<T>),
    dqkv: &mut [T],
) {
    let (n, d, hd) = (size.tokens, size.width(), size.hd);
    let alone = size.batch == 1;
    scores(size, image.qkv, h, bias, p);
    let d_o = Mat { data: &image.d_o[h * hd..], row: d, col: 1 };
    let v = size.part(image.qkv, 2, h);
    T::gemm((n, n, hd), d_o, Mat { data: v.data, row: v.col, col: v.row }, ds, n, false, alone);
    let (d_o_rows, o_rows) = (image.d_o.chunks(d), image.o.chunks(d));
    let delta: Vec<T> = d_o_rows
        .zip(o_rows)
        .map(|(a, b)| T::sum2(&a[h * hd..][..hd], &b[h * hd..][..hd], |a, b| a * b))
        .collect();
    grad_rows(p, ds, &image.lse[h * n..][..n], &delta);
    let (q, k) = (size.part(image.qkv, 0, h), size.part(image.qkv, 1, h));
    let (rows, cols) = (|m| Mat { data: m, row: n, col: 1 }, |m| Mat { data: m, row: 1, col: n });
    let at = |which: usize| which * d + h * hd;
    T::gemm((n, hd, n), rows(ds.as_slice()), k, &mut dqkv[at(0)..], 3 * d, false, alone);
    T::gemm((n, hd, n), cols(ds.as_slice()), q, &mut dqkv[at(1)..], 3 * d, false, alone);
    T::gemm((n, hd, n), cols(p.as_slice()), d_o, &mut dqkv[at(2)..], 3 * d, false, alone);
    let scale = T::of(size.scale());
    for row in dqkv.chunks_mut(3 * d) {
        for which in 0..2 {
            row[at(which)..][..hd].iter_mut().for_each(|x| *x *= scale);
        }
    }
}

wide! {
    /// Scores `p` become probabilities, and `ds` (dP) becomes the gradient of the scores.
    fn grad_rows(p: &mut [T], ds: &mut [T], lse: &[T], delta: &[T]) {
        let n = p.len() / lse.len();
        let rows = p.chunks_mut(n).zip(ds.chunks_mut(n)).zip(lse.iter().zip(delta));
        for ((p, ds), (&lse, &delta)) in rows {
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = (*p - lse).exp();
                *ds = *p * (*ds - delta);
            }
        }
    }
}

wide! {
    fn add(x: &[T], sum: &mut [T]) {
        sum.iter_mut().zip(x).for_each(|(s, &v)| *s += v);
    }
}

impl Op for AttentionGrad {
    fn name(&self) -> &'static str {
        "attention_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4 + usize::from(self.spec.grid.is_some()))?;
        self.spec.check(&inputs[1], inputs.get(4))?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements() / 3)?;
        expect_elements("log-sum-exp", &inputs[3], inputs[1].dim(0) * inputs[1].dim(1) * self.spec.heads)?;
        let mut out = vec![inputs[1].clone()];
        out.extend(inputs.get(4).cloned());
        Ok(out)
    }
    fn reads_half(&self, caps: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        input < 3 && takes_half(caps, &inputs[1], self.spec.heads)
    }
    fn writes_half(&self, caps: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        output == 0 && takes_half(caps, &inputs[1], self.spec.heads)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let s = AttentionSize::of(&inputs[1], self.spec.heads);
        if in_lanes(caps) {
            return self.lanes_kernels(caps, &s, self.passes(caps, "attention_lanes", inputs, &outputs[0]));
        }
        if in_tiles(caps, s.hd) {
            return self.tile_kernels(&s, self.passes(caps, "attention_tile", inputs, &outputs[0]));
        }
        let [queries, keys] = self.passes(caps, "attention_grad", inputs, &outputs[0]);
        let mut kernels = Kernels {
            calls: vec![
                s.dispatch(queries, &self.spec, s.rows(), (0, 0), 0),
                s.dispatch(keys, &self.spec, s.rows(), (0, 0), 0),
            ],
            scratch: vec![TensorType::real(&[s.rows()])?],
        };
        if self.spec.grid.is_some() {
            self.table_kernels(&s, &mut kernels)?;
        }
        Ok(kernels)
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        let s = AttentionSize::of(&inputs[1], self.spec.heads);
        10 * (s.batch * s.tokens * s.tokens) as u64 * s.width() as u64
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Uniform};
    for (batch, tokens, hd, spec) in super::attention::sample_sizes() {
        let o = [batch, tokens, spec.heads * hd];
        let (qkv, lse) = ([batch, tokens, 3 * o[2]], [batch, spec.heads, tokens]);
        let table = [spec.table_rows(), spec.heads];
        let inputs: [(&[usize], _); 5] =
            [(&o, Normal), (&qkv, Normal), (&o, Normal), (&lse, Uniform(2.0, 4.0)), (&table, Normal)];
        b.add(AttentionGrad { spec }, &inputs[..4 + usize::from(spec.grid.is_some())]);
    }
}
