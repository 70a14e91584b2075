//! `y = a + s·b` where `s` is an input that changes from step to step (the KL weight of the tokenizer's loss).

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

const CHUNK: usize = 8192;

/// `y` like `a`, from `a`, `b`, `s[1]`.
#[derive(Debug, Clone)]
pub(crate) struct Combine;

/// `y = s·a` from `a`, `s[1]`.
#[derive(Debug, Clone)]
pub(crate) struct ScaleBy;

/// `a + s·b`.
///
/// # Errors
/// If the sizes do not fit.
pub fn combine(g: &mut Graph, a: Var, b: Var, s: Var) -> Result<Var> {
    g.apply(Combine, &[a, b, s])
}

impl Combine {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (a, b, s) = (args.real(0), args.real(1), args.real(2)[0]);
        par_chunks(args.out(0), CHUNK, |i, y| {
            let at = i * CHUNK;
            y.iter_mut().zip(&a[at..]).zip(&b[at..]).for_each(|((y, &a), &b)| *y = a + s * b);
        });
    }
}

impl Op for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("second summand", &inputs[1], inputs[0].elements())?;
        expect_elements("factor", &inputs[2], 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input < 2
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(dy);
        v.grads[1] = Some(v.g.apply(ScaleBy, &[dy, v.inputs[2]])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("combine", "combine").writes(&[0]).reads(&[2, 0, 1]);
        Ok(call.word(n / vec).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

impl ScaleBy {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (a, s) = (args.real(0), args.real(1)[0]);
        par_chunks(args.out(0), CHUNK, |i, y| {
            y.iter_mut().zip(&a[i * CHUNK..]).for_each(|(y, &a)| *y = s * a);
        });
    }
}

impl Op for ScaleBy {
    fn name(&self) -> &'static str {
        "scale_by"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("factor", &inputs[1], 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(ScaleBy, &[dy, v.inputs[1]])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let vec = vector(&[n]);
        let call = KernelCall::new("combine", "scale_by").writes(&[0]).reads(&[1, 0]);
        Ok(call.word(n / vec).each(n / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal};
    for (i, s) in super::samples::ODD.iter().enumerate() {
        let factor: (&[usize], _) = (&[1], if i % 4 == 3 { Constant(0.0) } else { Normal });
        b.add(Combine, &[(s, Normal), (s, Normal), factor]);
        b.add(ScaleBy, &[(s, Normal), factor]);
    }
}
