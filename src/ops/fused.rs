//! A matrix product and the op that its elements go through, in one pass (drawn by `plan::fuse`, never by a model).
//!
//! The CPU kernel runs the one op and then the other, so that a fused plan is checked against an unfused one.

use super::epilogue::Ending;
use super::{Args, Caps, Kernels, Op, View, ViewMut};
use crate::cpu::Real;
use crate::error::{Error, Result};
use crate::graph::TensorType;
use std::sync::Arc;

/// Operands: those of `product`, then those of `then` without number `at`, which is the product.
/// Results: that of `then`, and the product itself if `keep`.
#[derive(Debug, Clone)]
pub(crate) struct Fused {
    pub product: Arc<dyn Op>,
    pub then: Arc<dyn Op>,
    /// Operands of `product`.
    pub operands: usize,
    pub at: usize,
    pub keep: bool,
}

impl Fused {
    /// Type of the product, and the operand types of the op after it.
    fn types(&self, inputs: &[TensorType]) -> Result<(TensorType, Vec<TensorType>)> {
        if inputs.len() < self.operands + self.at {
            return Err(Error::shape("too few operands of a fused product").got(inputs.len().to_string()));
        }
        let (own, rest) = inputs.split_at(self.operands);
        let product = self.product.infer(own)?.swap_remove(0);
        let mut then = rest.to_vec();
        then.insert(self.at, product.clone());
        Ok((product, then))
    }
    fn compose<T: Real>(&self, args: &mut Args<'_, T>, run: impl Fn(&dyn Op, &mut Args<'_, T>)) {
        let Ok((ty, then_types)) = self.types(args.in_types) else { return };
        let (own, rest) = args.ins.split_at(self.operands);
        let mut product = vec![T::ZERO; ty.elements()];
        run(
            &*self.product,
            &mut Args {
                ins: own.to_vec(),
                outs: vec![ViewMut::Real(&mut product)],
                in_types: &args.in_types[..self.operands],
                out_types: &[ty],
            },
        );
        let mut ins = rest.to_vec();
        ins.insert(self.at, View::Real(&product));
        let out_types = &args.out_types[..1];
        let outs = vec![ViewMut::Real(args.out(0))];
        run(&*self.then, &mut Args { ins, outs, in_types: &then_types, out_types });
        if self.keep {
            args.out(1).copy_from_slice(&product);
        }
    }
}

impl Op for Fused {
    fn name(&self) -> &'static str {
        self.product.name()
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        let (product, then) = self.types(inputs)?;
        let mut out = self.then.infer(&then)?;
        out.extend(self.keep.then_some(product));
        Ok(out)
    }
    fn is_product(&self) -> bool {
        true
    }
    fn reads_half(&self, caps: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        if input < self.operands {
            return self.product.reads_half(caps, input, &inputs[..self.operands]);
        }
        // The operand of the product's shape: the ending reads it unit by unit.
        let Ok((product, then)) = self.types(inputs) else { return false };
        let own = input - self.operands;
        let own = own + usize::from(own >= self.at);
        product.cols() % 4 == 0 && self.then.reads_half(caps, own, &then)
    }
    fn writes_half(&self, caps: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        let Ok((_, then)) = self.types(inputs) else { return false };
        let product = self.product.writes_half(caps, 0, &inputs[..self.operands]);
        product && (output == 1 || self.then.writes_half(caps, output, &then))
    }
    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let Ok((product, then)) = self.types(inputs) else { return 0 };
        self.product.flops(&inputs[..self.operands], &[product]) + self.then.flops(&then, &outputs[..1])
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (Some(product), Some(e)) = (self.product.as_product(), self.then.as_epilogue(self.at)) else {
            return Err(Error::device("these two cannot be one kernel").at(format!("{self:?}")));
        };
        let ending = Ending::new(e, self.operands, inputs, outputs);
        product.kernels_ending(caps, &inputs[..self.operands], &outputs[0], Some(&ending))
    }
    fn run_f32(&self, args: &mut Args<'_, f32>) {
        self.compose(args, |op, a| op.run_f32(a));
    }
    fn run_f64(&self, args: &mut Args<'_, f64>) {
        self.compose(args, |op, a| op.run_f64(a));
    }
}

