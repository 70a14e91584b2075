//! Exponential moving average of a page of parameters: `ema ← d·ema + (1−d)·p`, skipped with the step.

use super::adamw::{EMA, EMA_C};
use super::clip::APPLY;
use super::{Args, CONTROL_LEN, HYPER_LEN, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::TensorType;

use super::units::widest;
use super::{Caps, KernelCall, Kernels};

/// Updates `ema` where it lies. Operands: `ema`, `param`, `control`, `hyper`.
#[derive(Debug, Clone)]
pub struct Ema;

const CHUNK: usize = 8192;

impl Ema {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (param, c, h) = (args.real(1), args.real(2), args.real(3));
        if c[APPLY] == T::ZERO {
            return;
        }
        par_chunks(args.out(0), CHUNK, |i, ema| {
            for (e, &p) in ema.iter_mut().zip(&param[i * CHUNK..]) {
                *e = h[EMA] * *e + h[EMA_C] * p;
            }
        });
    }
}

impl Op for Ema {
    fn name(&self) -> &'static str {
        "ema"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 4)?;
        expect_elements("parameters", &inputs[1], inputs[0].elements())?;
        expect_elements("control", &inputs[2], CONTROL_LEN)?;
        expect_elements("hyper-parameters", &inputs[3], HYPER_LEN)?;
        Ok(vec![inputs[0].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        3 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("ema", "ema").writes(&[0]).reads(&[1, 2, 3]);
        Ok(call.word(n / wide).runs(caps, n / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    for s in super::samples::ODD {
        for control in [Uniform(0.1, 0.9), Constant(0.0)] {
            let hyper: (&[usize], _) = (&[HYPER_LEN], Uniform(0.1, 0.9));
            b.add(Ema, &[(s, Normal), (s, Normal), (&[CONTROL_LEN], control), hyper]);
        }
    }
}
