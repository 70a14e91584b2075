//! The control block of an optimiser step: global norm, clip factor, the decision whether to step at all.
//!
//! A step whose gradient norm is not finite changes nothing; it is counted. The decision is taken here, on the device,
//! and read by every update kernel as a branch (a multiplication by zero would keep a NaN).

use super::adamw::{BETA1_C, BETA2_C, CLIP, INV_SCALE};
use super::{Args, HYPER_LEN, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::TensorType;

use super::{Caps, KernelCall, Kernels};

/// Numbers in a control block.
pub const CONTROL_LEN: usize = 16;
/// Sum of squares of all gradients (before un-scaling).
pub(crate) const NORM2: usize = 0;
/// Global gradient norm before clipping (after un-scaling).
pub(crate) const NORM: usize = 1;
/// Factor that update kernels apply to every gradient: clipping and un-scaling.
pub(crate) const FACTOR: usize = 2;
/// 1 if the step is taken, 0 if it is skipped.
pub(crate) const APPLY: usize = 3;
/// 1 − β₁ᵗ and 1 − β₂ᵗ, t = number of applied steps, built up without cancellation.
pub(crate) const CORRECTION1: usize = 4;
pub(crate) const CORRECTION2: usize = 5;
/// Steps taken.
pub(crate) const APPLIED: usize = 6;
/// Steps skipped, in all and in a row.
pub(crate) const SKIPPED: usize = 7;
pub(crate) const SKIPPED_IN_A_ROW: usize = 8;
/// Dynamic loss scale (0 before the first step) and steps taken since it last changed.
pub(crate) const SCALE: usize = 9;
pub(crate) const CALM: usize = 10;

/// The first loss scale, the largest, and the steps after which it doubles: those that are usual in the field.
const FIRST_SCALE: f32 = 65_536.0;
const LARGEST_SCALE: f32 = 16_777_216.0;
const CALM_STEPS: f32 = 2000.0;

/// A control block as the host reads it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Control {
    /// Global gradient norm before clipping.
    pub grad_norm: f32,
    /// Factor applied to every gradient: clipping and un-scaling.
    pub factor: f32,
    /// Whether the last step was taken.
    pub applied: bool,
    /// Steps taken.
    pub steps: u64,
    /// Steps skipped because of non-finite gradients.
    pub skipped: u64,
    /// Skipped without a good one in between.
    pub skipped_in_a_row: u64,
    /// Factor of the next step's loss; `None` without loss scaling.
    pub loss_scale: Option<f32>,
}

impl Control {
    /// Reads a block; missing numbers count as 0.
    pub fn read(block: &[f32]) -> Self {
        let at = |i: usize| block.get(i).copied().unwrap_or(0.0);
        Control {
            grad_norm: at(NORM),
            factor: at(FACTOR),
            applied: at(APPLY) != 0.0,
            steps: at(APPLIED) as u64,
            skipped: at(SKIPPED) as u64,
            skipped_in_a_row: at(SKIPPED_IN_A_ROW) as u64,
            loss_scale: Some(at(SCALE)).filter(|s| *s > 0.0),
        }
    }
}

/// Finishes the control block where it lies. Operands: `control`, `hyper`.
///
/// With `scaled` the loss was multiplied with the block's loss scale, which halves after a step that is skipped and
/// doubles after [`CALM_STEPS`] good ones.
#[derive(Debug, Clone)]
pub struct ClipControl {
    /// Dynamic loss scaling.
    pub scaled: bool,
}

/// The factor of a step's loss, `[1]`, from the control block.
#[derive(Debug, Clone)]
pub(crate) struct LossScale;

fn scale_of<T: Real>(control: &[T]) -> T {
    if control[SCALE] > T::ZERO { control[SCALE] } else { T::of(f64::from(FIRST_SCALE)) }
}

impl LossScale {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        args.out(0)[0] = scale_of(args.real(0));
    }
}