/// An op after a product, which operand of it the product is, and whether it has the other operand, a γ and a key.
type After = (Arc<dyn Op>, usize, bool, bool, bool);

/// Applications for the generic suite: every ending on products of odd sizes, with and without the product kept, split
/// along k, and after convolutions.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::add::AddScaled;
    use super::conv2d::{Conv2d, Conv2dGradInput};
    use super::gelu::{Gelu, GeluGrad};
    use super::matmul::Matmul;
    use super::relu::{Relu, ReluGrad};
    use super::residual::{DropPath, Residual};
    use super::samples::Fill::{self, Normal, Words};
    let drop = Some(DropPath { rate: 0.5, salt: 3 });
    let endings: [After; 9] = [
        (Arc::new(Gelu), 0, false, false, false),
        (Arc::new(GeluGrad), 0, true, false, false),
        (Arc::new(Relu), 0, false, false, false),
        (Arc::new(ReluGrad), 0, true, false, false),
        (Arc::new(AddScaled { s: -0.5 }), 1, true, false, false),
        (Arc::new(AddScaled { s: 1.0 }), 0, true, false, false),
        (Arc::new(Residual { gamma: false, drop: None }), 1, true, false, false),
        (Arc::new(Residual { gamma: true, drop: None }), 1, true, true, false),
        (Arc::new(Residual { gamma: true, drop }), 1, true, true, true),
    ];
    // Samples of 3 rows each; 4099 terms are split along k.
    let sizes = [(6, 5, 7), (33, 64, 17), (66, 12, 31), (3, 8, 4099), (6, 7, 4099), (120, 96, 64)];
    for (i, &(m, n, k)) in sizes.iter().enumerate() {
        for (e, (then, at, other, gamma, key)) in endings.iter().enumerate() {
            let (ta, tb, bias) = ((i + e) % 2 == 1, (i + e) % 3 > 0, (i + e) % 5 > 1);
            let shape = vec![m / 3, 3, n];
            let product = Matmul { m, n, k, ta, tb, bias, shape: shape.clone() };
            let fused = Fused {
                product: Arc::new(product),
                then: then.clone(),
                operands: 2 + usize::from(bias),
                at: *at,
                keep: (i + e / 2) % 2 == 0,
            };
            let (left, right) = (if ta { [k, m] } else { [m, k] }, if tb { [n, k] } else { [k, n] });
            let mut inputs: Vec<(&[usize], Fill)> = vec![(&left, Normal), (&right, Normal)];
            let width = [n];
            inputs.extend(bias.then_some((&width[..], Normal)));
            inputs.extend(other.then_some((&shape[..], Normal)));
            inputs.extend(gamma.then_some((&width[..], Normal)));
            inputs.extend(key.then_some((&[4][..], Words(u32::MAX))));
            b.add(fused, &inputs);
        }
    }
    for (e, (then, at, other, gamma, key)) in endings.iter().enumerate() {
        for (h, w, c, o) in [(5, 7, 3, 4), (8, 4, 8, 5)] {
            if *gamma || *key {
                continue;
            }
            let back = e % 2 == 1;
            let product: Arc<dyn Op> = if back { Arc::new(Conv2dGradInput) } else { Arc::new(Conv2d) };
            let operands = if back { 2 } else { 3 };
            let fused = Fused { product, then: then.clone(), operands, at: *at, keep: e % 3 == 0 };
            let (x, y, weight) = ([2, h, w, c], [2, h, w, o], [o, c, 3, 3]);
            let (from, to) = if back { (y, x) } else { (x, y) };
            let bias = [o];
            let mut inputs: Vec<(&[usize], Fill)> = vec![(&from, Normal), (&weight, Normal)];
            inputs.extend((!back).then_some((&bias[..], Normal)));
            inputs.extend(other.then_some((&to[..], Normal)));
            b.add(fused, &inputs);
        }
    }
}
