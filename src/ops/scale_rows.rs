//! `y[r, ..] = s[r]·x[r, ..]`, the gains of a weight-normalised layer (beit-spec §8.2), and the products along rows.

use super::units::vector;
use super::{Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// `y` like `x[.., D]`, from `x` and `s[rows]`.
#[derive(Debug, Clone)]
pub(crate) struct ScaleRows;

/// `y[r] = Σ_i a[r,i]·b[r,i]` in `shape`.
#[derive(Debug, Clone)]
pub(crate) struct RowDot {
    pub shape: Vec<usize>,
}

/// Multiplies every row by its own factor.
///
/// # Errors
/// If there are not as many factors as rows.
pub fn scale_rows(g: &mut Graph, x: Var, factors: Var) -> Result<Var> {
    g.apply(ScaleRows, &[x, factors])
}

/// `Σ_i a[r,i]·b[r,i]` of every row, `[rows]`.
///
/// # Errors
/// If the sizes differ.
pub fn row_dot(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    let shape = vec![g.ty(a).rows()];
    g.apply(RowDot { shape }, &[a, b])
}

impl ScaleRows {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let d = args.ty(0).cols();
        let (x, s) = (args.real(0), args.real(1));
        par_chunks(args.out(0), d, |r, y| {
            y.iter_mut().zip(&x[r * d..]).for_each(|(y, &x)| *y = s[r] * x);
        });
    }
}

impl Op for ScaleRows {
    fn name(&self) -> &'static str {
        "scale_rows"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("factors of rows", &inputs[1], inputs[0].rows())?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, x, s) = (v.cotangent()?, v.inputs[0], v.inputs[1]);
        if v.wanted[0] {
            v.grads[0] = Some(v.g.apply(ScaleRows, &[dy, s])?);
        }
        if v.wanted[1] {
            let shape = v.g.shape(s).to_vec();
            v.grads[1] = Some(v.g.apply(RowDot { shape }, &[dy, x])?);
        }
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let vec = vector(&[inputs[0].cols()]);
        let n = inputs[0].elements() / vec;
        let call = KernelCall::new("scale_rows", "scale").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[n, inputs[0].cols() / vec]).each(n, vec).into())
    }
    cpu_kernel!();
}

impl RowDot {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let d = args.ty(0).cols();
        let (a, b) = (args.real(0), args.real(1));
        par_chunks(args.out(0), 1, |r, y| {
            let (a, b) = (&a[r * d..][..d], &b[r * d..][..d]);
            y[0] = a.iter().zip(b).fold(T::ZERO, |s, (&a, &b)| s + a * b);
        });
    }
}

impl Op for RowDot {
    fn name(&self) -> &'static str {
        "row_dot"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("second factor", &inputs[1], inputs[0].elements())?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("products of rows", &out, inputs[0].rows())?;
        Ok(vec![out])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, a, b) = (v.cotangent()?, v.inputs[0], v.inputs[1]);
        v.grads[0] = Some(v.g.apply(ScaleRows, &[b, dy])?);
        v.grads[1] = Some(v.g.apply(ScaleRows, &[a, dy])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("scale_rows", "row_dot").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[rows, cols / vec]).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for s in super::samples::ROWS.iter().skip(1) {
        let rows: usize = s[..s.len() - 1].iter().product();
        b.add(ScaleRows, &[(s, Normal), (&[rows], Normal)]);
        b.add(RowDot { shape: vec![rows] }, &[(s, Normal), (s, Normal)]);
    }
}
