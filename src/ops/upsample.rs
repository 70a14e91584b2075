//! Nearest-neighbour upsampling ×2 of NHWC images.

use super::{Args, Op, Vjp, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

use super::units::{vector, widest};
use super::{Caps, KernelCall, Kernels};

/// `y[B,2H,2W,C]` from `x[B,H,W,C]`.
#[derive(Debug, Clone)]
pub(crate) struct Upsample;

/// `dx` = sum of the four cotangents, from `dy`.
#[derive(Debug, Clone)]
pub(crate) struct UpsampleGrad;

/// Nearest ×2.
///
/// # Errors
/// If `x` is not `[B,H,W,C]`.
pub fn upsample(g: &mut Graph, x: Var) -> Result<Var> {
    g.apply(Upsample, &[x])
}

fn four(t: &TensorType) -> Result<(usize, usize, usize, usize)> {
    match *t.shape() {
        [b, h, w, c] => Ok((b, h, w, c)),
        _ => Err(Error::shape("upsampling of the wrong shape").expected("[B,H,W,C]").got(t.to_string())),
    }
}

impl Upsample {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (w, c) = (args.ty(0).dim(2), args.ty(0).dim(3));
        let x = args.real(0);
        par_chunks(args.out(0), c, |pixel, y| {
            let (row, col) = (pixel / (2 * w), pixel % (2 * w));
            y.copy_from_slice(&x[(row / 2 * w + col / 2) * c..][..c]);
        });
    }
}

impl Op for Upsample {
    fn name(&self) -> &'static str {
        "upsample"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let (b, h, w, c) = four(&inputs[0])?;
        Ok(vec![TensorType::real(&[b, 2 * h, 2 * w, c])?])
    }
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let dy = v.cotangent()?;
        v.grads[0] = Some(v.g.apply(UpsampleGrad, &[dy])?);
        Ok(())
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (_, _, w, c) = four(&inputs[0])?;
        // Words of eight that are only copied are slower than fours: Mesa spills them in a form that it cannot read back at once.
        Ok(dispatch("forward", w, c, outputs[0].elements(), vector(&[c])))
    }
    cpu_kernel!();
}

impl UpsampleGrad {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (w, c) = (args.out_ty(0).dim(2), args.out_ty(0).dim(3));
        let dy = args.real(0);
        par_chunks(args.out(0), c, |pixel, dx| {
            let (row, col) = (pixel / w, pixel % w);
            dx.fill(T::ZERO);
            for q in 0..4 {
                let at = (2 * row + q / 2) * 2 * w + 2 * col + q % 2;
                dx.iter_mut().zip(&dy[at * c..]).for_each(|(s, &v)| *s += v);
            }
        });
    }
}

impl Op for UpsampleGrad {
    fn name(&self) -> &'static str {
        "upsample_grad"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        let (b, h, w, c) = four(&inputs[0])?;
        Ok(vec![TensorType::real(&[b, h / 2, w / 2, c])?])
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        inputs[0].elements() as u64
    }
    fn kernels(&self, caps: &Caps, _: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let (_, _, w, c) = four(&outputs[0])?;
        Ok(dispatch("grad", w, c, outputs[0].elements(), widest(caps, &[c])))
    }
    cpu_kernel!();
}

/// `w` is the width of the small image; in words of `wide` elements.
fn dispatch(entry: &'static str, w: usize, c: usize, elements: usize, wide: usize) -> Kernels {
    let n = elements / wide;
    let call = KernelCall::new("upsample", entry).writes(&[0]).reads(&[0]);
    call.words(&[n, w, c / wide]).each(n, wide).into()
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Normal;
    for [batch, h, w, c] in [
        [1, 1, 1, 1],
        [1, 3, 5, 2],
        [2, 4, 4, 7],
        [3, 1, 9, 17],
        [1, 7, 3, 65],
        [2, 5, 5, 64],
        [1, 17, 33, 3],
        [5, 1, 1, 257],
    ] {
        b.add(Upsample, &[(&[batch, h, w, c], Normal)]);
        b.add(UpsampleGrad, &[(&[batch, 2 * h, 2 * w, c], Normal)]);
    }
}
