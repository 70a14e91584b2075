//! What the generic suites share: a sample placed in the middle of a graph, and the checks run on it.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod check;
pub mod probe;

use beit::graph::TensorType;
use beit::ops::{Args, Caps, Epilogue, Kernels, Op, Product, View, ViewMut, Vjp};
use beit::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// An op behind a pointer, so that a sample's op can be applied.
#[derive(Clone)]
pub struct Shared(pub Arc<dyn Op>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Op for Shared {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        self.0.infer(inputs)
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        self.0.vjp(v)
    }
    fn differentiable(&self, input: usize) -> bool {
        self.0.differentiable(input)
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        self.0.in_place()
    }
    fn as_product(&self) -> Option<&dyn Product> {
        self.0.as_product()
    }
    fn is_product(&self) -> bool {
        self.0.is_product()
    }
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        self.0.as_epilogue(input)
    }
    fn reads_half(&self, caps: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        self.0.reads_half(caps, input, inputs)
    }
    fn writes_half(&self, caps: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        self.0.writes_half(caps, output, inputs)
    }
    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        self.0.flops(inputs, outputs)
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        self.0.kernels(caps, inputs, outputs)
    }
    fn run_f32(&self, args: &mut Args<'_, f32>) {
        self.0.run_f32(args);
    }
    fn run_f64(&self, args: &mut Args<'_, f64>) {
        self.0.run_f64(args);
    }
}

/// `Σ r·y` of `y` and `r`: the scalar whose gradient has `r` itself as cotangent of `y`.
#[derive(Debug)]
pub struct Project;

impl Project {
    fn dot<T: beit::cpu::Real>(args: &mut Args<'_, T>) {
        let (y, r) = (args.real(0), args.real(1));
        args.out(0)[0] = y.iter().zip(r).fold(T::ZERO, |s, (&y, &r)| s + y * r);
    }
}

impl Op for Project {
    fn name(&self) -> &'static str {
        "project"
    }
    fn infer(&self, _: &[TensorType]) -> Result<Vec<TensorType>> {
        Ok(vec![TensorType::real(&[1])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        v.grads[0] = Some(v.inputs[1]);
        Ok(())
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn run_f32(&self, args: &mut Args<'_, f32>) {
        Self::dot(args);
    }
    fn run_f64(&self, args: &mut Args<'_, f64>) {
        Self::dot(args);
    }
}

/// Type and first field of an op as its `Debug` prints it: `Scale { s: 2.0 }` gives `Scale`.
pub fn kind(op: &dyn Op) -> String {
    let text = format!("{op:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_string()
}

/// Whether an error only says that an op has no derivative.
pub fn is_missing_vjp(e: &Error) -> bool {
    e.what == "no derivative"
}

/// Copies of an op's operands.
pub fn own(args: &Args<'_, f32>) -> Vec<Operand> {
    args.ins
        .iter()
        .map(|v| match v {
            View::Real(r) => Operand::Real(r.to_vec()),
            View::Word(w) => Operand::Word(w.to_vec()),
        })
        .collect()
}

/// An owned operand.
#[derive(Debug, Clone)]
pub enum Operand {
    /// Real numbers.
    Real(Vec<f32>),
    /// Words.
    Word(Vec<u32>),
}

/// Runs an op's f32 kernel on owned operands, leaving the results in place in `args`.
pub fn run_on(op: &dyn Op, operands: &[Operand], args: &mut Args<'_, f32>) {
    let ins = operands
        .iter()
        .map(|o| match o {
            Operand::Real(r) => View::Real(r.as_slice()),
            Operand::Word(w) => View::Word(w.as_slice()),
        })
        .collect();
    let outs = args
        .outs
        .iter_mut()
        .map(|o| match o {
            ViewMut::Real(r) => ViewMut::Real(r),
            ViewMut::Word(w) => ViewMut::Word(w),
        })
        .collect();
    op.run_f32(&mut Args { ins, outs, in_types: args.in_types, out_types: args.out_types });
}
