//! Rows of length 1: `y = x / max(‖x‖, eps)` (beit-spec §8.2, §8.3).

use super::units::vector;
use super::{Args, Caps, KernelCall, Kernels, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks, par_chunks2};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// Results `y` like `x[.., D]`, and `inverse[rows]` = 1/max(‖x‖, eps).
#[derive(Debug, Clone)]
pub(crate) struct L2Normalize {
    pub eps: f32,
}

/// `dx = inverse·(dy − y·(y·dy))` from `dy`, `y`, `inverse`; a row shorter than eps is only scaled.
#[derive(Debug, Clone)]
pub(crate) struct L2NormalizeGrad {
    pub eps: f32,
}

/// Divides every row by its length, or by `eps` if it is shorter.
///
/// # Errors
/// Never for a real tensor.
pub fn l2_normalize(g: &mut Graph, x: Var, eps: f32) -> Result<Var> {
    g.apply(L2Normalize { eps }, &[x])
}

impl L2Normalize {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let d = args.ty(0).cols();
        let (x, eps) = (args.real(0), T::of(f64::from(self.eps)));
        let (y, inverse) = (args.out(0), args.out(1));
        par_chunks2(y, inverse, (d, 1), |r, y, inverse| {
            let x = &x[r * d..][..d];
            let norm = x.iter().fold(T::ZERO, |s, &v| s + v * v).sqrt();
            inverse[0] = T::ONE / norm.max(eps);
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * inverse[0]);
        });
    }
}

impl Op for L2Normalize {
    fn name(&self) -> &'static str {
        "l2_normalize"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone(), TensorType::real(&[inputs[0].rows()])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.outputs[0], v.outputs[1]];
        v.grads[0] = Some(v.g.apply(L2NormalizeGrad { eps: self.eps }, &inputs)?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[0].rows(), inputs[0].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("l2_normalize", "forward").writes(&[0, 1]).reads(&[0]);
        Ok(call.words(&[rows, cols / vec]).float(self.eps).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

impl L2NormalizeGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let d = args.ty(1).cols();
        let (dy, y, inverse) = (args.real(0), args.real(1), args.real(2));
        // Rows cut off at eps have this inverse; longer ones a smaller one.
        let cut = T::ONE / T::of(f64::from(self.eps));
        par_chunks(args.out(0), d, |r, dx| {
            let (dy, y, inv) = (&dy[r * d..][..d], &y[r * d..][..d], inverse[r]);
            let dot = dy.iter().zip(y).fold(T::ZERO, |s, (&a, &b)| s + a * b);
            let dot = if inv >= cut { T::ZERO } else { dot };
            for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = inv * (dy - y * dot);
            }
        });
    }
}

impl Op for L2NormalizeGrad {
    fn name(&self) -> &'static str {
        "l2_normalize_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("cotangent", &inputs[0], inputs[1].elements())?;
        expect_elements("inverse lengths", &inputs[2], inputs[1].rows())?;
        Ok(vec![inputs[1].clone()])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        4 * inputs[1].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, cols) = (inputs[1].rows(), inputs[1].cols());
        let vec = vector(&[cols]);
        let call = KernelCall::new("l2_normalize", "grad").writes(&[0]).reads(&[0, 1, 2]);
        Ok(call.words(&[rows, cols / vec]).float(self.eps).rows(caps, rows, cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    for s in super::samples::ROWS.iter().skip(2) {
        let rows: usize = s[..s.len() - 1].iter().product();
        b.add(L2Normalize { eps: 1e-12 }, &[(s, Normal)]);
        b.add(L2NormalizeGrad { eps: 1e-12 }, &[(s, Normal), (s, Normal), (&[rows], Uniform(0.1, 2.0))]);
    }
    // Rows shorter than eps, and of length 0.
    b.add(L2Normalize { eps: 100.0 }, &[(&[3, 5], Normal)]);
    b.add(L2Normalize { eps: 0.5 }, &[(&[2, 4], Constant(0.0))]);
    b.add(L2NormalizeGrad { eps: 0.5 }, &[(&[2, 4], Normal), (&[2, 4], Normal), (&[2], Constant(2.0))]);
}
