//! Matrix product with optional transposed operands and bias: every linear layer, its gradients, 1×1 convolutions.
//!
//! `c[m,n] = A[m,k]·B[k,n] (+ bias[n])`, where A is stored `[k,m]` if `ta` and B `[n,k]` if `tb`.

use super::gemm::{Gemm, Matrix};
use super::{Arg, Caps, Ending, Kernels, Product};
use super::{Args, Op, Vjp, arity, col_sum, cpu_kernel, expect_elements};
use crate::cpu::{Mat, Real};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

/// See the module text. Operands may have any shape of the right number of elements.
#[derive(Debug, Clone)]
pub(crate) struct Matmul {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub ta: bool,
    pub tb: bool,
    pub bias: bool,
    pub shape: Vec<usize>,
}

/// `x[.., k]·wᵀ + b` with `w: [n, k]` (trailing dimensions of 1 allowed) and `b: [n]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn linear(g: &mut Graph, x: Var, w: Var, b: Option<Var>) -> Result<Var> {
    let (n, k) = (g.ty(w).dim(0), g.ty(w).elements() / g.ty(w).dim(0));
    if g.ty(x).cols() != k {
        return Err(Error::shape("linear layer on the wrong width")
            .at(g.path("linear"))
            .expected(format!("[.., {k}]"))
            .got(g.ty(x).to_string()));
    }
    let shape = g.ty(x).with_cols(n)?.shape().to_vec();
    let op = Matmul { m: g.ty(x).rows(), n, k, ta: false, tb: true, bias: b.is_some(), shape };
    let inputs: Vec<Var> = [Some(x), Some(w), b].into_iter().flatten().collect();
    g.apply(op, &inputs)
}

/// `A·B` of two matrices `[m,k]` and `[k,n]`, each stored transposed if its flag is set.
///
/// # Errors
/// If the inner sizes differ.
pub fn matmul(g: &mut Graph, a: Var, b: Var, ta: bool, tb: bool) -> Result<Var> {
    let (ar, ac) = (g.ty(a).rows(), g.ty(a).cols());
    let (br, bc) = (g.ty(b).rows(), g.ty(b).cols());
    let (m, k) = if ta { (ac, ar) } else { (ar, ac) };
    let n = if tb { br } else { bc };
    g.apply(Matmul { m, n, k, ta, tb, bias: false, shape: vec![m, n] }, &[a, b])
}

/// `x[.., k]·table[k, n]`: sums of the rows of a table, weighted by each row of `x`.
///
/// # Errors
/// If the sizes do not fit.
pub fn mix_rows(g: &mut Graph, x: Var, table: Var) -> Result<Var> {
    let (k, n) = (g.ty(table).rows(), g.ty(table).cols());
    let shape = g.ty(x).with_cols(n)?.shape().to_vec();
    g.apply(Matmul { m: g.ty(x).rows(), n, k, ta: false, tb: false, bias: false, shape }, &[x, table])
}

