//! AdamW over a flat page, decoupled weight decay (beit-spec §5.3).
//!
//! `p ← p·(1 − lr·s·wd·w)`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
//! `p ← p − lr·s·(m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + eps)`, with `s` (learning-rate scale) and `w` (0 or 1: decayed) per parameter.

use super::clip::{APPLY, CORRECTION1, CORRECTION2, FACTOR};
use super::{Args, CONTROL_LEN, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks3, wide};
use crate::error::Result;
use crate::graph::TensorType;

use super::units::widest;
use super::{Caps, KernelCall, Kernels};

/// Numbers in a block of hyper-parameters.
pub const HYPER_LEN: usize = 12;
pub(crate) const LR: usize = 0;
pub(crate) const WEIGHT_DECAY: usize = 1;
pub(crate) const BETA1: usize = 2;
pub(crate) const BETA1_C: usize = 3;
pub(crate) const BETA2: usize = 4;
pub(crate) const BETA2_C: usize = 5;
pub(crate) const EPS: usize = 6;
pub(crate) const CLIP: usize = 7;
pub(crate) const INV_SCALE: usize = 8;
pub(crate) const EMA: usize = 9;
pub(crate) const EMA_C: usize = 10;

/// Hyper-parameters of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of the moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// Factor that the loss was multiplied with.
    pub loss_scale: f64,
    /// Decay of the moving average of the parameters.
    pub ema: f64,
}

impl Hyper {
    /// The block that update kernels read; complements are rounded after subtracting, so that 1−β keeps its digits.
    pub fn block(&self) -> [f32; HYPER_LEN] {
        let mut b = [0.0; HYPER_LEN];
        b[LR] = self.lr as f32;
        b[WEIGHT_DECAY] = self.weight_decay as f32;
        (b[BETA1], b[BETA1_C]) = (self.betas.0 as f32, (1.0 - self.betas.0) as f32);
        (b[BETA2], b[BETA2_C]) = (self.betas.1 as f32, (1.0 - self.betas.1) as f32);
        b[EPS] = self.eps as f32;
        b[CLIP] = self.clip as f32;
        b[INV_SCALE] = (1.0 / self.loss_scale) as f32;
        (b[EMA], b[EMA_C]) = (self.ema as f32, (1.0 - self.ema) as f32);
        b
    }
}

/// Elements that share a learning-rate scale and decay (parameters start at multiples of it).
pub(crate) const GROUP: usize = 64;

/// Updates `param`, `m`, `v` where they lie. Operands: `param`, `m`, `v`, `grad`, `control`, `hyper`,
/// `groups[2·n/64]` = (learning-rate scale, decayed) per 64 elements.
#[derive(Debug, Clone)]
pub struct AdamW;

impl AdamW {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (grad, c, h, groups) = (args.real(3), args.real(4), args.real(5), args.real(6));
        let (param, m, v) = (args.out(0), args.out(1), args.out(2));
        if c[APPLY] == T::ZERO {
            return;
        }
        par_chunks3([param, m, v], GROUPS * GROUP, |i, [p, m, v]| {
            update(&grad[i * GROUPS * GROUP..], &groups[i * GROUPS * 2..], c, h, p, m, v);
        });
    }
}

/// Groups that the CPU kernel takes at once.
const GROUPS: usize = 64;

wide! {
    /// Whole groups; `c` and `h` are the control block and the hyper-parameters.
    fn update(grad: &[T], groups: &[T], c: &[T], h: &[T], p: &mut [T], m: &mut [T], v: &mut [T]) {
        let (beta1, beta1_c, beta2, beta2_c) = (h[BETA1], h[BETA1_C], h[BETA2], h[BETA2_C]);
        let (factor, eps, root) = (c[FACTOR], h[EPS], T::ONE / c[CORRECTION2].sqrt());
        let pages = p.chunks_mut(GROUP).zip(m.chunks_mut(GROUP)).zip(v.chunks_mut(GROUP));
        for (((p, m), v), (grad, group)) in pages.zip(grad.chunks(GROUP).zip(groups.chunks(2))) {
            let lr = h[LR] * group[0];
            let (keep, step) = (T::ONE - lr * h[WEIGHT_DECAY] * group[1], lr / c[CORRECTION1]);
            for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(grad) {
                let g = g * factor;
                *m = beta1 * *m + beta1_c * g;
                *v = beta2 * *v + beta2_c * g * g;
                *p = *p * keep - step * *m / (v.sqrt() * root + eps);
            }
        }
    }
}

impl Op for AdamW {
    fn name(&self) -> &'static str {
        "adamw"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 7)?;
        let n = inputs[0].elements();
        for (what, i) in [("first moment", 1), ("second moment", 2), ("gradient", 3)] {
            expect_elements(what, &inputs[i], n)?;
        }
        expect_elements("control", &inputs[4], CONTROL_LEN)?;
        expect_elements("hyper-parameters", &inputs[5], HYPER_LEN)?;
        expect_elements("groups", &inputs[6], 2 * n.div_ceil(GROUP))?;
        Ok(inputs[..3].to_vec())
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 1), (2, 2)]
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        16 * inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let n = inputs[0].elements();
        let wide = widest(caps, &[n]);
        let call = KernelCall::new("adamw", "adamw").writes(&[0, 1, 2]).reads(&[3, 4, 5, 6]);
        Ok(call.word(n / wide).runs(caps, n / wide, wide).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    let control: &[usize] = &[CONTROL_LEN];
    let hyper: (&[usize], _) = (&[HYPER_LEN], Uniform(0.1, 0.9));
    for n in [1, 7, 63, 64, 65, 127, 257, 4097, 64 * 257 + 1] {
        let (page, groups): (&[usize], &[usize]) = (&[n], &[2 * n.div_ceil(GROUP)]);
        let state = [(page, Normal), (page, Normal), (page, Uniform(0.0, 1.0)), (page, Normal)];
        for control in [(control, Uniform(0.1, 0.9)), (control, Constant(0.0))] {
            let rest = [control, hyper, (groups, Uniform(0.1, 1.0))];
            b.add(AdamW, &[&state[..], &rest[..]].concat());
        }
    }
}
