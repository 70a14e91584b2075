//! `y = a + s·b` and `y = s·a`: sums of cotangents and scaled residuals.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::widest;
use super::{Caps, Epilogue, KernelCall, Kernels};

const CHUNK: usize = 8192;

/// `y = a + s·b`.
#[derive(Debug, Clone)]
pub(crate) struct AddScaled {
    pub s: f32,
}

/// `a + b`.
///
/// # Errors
/// If the sizes differ.
pub fn add(g: &mut Graph, a: Var, b: Var) -> Result<Var> {
    add_scaled(g, a, b, 1.0)
}

/// `a + s·b`.
///
/// # Errors
/// If the sizes differ.
pub fn add_scaled(g: &mut Graph, a: Var, b: Var, s: f32) -> Result<Var> {
    g.apply(AddScaled { s }, &[a, b])
}

/// The value of `hard` with the gradient of `soft`: what a straight-through estimator decodes. `soft + (hard − soft)`, the
/// bracket a constant, is `hard` to rounding.
///
/// # Errors
/// If the sizes differ.
pub fn straight_through(g: &mut Graph, soft: Var, hard: Var) -> Result<Var> {
    let step = add_scaled(g, hard, soft, -1.0)?;
    g.apply(AddStill, &[soft, step])
}

/// `s·a`.
///
/// # Errors
/// Never for a real tensor.
pub fn scale(g: &mut Graph, a: Var, s: f32) -> Result<Var> {
    if s == 1.0 { Ok(a) } else { g.apply(Scale { s }, &[a]) }
}

/// `y = a + b` with `b` held still: no gradient flows to it.
#[derive(Debug, Clone)]
pub(crate) struct AddStill;

impl AddStill {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        AddScaled { s: 1.0 }.run(args);
    }
}

impl Op for AddStill {
    fn name(&self) -> &'static str {
        "add_still"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        AddScaled { s: 1.0 }.infer(inputs)
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        v.grads[0] = Some(v.cotangent()?);
        Ok(())
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        AddScaled { s: 1.0 }.kernels(caps, inputs, outputs)
    }
    cpu_kernel!();
}

impl AddScaled {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (a, b, s) = (args.real(0), args.real(1), T::of(f64::from(self.s)));
        par_chunks(args.out(0), CHUNK, |i, y| {
            let at = i * CHUNK;
            for ((y, &a), &b) in y.iter_mut().zip(&a[at..]).zip(&b[at..]) {
                *y = a + s * b;
            }
        });
    }
}

impl Op for AddScaled {
    fn name(&self) -> &'static str {
        "add"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("second summand", &inputs[1], inputs[0].elements())?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(dy);
        if v.wanted[1] {
            v.grads[1] = Some(scale(v.g, dy, self.s)?);
        }
        Ok(())
    }
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        (input == 1 || self.s == 1.0).then_some(Epilogue::Add { s: self.s })
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("add", "add_scaled").writes(&[0]).reads(&[0, 1]);
        Ok(call.word(n / wide).float(self.s).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

/// `y = s·a`.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    pub s: f32,
}

impl Scale {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (a, s) = (args.real(0), T::of(f64::from(self.s)));
        par_chunks(args.out(0), CHUNK, |i, y| {
            y.iter_mut().zip(&a[i * CHUNK..]).for_each(|(y, &a)| *y = s * a);
        });
    }
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![inputs[0].clone()])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(scale(v.g, dy, self.s)?);
        Ok(())
    }
    fn reads_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn writes_half(&self, _: &Caps, _: usize, inputs: &[TensorType]) -> bool {
        inputs[0].elements() % 4 == 0
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("add", "scale").writes(&[0]).reads(&[0]);
        let call = call.half("Y_HALF", &outputs[0]).half("X_HALF", &inputs[0]);
        Ok(call.word(n / wide).float(self.s).each(n / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for (i, s) in super::samples::ODD.iter().enumerate() {
        let factor = [1.0, -0.375, 2.5][i % 3];
        b.add(AddScaled { s: factor }, &[(s, Normal), (s, Normal)]);
        b.add(Scale { s: -factor }, &[(s, Normal)]);
        b.add(AddStill, &[(s, Normal), (s, Normal)]);
    }
}
