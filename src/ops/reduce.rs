//! Sums in a fixed order: over rows, over everything, and the broadcast that is the vjp of a sum.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, chunked_sum, par_map};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::{vector, widest};
use super::{Access, Arg, Caps, KernelCall, Kernels, Tier};

/// Rows summed one after the other before partial sums are added (also the WGSL kernel's order).
pub(crate) const ROW_BLOCK: usize = 256;

/// `y[c] = Σ_r x[r, c]`, with `c` in `0..cols` and the result in any shape of `cols` elements.
#[derive(Debug, Clone)]
pub(crate) struct ColSum {
    pub cols: usize,
    pub shape: Vec<usize>,
}

/// Sums `x`, seen as rows of `cols`, over its rows.
///
/// # Errors
/// If `shape` does not hold `cols` elements or `x` is not whole rows.
pub fn col_sum(g: &mut Graph, x: Var, cols: usize, shape: &[usize]) -> Result<Var> {
    let known = g.column_sums(x).filter(|&sums| g.ty(x).cols() == cols && g.shape(sums) == shape);
    if let Some(sums) = known {
        return Ok(sums);
    }
    g.apply(ColSum { cols, shape: shape.to_vec() }, &[x])
}

impl ColSum {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (x, y) = (args.real(0), args.out(0));
        let parts = par_map(x.len().div_ceil(ROW_BLOCK * self.cols), |p| {
            let mut part = vec![T::ZERO; self.cols];
            for row in x.chunks(ROW_BLOCK * self.cols).nth(p).into_iter().flat_map(|b| b.chunks(self.cols)) {
                part.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
            }
            part
        });
        y.fill(T::ZERO);
        for part in parts {
            y.iter_mut().zip(part).for_each(|(s, v)| *s += v);
        }
    }
}

impl Op for ColSum {
    fn name(&self) -> &'static str {
        "col_sum"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        expect_elements("rows", &inputs[0], inputs[0].elements() / self.cols * self.cols)?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("column sums", &out, self.cols)?;
        Ok(vec![out])
    }
    fn reads_half(&self, _: &Caps, _: usize, _: &[TensorType]) -> bool {
        self.cols % 4 == 0
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let rows = inputs[0].elements() / self.cols;
        let block = row_block(caps);
        let mut kernels = Kernels::default();
        sum_blocks(caps, &mut kernels, rows.div_ceil(block), self.cols, &[Arg::Out(0)], |to| {
            let call = col_sum_call(caps, &[Arg::In(0)], to, (rows, self.cols, block));
            call.half("X_HALF", &inputs[0])
        })?;
        Ok(kernels)
    }
    cpu_kernel!();
}

/// `y = scale · Σ x`, a scalar `[1]`.
#[derive(Debug, Clone)]
pub(crate) struct Sum {
    pub scale: f32,
}

/// The sum of all elements.
///
/// # Errors
/// Never for a real tensor.
pub fn sum(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Sum { scale: 1.0 }, &[x])
}

/// The mean of all elements.
///
/// # Errors
/// Never for a real tensor.
pub fn mean(g: &mut Graph, x: Var) -> Result<Var> {
    let scale = 1.0 / g.ty(x).elements() as f32;
    g.apply(Sum { scale }, &[x])
}

impl Sum {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0);
        let total = chunked_sum(x.len(), 4096, |r| T::sum1(&x[r], |v| v));
        args.out(0)[0] = total * T::of(f64::from(self.scale));
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![TensorType::real(&[1])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let shape = v.g.shape(v.inputs[0]).to_vec();
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(Broadcast { scale: self.scale, shape }, &[dy])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let parts = n.div_ceil(SUM_BLOCK);
        let part = |from, to, n: usize, block: usize, vec: usize, scale: f32| {
            let call = KernelCall::new("reduce", "sum").bind(to, Access::Write).bind(from, Access::Read);
            call.words(&[n / vec, block / vec]).float(scale)
        };
        if parts == 1 {
            let vec = vector(&[n]);
            return Ok(part(Arg::In(0), Arg::Out(0), n, n, vec, self.scale).alone(vec).into());
        }
        let vec = vector(&[n]);
        let first = part(Arg::In(0), Arg::Scratch(0), n, SUM_BLOCK, vec, 1.0);
        let last = part(Arg::Scratch(0), Arg::Out(0), parts, parts, 1, self.scale);
        Ok(Kernels {
            calls: vec![first.rows(caps, parts, SUM_BLOCK / vec, vec), last.alone(1)],
            scratch: vec![TensorType::real(&[parts])?],
        })
    }
    cpu_kernel!();
}

