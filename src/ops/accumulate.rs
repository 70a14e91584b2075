//! Adds a value to a running total where it lies: gradients over micro-batches.

use super::{Args, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::widest;
use super::{Caps, KernelCall, Kernels};

/// Operands: `total` (updated where it lies), `x`.
#[derive(Debug, Clone)]
pub(crate) struct Accumulate;

/// `total + x`, stored in `total`'s place.
///
/// # Errors
/// If the sizes differ.
pub fn accumulate(g: &mut Graph, total: Var, x: Var) -> Result<Var> {
    g.apply(Accumulate, &[total, x])
}

const CHUNK: usize = 8192;

impl Accumulate {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let x = args.real(1);
        par_chunks(args.out(0), CHUNK, |i, total| {
            total.iter_mut().zip(&x[i * CHUNK..]).for_each(|(t, &x)| *t += x);
        });
    }
}

impl Op for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("summand", &inputs[1], inputs[0].elements())?;
        Ok(vec![inputs[0].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let wide = widest(caps, &[inputs[0].elements()]);
        let words = inputs[0].elements() / wide;
        Ok(KernelCall::new("accumulate", "accumulate")
            .writes(&[0])
            .reads(&[1])
            .word(words)
            .each(words, wide)
            .into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for s in super::samples::ODD {
        b.add(Accumulate, &[(s, Normal), (s, Normal)]);
    }
}
