//! The code that lies nearest to each row, by the largest product: for rows and codes of length 1 that is the largest
//! cosine and the smallest distance (beit-spec §3.7). The lowest number wins ties.

use super::units::vector;
use super::{Args, Caps, KernelCall, Kernels, Op, arity, cpu_kernel};
use crate::cpu::{Real, par_chunks2};
use crate::error::{Error, Result};
use crate::graph::{Graph, TensorType, Var};

/// `ids` (words, leading shape of `x`) and `chosen` like `x[.., C]` from `x` and `codes[K,C]`. No gradient passes: a
/// straight-through step carries it past the choice.
#[derive(Debug, Clone)]
pub(crate) struct Nearest;

/// The numbers of the nearest codes and the codes themselves.
///
/// # Errors
/// If the widths differ.
pub fn nearest(g: &mut Graph, x: Var, codes: Var) -> Result<(Var, Var)> {
    let out = g.apply_all(Nearest, &[x, codes])?;
    Ok((out[0], out[1]))
}

impl Nearest {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(0).cols();
        let (x, codes) = (args.real(0), args.real(1));
        let (ids, chosen) = (args.out_words(0), args.out(1));
        par_chunks2(chosen, ids, (c, 1), |r, chosen, id| {
            let row = &x[r * c..][..c];
            let (mut best, mut at) = (T::ZERO, None);
            for (k, code) in codes.chunks_exact(c).enumerate() {
                let product = T::sum2(row, code, |a, b| a * b);
                if product > best || (at.is_none() && product <= best) {
                    (best, at) = (product, Some(k));
                }
            }
            let k = at.unwrap_or(0);
            id[0] = k as u32;
            chosen.copy_from_slice(&codes[k * c..][..c]);
        });
    }
}

impl Op for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 2)?;
        let (x, codes) = (&inputs[0], &inputs[1]);
        if x.shape().len() < 2 || codes.shape().len() != 2 || codes.cols() != x.cols() {
            return Err(Error::shape("rows and codes of different widths")
                .expected(format!("codes [K, {}]", x.cols()))
                .got(codes.to_string()));
        }
        Ok(vec![TensorType::word(&x.shape()[..x.shape().len() - 1])?, x.clone()])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        2 * (inputs[0].elements() * inputs[1].rows()) as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (rows, c, k) = (inputs[0].rows(), inputs[0].cols(), inputs[1].rows());
        let vec = vector(&[c]);
        let call = KernelCall::new("nearest", "nearest").writes(&[0, 1]).reads(&[0, 1]);
        Ok(call.words(&[rows, c / vec, k]).rows(caps, rows, k, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Ties};
    for (s, k) in [
        (&[1usize, 1][..], 1),
        (&[5, 3], 2),
        (&[7, 8], 65),
        (&[2, 3, 32], 257),
        (&[33, 17], 5),
        (&[2, 65, 4], 512),
        (&[257, 2], 31),
        (&[3, 64], 1031),
        (&[super::samples::MANY_ROWS, 1], 2),
    ] {
        let c = s[s.len() - 1];
        b.add(Nearest, &[(s, Normal), (&[k, c], Normal)]);
        b.add(Nearest, &[(s, Ties), (&[k, c], Ties)]);
    }
    b.add(Nearest, &[(&[3, 4], Constant(1.0)), (&[5, 4], Constant(-2.5))]);
    b.add(Nearest, &[(&[3, 5], Constant(f32::NAN)), (&[4, 5], Normal)]);
}