impl Op for LossScale {
    fn name(&self) -> &'static str {
        "loss_scale"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        expect_elements("control", &inputs[0], CONTROL_LEN)?;
        Ok(vec![TensorType::real(&[1])?])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        Ok(KernelCall::new("clip", "loss_scale").writes(&[0]).reads(&[0]).float(FIRST_SCALE).into())
    }
    cpu_kernel!();
}

impl ClipControl {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (hyper, c) = (args.real(1), args.out(0));
        let mut inverse = hyper[INV_SCALE];
        if self.scaled {
            let scale = scale_of(c);
            inverse *= T::ONE / scale;
            c[SCALE] = scale;
        }
        c[NORM] = c[NORM2].sqrt() * inverse;
        if !c[NORM].is_finite() {
            c[APPLY] = T::ZERO;
            c[SKIPPED] += T::ONE;
            c[SKIPPED_IN_A_ROW] += T::ONE;
            if self.scaled {
                c[SCALE] = (c[SCALE] * T::of(0.5)).max(T::ONE);
                c[CALM] = T::ZERO;
            }
            return;
        }
        c[APPLY] = T::ONE;
        c[SKIPPED_IN_A_ROW] = T::ZERO;
        c[APPLIED] += T::ONE;
        let clip = hyper[CLIP] / (c[NORM] + T::of(1e-6));
        let factor = if hyper[CLIP] > T::ZERO && clip < T::ONE { clip } else { T::ONE };
        c[FACTOR] = factor * inverse;
        if self.scaled {
            c[CALM] += T::ONE;
            if c[CALM] >= T::of(f64::from(CALM_STEPS)) {
                let double = c[SCALE] * T::of(2.0);
                let largest = T::of(f64::from(LARGEST_SCALE));
                c[SCALE] = if double < largest { double } else { largest };
                c[CALM] = T::ZERO;
            }
        }
        c[CORRECTION1] += (T::ONE - c[CORRECTION1]) * hyper[BETA1_C];
        c[CORRECTION2] += (T::ONE - c[CORRECTION2]) * hyper[BETA2_C];
    }
}

impl Op for ClipControl {
    fn name(&self) -> &'static str {
        "clip"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("control", &inputs[0], CONTROL_LEN)?;
        expect_elements("hyper-parameters", &inputs[1], HYPER_LEN)?;
        Ok(vec![inputs[0].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0)]
    }
    fn kernels(&self, _: &Caps, _: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let call = KernelCall::new("clip", "clip").writes(&[0]).reads(&[1]);
        if !self.scaled {
            return Ok(call.into());
        }
        Ok(call.define("SCALED", 1).float(FIRST_SCALE).float(LARGEST_SCALE).float(CALM_STEPS).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Head, Uniform};
    // Clipped, not clipped, clipping off, a norm that is not finite.
    for (control, hyper) in [
        (Head(50.0), Uniform(0.1, 0.4)),
        (Head(0.5), Uniform(0.5, 0.9)),
        (Head(1e6), Uniform(0.1, 0.9)),
        (Head(0.0), Uniform(0.1, 0.9)),
        (Head(1e-8), Uniform(0.1, 0.9)),
        (Head(0.25), Constant(0.0)),
        (Head(f32::INFINITY), Uniform(0.1, 0.9)),
        (Constant(0.0), Uniform(0.1, 0.9)),
    ] {
        for scaled in [false, true] {
            b.add(ClipControl { scaled }, &[(&[CONTROL_LEN], control), (&[HYPER_LEN], hyper)]);
        }
    }
    // The first step, one that doubles the scale, and one at the largest.
    for control in [Constant(0.0), Constant(2500.0), Constant(LARGEST_SCALE)] {
        b.add(ClipControl { scaled: true }, &[(&[CONTROL_LEN], control), (&[HYPER_LEN], Uniform(0.1, 0.9))]);
    }
    for control in [Constant(0.0), Uniform(1.0, 9.0), Constant(1024.0)] {
        b.add(LossScale, &[(&[CONTROL_LEN], control)]);
    }
}
