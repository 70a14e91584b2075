//! Dropout of whole channels of an image, `y = x·f(image, channel)` with `f` 1/keep or 0 (beit-spec §7.3 item 5).
//!
//! The draw is `rng(key, salt, image·C + channel)` in Rust and WGSL; its own vjp.

use super::{Args, Op, Vjp, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};
use crate::rng::Key;

use super::{Caps, KernelCall, Kernels};

/// `y` like `x[B,..,C]`, from `x` and the key (4 words).
#[derive(Debug, Clone)]
pub(crate) struct ChannelDropout {
    pub rate: f32,
    pub salt: u32,
}

/// Drops channels with probability `rate`; `salt` tells the uses of one key apart.
///
/// # Errors
/// If the key is not four words.
pub fn channel_dropout(g: &mut Graph, x: Var, key: Var, rate: f32, salt: u32) -> Result<Var> {
    g.apply(ChannelDropout { rate, salt }, &[x, key])
}

impl ChannelDropout {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (c, per_image) = (args.ty(0).cols(), args.ty(0).elements() / args.ty(0).dim(0));
        let (x, key) = (args.real(0), args.words(1));
        let (key, keep) = (Key([key[0], key[1], key[2], key[3]]).child(self.salt), 1.0 - self.rate);
        let inv = T::of(1.0 / f64::from(keep));
        par_chunks(args.out(0), per_image, |image, y| {
            let factor = |i: usize| {
                if key.uniform((image * c + i) as u32) < keep { inv } else { T::ZERO }
            };
            let factors: Vec<T> = (0..c).map(factor).collect();
            let x = &x[image * per_image..];
            y.iter_mut().enumerate().for_each(|(i, y)| *y = x[i] * factors[i % c]);
        });
    }
}

impl Op for ChannelDropout {
    fn name(&self) -> &'static str {
        "channel_dropout"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        expect_elements("key", &inputs[1], 4)?;
        Ok(vec![inputs[0].clone()])
    }
    fn differentiable(&self, input: usize) -> bool {
        input == 0
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let inputs = [v.cotangent()?, v.inputs[1]];
        v.grads[0] = Some(v.g.apply(self.clone(), &inputs)?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (t, keep) = (&inputs[0], 1.0 - self.rate);
        let call = KernelCall::new("channel_dropout", "channel_dropout").writes(&[0]).reads(&[0, 1]);
        let call = call.words(&[t.elements(), t.cols(), t.elements() / t.dim(0), self.salt as usize]);
        Ok(call.float(keep).float((1.0 / f64::from(keep)) as f32).each(t.elements(), 1).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Normal, Words};
    let shapes: [&[usize]; 7] =
        [&[1, 1], &[2, 3, 3, 5], &[3, 2, 1, 17], &[1, 7, 64], &[5, 1, 33], &[2, 9, 257], &[65, 4]];
    for (i, s) in shapes.into_iter().enumerate() {
        let op = ChannelDropout { rate: [0.1, 0.5, 0.0][i % 3], salt: i as u32 };
        b.add(op, &[(s, Normal), (&[4], Words(u32::MAX))]);
    }
}