/// `y[i] = scale · x[0]` in the given shape.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    pub scale: f32,
    pub shape: Vec<usize>,
}

impl Broadcast {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(0)[0] * T::of(f64::from(self.scale));
        args.out(0).fill(x);
    }
}

impl Op for Broadcast {
    fn name(&self) -> &'static str {
        "broadcast"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        expect_elements("scalar", &inputs[0], 1)?;
        Ok(vec![TensorType::real(&self.shape)?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(Sum { scale: self.scale }, &[dy])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let n = outputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("reduce", "broadcast").writes(&[0]).reads(&[0]);
        Ok(call.word(n / vec).float(self.scale).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

/// Elements per partial sum of [`Sum`].
const SUM_BLOCK: usize = 4096;

/// Rows that one invocation of a first-stage kernel adds up: fewer on a GPU, which needs many invocations.
pub(crate) fn row_block(caps: &Caps) -> usize {
    if caps.tier == Tier::Hardware { 64 } else { ROW_BLOCK }
}

/// Sums over rows in stages. `first` makes the dispatch that writes `blocks` rows of `cols` partial sums into each of
/// the places it is given; further stages add [`ROW_BLOCK`] rows at a time until one is left, in `results`.
pub(crate) fn sum_blocks(
    caps: &Caps,
    kernels: &mut Kernels,
    blocks: usize,
    cols: usize,
    results: &[Arg],
    first: impl FnOnce(&[Arg]) -> KernelCall,
) -> Result<()> {
    let mut rows = blocks;
    let mut from = stage(kernels, rows, cols, results)?;
    kernels.calls.push(first(&from));
    while rows > 1 {
        let next = rows.div_ceil(ROW_BLOCK);
        let to = stage(kernels, next, cols, results)?;
        let size = (rows, cols, ROW_BLOCK);
        kernels.calls.push(col_sum_call(caps, &from, &to, size));
        (rows, from) = (next, to);
    }
    Ok(())
}

/// Where a stage of `rows` partial sums goes: transients, or the results if there is one row.
fn stage(kernels: &mut Kernels, rows: usize, cols: usize, results: &[Arg]) -> Result<Vec<Arg>> {
    if rows == 1 {
        return Ok(results.to_vec());
    }
    let transient = |_| {
        kernels.scratch.push(TensorType::real(&[rows, cols])?);
        Ok(Arg::Scratch(kernels.scratch.len() - 1))
    };
    results.iter().map(transient).collect()
}

/// Sums the columns of one or two matrices of equal size.
pub(crate) fn col_sum_call(
    caps: &Caps,
    from: &[Arg],
    to: &[Arg],
    (rows, cols, block): (usize, usize, usize),
) -> KernelCall {
    let (wide, blocks) = (widest(caps, &[cols]), rows.div_ceil(block));
    let mut call = KernelCall::new("reduce", "col_sum");
    for (&from, &to) in from.iter().zip(to) {
        call = call.bind(to, Access::Write).bind(from, Access::Read);
    }
    let call = if from.len() == 2 { call.define("PAIR", 1) } else { call };
    let cols = cols / wide;
    call.words(&[blocks * cols, rows, cols, block]).down(caps, blocks, cols, wide)
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (i, s) in super::samples::ODD.iter().enumerate() {
        let scale = [1.0, -0.25][i % 2];
        b.add(Sum { scale }, &[(s, Normal)]);
        b.add(Broadcast { scale, shape: s.to_vec() }, &[(&[1], Normal)]);
    }
    let large: &[&[usize]] = &[&[513, 3], &[255, 17], &[256, 65], &[super::samples::MANY_ROWS, 1]];
    for s in super::samples::ROWS.iter().chain(large) {
        let cols = s[s.len() - 1];
        b.add(ColSum { cols, shape: vec![cols] }, &[(s, Normal)]);
    }
    b.add(ColSum { cols: 15, shape: vec![1, 3, 5] }, &[(&[7, 3, 5], Normal)]);
    b.add(ColSum { cols: 105, shape: vec![7, 3, 5] }, &[(&[7, 3, 5], Normal)]);
}
