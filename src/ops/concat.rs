//! Rows side by side: `y[.., C₀+C₁+…]` from `x₀[.., C₀]`, `x₁[.., C₁]`, …; or one after the other: `y[R₀+R₁+…, C]` from
//! `x₀[R₀,C]`, `x₁[R₁,C]`, …, where every operand counts as a single row.

use super::slice::{Columns, Slice};
use super::{Args, Op, Vjp, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Access, Arg, Caps, KernelCall, Kernels};

/// See the module text; any number of operands.
#[derive(Debug, Clone)]
pub(crate) struct Concat {
    /// Put all rows of one operand behind those of the one before it.
    pub stack: bool,
}

/// Concatenates along the innermost dimension.
///
/// # Errors
/// If the other dimensions differ.
pub fn concat(g: &mut Graph, parts: &[Var]) -> Result<Var> {
    match parts {
        [one] => Ok(*one),
        _ => g.apply(Concat { stack: false }, parts),
    }
}

/// Puts rows `[Rᵢ,C]` one after the other: `[R₀+R₁+…, C]`.
///
/// # Errors
/// If the widths differ.
pub fn stack_rows(g: &mut Graph, parts: &[Var]) -> Result<Var> {
    match parts {
        [one] => Ok(*one),
        _ => g.apply(Concat { stack: true }, parts),
    }
}

impl Concat {
    /// Columns that an operand gives to every row of the result.
    fn cols(&self, t: &TensorType) -> usize {
        if self.stack { t.elements() } else { t.cols() }
    }
    /// First column of every operand.
    fn starts(&self, inputs: &[TensorType]) -> Vec<usize> {
        let sum = |at: &mut usize, t: &TensorType| Some(std::mem::replace(at, *at + self.cols(t)));
        inputs.iter().scan(0, sum).collect()
    }
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let starts = self.starts(args.in_types);
        let cols: Vec<usize> = args.in_types.iter().map(|t| self.cols(t)).collect();
        let parts: Vec<&[T]> = (0..starts.len()).map(|i| args.real(i)).collect();
        par_chunks(args.out(0), cols.iter().sum(), |r, y| {
            for ((part, &from), &c) in parts.iter().zip(&starts).zip(&cols) {
                y[from..from + c].copy_from_slice(&part[r * c..][..c]);
            }
        });
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let Some(first) = inputs.first() else {
            return Err(Error::shape("nothing to concatenate").expected("at least one operand"));
        };
        if self.stack {
            for t in inputs {
                expect_elements("columns of an operand", t, t.rows() * first.cols())?;
            }
            let rows: usize = inputs.iter().map(TensorType::rows).sum();
            return Ok(vec![TensorType::real(&[rows, first.cols()])?]);
        }
        for t in inputs {
            expect_elements("rows of an operand", t, first.rows() * t.cols())?;
        }
        Ok(vec![first.with_cols(inputs.iter().map(TensorType::cols).sum())?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        let types: Vec<TensorType> = v.inputs.iter().map(|&x| v.g.ty(x).clone()).collect();
        let all = self.cols(v.g.ty(dy));
        for (i, from) in self.starts(&types).into_iter().enumerate() {
            if v.wanted[i] {
                let columns = Columns { all, from, len: self.cols(&types[i]) };
                let op = Slice { columns, shape: types[i].shape().to_vec() };
                v.grads[i] = Some(v.g.apply(op, &[dy])?);
            }
        }
        Ok(())
    }
    /// One dispatch an operand, so that any number of them fits the adapter's bindings.
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let call = |(i, from): (usize, usize)| {
            let (t, cols, all) = (&inputs[i], self.cols(&inputs[i]), self.cols(&outputs[0]));
            let vec = vector(&[cols, from, all]);
            let n = t.elements() / vec;
            let call = KernelCall::new("concat", "concat");
            let call = call.bind(Arg::Out(0), Access::Write).bind(Arg::In(i), Access::Read);
            call.words(&[n, all / vec, from / vec, cols / vec]).each(n, vec)
        };
        Ok(Kernels {
            calls: self.starts(inputs).into_iter().enumerate().map(call).collect(),
            scratch: vec![],
        })
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    let cases: [(usize, &[usize]); 8] = [
        (1, &[1, 1]),
        (3, &[5, 2]),
        (7, &[4, 8, 4]),
        (2, &[65, 1, 3, 64]),
        (33, &[3]),
        (5, &[12, 12, 12, 12, 12, 12, 12, 12, 12]),
        (257, &[7, 4]),
        (2, &[256, 256]),
    ];
    for (rows, cols) in cases {
        let shapes: Vec<[usize; 2]> = cols.iter().map(|&c| [rows, c]).collect();
        let inputs: Vec<(&[usize], _)> = shapes.iter().map(|s| (&s[..], Normal)).collect();
        b.add(Concat { stack: false }, &inputs);
    }
    let stacks: [(usize, &[usize]); 5] =
        [(1, &[1, 2]), (5, &[2, 1]), (8, &[4, 16, 3]), (3, &[65, 1, 64]), (257, &[7, 4])];
    for (cols, rows) in stacks {
        let shapes: Vec<[usize; 2]> = rows.iter().map(|&r| [r, cols]).collect();
        let inputs: Vec<(&[usize], _)> = shapes.iter().map(|s| (&s[..], Normal)).collect();
        b.add(Concat { stack: true }, &inputs);
    }
}