impl Matmul {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let Matmul { m, n, k, .. } = *self;
        let (a, b, c) = (args.real(0), args.real(1), args.out(0));
        let a = if self.ta { Mat { data: a, row: 1, col: m } } else { Mat { data: a, row: k, col: 1 } };
        let b = if self.tb { Mat { data: b, row: 1, col: k } } else { Mat { data: b, row: n, col: 1 } };
        if self.bias {
            T::gemm_bias((m, n, k), a, b, args.real(2), c);
        } else {
            T::gemm((m, n, k), a, b, c, n, false, true);
        }
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2 + usize::from(self.bias))?;
        expect_elements("left matrix", &inputs[0], self.m * self.k)?;
        expect_elements("right matrix", &inputs[1], self.k * self.n)?;
        if self.bias {
            expect_elements("bias", &inputs[2], self.n)?;
        }
        let out = TensorType::real(&self.shape)?;
        expect_elements("product", &out, self.m * self.n)?;
        Ok(vec![out])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let Matmul { m, n, k, ta, tb, .. } = *self;
        let (a, b, dc) = (v.inputs[0], v.inputs[1], v.cotangent()?);
        let (shape_a, shape_b) = (v.g.shape(a).to_vec(), v.g.shape(b).to_vec());
        if v.wanted[0] {
            v.grads[0] = Some(if ta {
                let op = Matmul { m: k, n: m, k: n, ta: tb, tb: true, bias: false, shape: shape_a };
                v.g.apply(op, &[b, dc])?
            } else {
                let op = Matmul { m, n: k, k: n, ta: false, tb: !tb, bias: false, shape: shape_a };
                v.g.apply(op, &[dc, b])?
            });
        }
        if v.wanted[1] {
            v.grads[1] = Some(if tb {
                let op = Matmul { m: n, n: k, k: m, ta: true, tb: ta, bias: false, shape: shape_b };
                v.g.apply(op, &[dc, a])?
            } else {
                let op = Matmul { m: k, n, k: m, ta: !ta, tb: false, bias: false, shape: shape_b };
                v.g.apply(op, &[a, dc])?
            });
        }
        if self.bias && v.wanted[2] {
            let shape = v.g.shape(v.inputs[2]).to_vec();
            v.grads[2] = Some(col_sum(v.g, dc, n, &shape)?);
        }
        Ok(())
    }
    fn reads_half(&self, _: &Caps, input: usize, _: &[TensorType]) -> bool {
        let columns = match input {
            0 if self.ta => self.m,
            1 if !self.tb => self.n,
            0 | 1 => self.k,
            _ => return false,
        };
        columns % 4 == 0
    }
    fn writes_half(&self, _: &Caps, _: usize, _: &[TensorType]) -> bool {
        self.n % 4 == 0
    }
    fn as_product(&self) -> Option<&dyn Product> {
        Some(self)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        self.kernels_ending(caps, inputs, &outputs[0], None)
    }
    fn flops(&self, _: &[TensorType], _: &[TensorType]) -> u64 {
        2 * (self.m * self.n) as u64 * self.k as u64
    }
    cpu_kernel!();
}

impl Product for Matmul {
    fn kernels_ending(
        &self,
        caps: &Caps,
        inputs: &[TensorType],
        output: &TensorType,
        ending: Option<&Ending>,
    ) -> Result<Kernels> {
        let Matmul { m, n, k, ta, tb, .. } = *self;
        let mut kernels = Kernels::default();
        let gemm = Gemm {
            m,
            n,
            k,
            a: Matrix::new(Arg::In(0), if ta { m } else { k }).transposed(ta).of(&inputs[0]),
            b: Matrix::new(Arg::In(1), if tb { k } else { n }).transposed(tb).of(&inputs[1]),
            c: Matrix::new(Arg::Out(0), n).of(output),
            bias: self.bias.then_some((Arg::In(2), 0)),
            accumulate: false,
            ending,
        };
        gemm.draw(caps, &mut kernels)?;
        Ok(kernels)
    }
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (i, (m, n, k)) in [
        (1, 1, 1),
        (1, 17, 3),
        (5, 1, 7),
        (3, 5, 2),
        (17, 33, 65),
        (65, 17, 33),
        (33, 65, 17),
        (64, 64, 64),
        (65, 129, 31),
        (257, 3, 5),
        (2, 255, 256),
        (33, 17, 4097),
        (128, 96, 64),
        (257, 64, 1),
    ]
    .into_iter()
    .enumerate()
    {
        for (j, (ta, tb)) in
            [(false, true), (false, false), (true, false), (true, true)].into_iter().enumerate()
        {
            let bias = (i + j) % 2 == 0;
            let (left, right) = (if ta { [k, m] } else { [m, k] }, if tb { [n, k] } else { [k, n] });
            let inputs: [(&[usize], _); 3] = [(&left, Normal), (&right, Normal), (&[n], Normal)];
            let op = Matmul { m, n, k, ta, tb, bias, shape: vec![m, n] };
            b.add(op, &inputs[..2 + usize::from(bias)]);
        }
    }
}
