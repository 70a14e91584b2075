//! Ranges of columns: `slice` takes one, `pad` is its adjoint. Dropping the class token is a slice of an image's tokens.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// A range of the columns of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Columns of the whole matrix.
    pub all: usize,
    /// First one of the range.
    pub from: usize,
    /// Columns of the range.
    pub len: usize,
}

/// `y[r, i] = x[r, from + i]` in any shape of that many elements.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    pub columns: Columns,
    pub shape: Vec<usize>,
}

/// `y[r, from + i] = x[r, i]`, 0 elsewhere, in any shape of that many elements.
#[derive(Debug, Clone)]
pub(crate) struct Pad {
    pub columns: Columns,
    pub shape: Vec<usize>,
}

/// Columns `from..from+len` of `x[.., C]`.
///
/// # Errors
/// If there are not so many columns.
pub fn slice(g: &mut Graph, x: Var, from: usize, len: usize) -> Result<Var> {
    let columns = Columns { all: g.ty(x).cols(), from, len };
    let shape = g.ty(x).with_cols(len)?.shape().to_vec();
    g.apply(Slice { columns, shape }, &[x])
}

/// Rows `from..from+rows` of `x[R,C]`: `[rows,C]`.
///
/// # Errors
/// If there are not so many rows.
pub fn slice_rows(g: &mut Graph, x: Var, from: usize, rows: usize) -> Result<Var> {
    let c = g.ty(x).cols();
    let columns = Columns { all: g.ty(x).elements(), from: from * c, len: rows * c };
    g.apply(Slice { columns, shape: vec![rows, c] }, &[x])
}

/// The tokens of the patches, without the class token, as an image: `[B, h·w + 1, D]` to `[B, h, w, D]`.
///
/// # Errors
/// If the number of tokens is another.
pub fn patch_image(g: &mut Graph, x: Var, (h, w): (usize, usize)) -> Result<Var> {
    let (batch, tokens, d) = (g.ty(x).dim(0), g.ty(x).dim(1), g.ty(x).dim(2));
    if tokens != h * w + 1 {
        return Err(Error::shape("tokens do not fit the grid")
            .at(g.path("patch_image"))
            .expected(format!("{} for {h} x {w} patches", h * w + 1))
            .got(tokens.to_string()));
    }
    let columns = Columns { all: tokens * d, from: d, len: h * w * d };
    g.apply(Slice { columns, shape: vec![batch, h, w, d] }, &[x])
}

impl Columns {
    /// Rows of a matrix of `elements` with `cols` columns.
    fn rows(self, t: &TensorType, cols: usize) -> Result<usize> {
        if cols == 0 || self.from + self.len > self.all || t.elements() % cols != 0 {
            return Err(Error::shape("a range of columns that does not exist")
                .expected(format!("rows of {cols}"))
                .got(format!("{self:?} of {t}")));
        }
        Ok(t.elements() / cols)
    }
    fn vector(self) -> usize {
        vector(&[self.all, self.from, self.len])
    }
    fn call(self, entry: &'static str, elements: usize) -> KernelCall {
        let vec = self.vector();
        let n = elements / vec;
        let call = KernelCall::new("slice", entry).writes(&[0]).reads(&[0]);
        call.words(&[n, self.all / vec, self.from / vec, self.len / vec]).each(n, vec)
    }
}

impl Slice {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let Columns { all, from, len } = self.columns;
        let x = args.real(0);
        par_chunks(args.out(0), len, |r, y| y.copy_from_slice(&x[r * all + from..][..len]));
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let rows = self.columns.rows(&inputs[0], self.columns.all)?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("slice", &out, rows * self.columns.len)?;
        Ok(vec![out])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, shape) = (v.cotangent()?, v.g.shape(v.inputs[0]).to_vec());
        v.grads[0] = Some(v.g.apply(Pad { columns: self.columns, shape }, &[dy])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(self.columns.call("slice", outputs[0].elements()).into())
    }
    cpu_kernel!();
}

impl Pad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let Columns { all, from, len } = self.columns;
        let x = args.real(0);
        par_chunks(args.out(0), all, |r, y| {
            y.fill(T::ZERO);
            y[from..from + len].copy_from_slice(&x[r * len..][..len]);
        });
    }
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let rows = self.columns.rows(&inputs[0], self.columns.len)?;
        let out = TensorType::real(&self.shape)?;
        expect_elements("padded matrix", &out, rows * self.columns.all)?;
        Ok(vec![out])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, shape) = (v.cotangent()?, v.g.shape(v.inputs[0]).to_vec());
        v.grads[0] = Some(v.g.apply(Slice { columns: self.columns, shape }, &[dy])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(self.columns.call("pad", outputs[0].elements()).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (rows, all, from, len) in [
        (1, 1, 0, 1),
        (3, 7, 2, 5),
        (5, 17, 0, 3),
        (2, 65, 64, 1),
        (33, 12, 4, 8),
        (2, 260, 4, 256),
        (7, 257, 1, 255),
        (super::samples::MANY_ROWS, 3, 1, 1),
    ] {
        let columns = Columns { all, from, len };
        b.add(Slice { columns, shape: vec![rows, len] }, &[(&[rows, all], Normal)]);
        b.add(Pad { columns, shape: vec![rows, all] }, &[(&[rows, len], Normal)]);
    }
}
