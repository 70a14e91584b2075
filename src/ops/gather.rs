//! Picks rows of a matrix (or words of a list) by index, and its vjp through the inverse index.
//!
//! The host gives both directions, so that the backward pass needs neither atomics nor sorting: `index[m]` is the row
//! picked for slot `m`; `inverse[r]` is 1 + the slot that row `r` went to, or 0. Padding slots may repeat a row; they are
//! not in `inverse` and pass no cotangent.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// `y[M,C]` from `x[.., C]`, `index[M]`, `inverse[R]`.
#[derive(Debug, Clone)]
pub(crate) struct GatherRows;

/// `dx` in `shape` from `dy[M,C]`, `inverse[R]`.
#[derive(Debug, Clone)]
pub(crate) struct GatherRowsGrad {
    pub shape: Vec<usize>,
}

/// `y[M]` of words from `x` of words and `index[M]`; an index outside `x` gives 0.
#[derive(Debug, Clone)]
pub(crate) struct GatherWords;

/// Rows `index` of `x`.
///
/// # Errors
/// If the sizes do not fit.
pub fn gather_rows(g: &mut Graph, x: Var, index: Var, inverse: Var) -> Result<Var> {
    g.apply(GatherRows, &[x, index, inverse])
}

/// Words `index` of `x`.
///
/// # Errors
/// Never for lists of words.
pub fn gather_words(g: &mut Graph, x: Var, index: Var) -> Result<Var> {
    g.apply(GatherWords, &[x, index])
}

impl GatherRows {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (c, rows) = (args.ty(0).cols(), args.ty(0).rows());
        let (x, index) = (args.real(0), args.words(1));
        par_chunks(args.out(0), c, |m, y| {
            let r = (index[m] as usize).min(rows - 1);
            y.copy_from_slice(&x[r * c..][..c]);
        });
    }
}

impl Op for GatherRows {
    fn name(&self) -> &'static str {
        "gather_rows"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("inverse index", &inputs[2], inputs[0].rows())?;
        Ok(vec![TensorType::real(&[inputs[1].elements(), inputs[0].cols()])?])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, shape) = (v.cotangent()?, v.g.shape(v.inputs[0]).to_vec());
        v.grads[0] = Some(v.g.apply(GatherRowsGrad { shape }, &[dy, v.inputs[2]])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (c, rows) = (inputs[0].cols(), inputs[0].rows());
        let vec = vector(&[c]);
        let n = outputs[0].elements() / vec;
        let call = KernelCall::new("gather", "rows").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[n, c / vec, rows]).each(n, vec).into())
    }
    cpu_kernel!();
}

impl GatherRowsGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(0).cols();
        let (dy, inverse) = (args.real(0), args.words(1));
        par_chunks(args.out(0), c, |r, dx| match inverse[r] {
            0 => dx.fill(T::ZERO),
            slot => dx.copy_from_slice(&dy[(slot as usize - 1) * c..][..c]),
        });
    }
}

impl Op for GatherRowsGrad {
    fn name(&self) -> &'static str {
        "gather_rows_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("inverse index", &inputs[1], out.rows())?;
        Ok(vec![out])
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let c = inputs[0].cols();
        let vec = vector(&[c]);
        let n = outputs[0].elements() / vec;
        let call = KernelCall::new("gather", "rows_grad").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[n, c / vec, inputs[0].rows()]).each(n, vec).into())
    }
    cpu_kernel!();
}

impl GatherWords {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (x, index) = (args.words(0), args.words(1));
        for (y, &i) in args.out_words(0).iter_mut().zip(index) {
            *y = x.get(i as usize).copied().unwrap_or(0);
        }
    }
}

impl Op for GatherWords {
    fn name(&self) -> &'static str {
        "gather_words"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        Ok(vec![inputs[1].clone()])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[1].elements();
        let call = KernelCall::new("gather", "words").writes(&[0]).reads(&[0, 1]);
        Ok(call.words(&[n, inputs[0].elements(), 1]).each(n, 1).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{self, InverseSteps, Normal, Words};
    use super::samples::Steps;
    let cases: [(&[usize], usize); 9] = [
        (&[1, 1], 1),
        (&[5, 3], 2),
        (&[17, 33], 7),
        (&[65, 5], 65),
        (&[7, 257], 3),
        (&[2, 9, 4], 11),
        (&[3, 5, 64], 1),
        (&[257, 65], 129),
        (&[super::samples::MANY_ROWS, 1], 255),
    ];
    for (s, slots) in cases {
        let (rows, c) = (s[..s.len() - 1].iter().product::<usize>(), s[s.len() - 1]);
        let steps = Steps { first: 3 % rows as u32, step: rows as u32 - 1, rows: rows as u32 };
        let inverse: (&[usize], _) = (&[rows], InverseSteps(steps, slots as u32));
        b.add(GatherRows, &[(s, Normal), (&[slots], Fill::Steps(steps)), inverse]);
        // Padding: two slots more than the inverse knows.
        b.add_kinked(GatherRows, &[(s, Normal), (&[slots + 2], Fill::Steps(steps)), inverse]);
        b.add(GatherRowsGrad { shape: s.to_vec() }, &[(&[slots + 2, c], Normal), inverse]);
        b.add(GatherWords, &[(&[rows], Words(u32::MAX)), (&[slots], Words(rows as u32 + 3))]);
    }
}
