//! One feature per image: the class token, or the mean of the patch tokens (beit-spec §2.7).

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// Which feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Token 0.
    Cls,
    /// Mean of tokens 1..N.
    MeanPatches,
}

/// `y[B,D]` from `x[B,N,D]`.
#[derive(Debug, Clone)]
pub(crate) struct PoolTokens {
    pub pool: Pool,
}

/// `dx[B,N,D]` from `dy[B,D]`.
#[derive(Debug, Clone)]
pub(crate) struct PoolTokensGrad {
    pub pool: Pool,
    pub tokens: usize,
}

/// One feature per image.
///
/// # Errors
/// If `x` is not `[B,N,D]`.
pub fn pool_tokens(g: &mut Graph, x: Var, pool: Pool) -> Result<Var> {
    g.apply(PoolTokens { pool }, &[x])
}

impl PoolTokens {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (n, d) = (args.ty(0).dim(1), args.ty(0).dim(2));
        let x = args.real(0);
        let inv = T::of(1.0 / (n - 1).max(1) as f64);
        par_chunks(args.out(0), d, |b, y| {
            let image = &x[b * n * d..][..n * d];
            if self.pool == Pool::Cls {
                y.copy_from_slice(&image[..d]);
                return;
            }
            y.fill(T::ZERO);
            for token in image.chunks(d).skip(1) {
                y.iter_mut().zip(token).for_each(|(y, &x)| *y += x);
            }
            y.iter_mut().for_each(|y| *y *= inv);
        });
    }
}

impl Op for PoolTokens {
    fn name(&self) -> &'static str {
        "pool_tokens"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![TensorType::real(&[inputs[0].dim(0), inputs[0].dim(2)])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let (dy, tokens) = (v.cotangent()?, v.g.ty(v.inputs[0]).dim(1));
        v.grads[0] = Some(v.g.apply(PoolTokensGrad { pool: self.pool, tokens }, &[dy])?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("pool", self.pool, inputs[0].dim(1), &outputs[0]))
    }
    cpu_kernel!();
}

impl PoolTokensGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (n, d) = (self.tokens, args.ty(0).dim(1));
        let dy = args.real(0);
        let inv = T::of(1.0 / (n - 1).max(1) as f64);
        par_chunks(args.out(0), d, |row, dx| {
            let (b, t) = (row / n, row % n);
            match (self.pool, t) {
                (Pool::Cls, 0) => dx.copy_from_slice(&dy[b * d..][..d]),
                (Pool::Cls, _) | (Pool::MeanPatches, 0) => dx.fill(T::ZERO),
                (Pool::MeanPatches, _) => {
                    dx.iter_mut().zip(&dy[b * d..]).for_each(|(dx, &dy)| *dx = dy * inv);
                }
            }
        });
    }
}

impl Op for PoolTokensGrad {
    fn name(&self) -> &'static str {
        "pool_tokens_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![TensorType::real(&[inputs[0].dim(0), self.tokens, inputs[0].dim(1)])?])
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        Ok(dispatch("grad", self.pool, self.tokens, &outputs[0]))
    }
    cpu_kernel!();
}

fn dispatch(entry: &'static str, pool: Pool, tokens: usize, out: &TensorType) -> Kernels {
    let vec = vector(&[out.cols()]);
    let n = out.elements() / vec;
    let call = KernelCall::new("pool_tokens", entry).writes(&[0]).reads(&[0]);
    let call = call.define("CLS", u32::from(pool == Pool::Cls)).words(&[n, out.cols() / vec, tokens]);
    call.float((1.0 / (tokens - 1).max(1) as f64) as f32).each(n, vec).into()
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (batch, tokens, d) in
        [(1, 2, 1), (2, 3, 5), (3, 17, 33), (1, 65, 64), (5, 2, 257), (2, 197, 3), (33, 5, 7)]
    {
        for pool in [Pool::Cls, Pool::MeanPatches] {
            b.add(PoolTokens { pool }, &[(&[batch, tokens, d], Normal)]);
            b.add(PoolTokensGrad { pool, tokens }, &[(&[batch, d], Normal)]);
        }
    }
    b.add(PoolTokens { pool: Pool::Cls }, &[(&[3, 1, 5], Normal)]);
}
