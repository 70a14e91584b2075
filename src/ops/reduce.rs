//! Sums in a fixed order: over rows, over everything, and the broadcast that is the vjp of a sum.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, chunked_sum, par_map};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

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
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
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
        let total = chunked_sum(x.len(), 4096, |r| x[r].iter().fold(T::ZERO, |a, &b| a + b));
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
    cpu_kernel!();
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
