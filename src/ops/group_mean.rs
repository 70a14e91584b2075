//! The mean of the rows of each group, over batches, older ones counting less: what the cells of each id of a tokenizer
//! look like on average.

use super::members::{Chains, chain};
use super::units::vector;
use super::{Access, Arg, Args, Caps, KernelCall, Kernels, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks2};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// Updates `means[K,C]` and `weights[K]` where they lie from `x[R,C]` and its chains: with n rows in a group
/// `weight ← k·weight + n` and `mean ← mean + (Σ rows − n·mean)/weight`. An element whose sum is not finite stays.
#[derive(Debug, Clone)]
pub(crate) struct GroupMean {
    /// k, what an older row still counts after each batch.
    pub keep: f32,
}

/// Adds a batch of rows to the means of their groups; `state` is the means `[K,C]` and their weights `[K]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn group_mean(g: &mut Graph, state: (Var, Var), x: Var, chains: Chains, keep: f32) -> Result<()> {
    g.apply_all(GroupMean { keep }, &[state.0, state.1, x, chains.first, chains.next]).map(drop)
}

impl GroupMean {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let c = args.ty(0).cols();
        let (x, first, next) = (args.real(2), args.words(3), args.words(4));
        let keep = T::of(f64::from(self.keep));
        par_chunks2(args.out(0), args.out(1), (c, 1), |k, mean, weight| {
            let mut sum = vec![T::ZERO; c];
            let mut n = T::ZERO;
            for r in chain(first[k], next) {
                sum.iter_mut().zip(&x[r * c..]).for_each(|(s, &x)| *s += x);
                n += T::ONE;
            }
            weight[0] = keep * weight[0] + n;
            if n > T::ZERO {
                for (mean, sum) in mean.iter_mut().zip(sum).filter(|(_, sum)| sum.is_finite()) {
                    *mean += (sum - n * *mean) / weight[0];
                }
            }
        });
    }
}

impl Op for GroupMean {
    fn name(&self) -> &'static str {
        "group_mean"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 5)?;
        let (k, c) = (inputs[0].rows(), inputs[0].cols());
        expect_elements("weights", &inputs[1], k)?;
        expect_elements("rows", &inputs[2], inputs[4].elements() * c)?;
        expect_elements("first rows", &inputs[3], k)?;
        Ok(vec![inputs[0].clone(), inputs[1].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 1)]
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        (inputs[2].elements() + 3 * inputs[0].elements()) as u64
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (k, c, rows) = (inputs[0].rows(), inputs[0].cols(), inputs[4].elements());
        let vec = vector(&[c]);
        let means = KernelCall::new("group_mean", "means").writes(&[0]).bind(Arg::Out(1), Access::Write);
        let means = means.reads(&[2, 3, 4]).words(&[k * c / vec, c / vec, rows]).float(self.keep);
        // The weights move after all means have read them.
        let weights = KernelCall::new("group_mean", "weights").writes(&[1]).reads(&[3, 4]);
        let weights = weights.words(&[k, c / vec, rows]).float(self.keep);
        Ok(Kernels { calls: vec![means.each(k * c / vec, vec), weights.each(k, vec)], scratch: vec![] })
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{self, Constant, Normal, Uniform};
    use super::samples::Steps;
    let sizes = [(1, 1, 1), (3, 5, 7), (8, 48, 64), (65, 16, 33), (17, 33, 257), (512, 4, 100)];
    for (i, (k, c, rows)) in sizes.into_iter().enumerate() {
        for (first, x) in [(0, Normal), (rows as u32 / 2, Normal), (0, Constant(f32::NAN))] {
            let first = Fill::Steps(Steps { first, step: 1, rows: u32::MAX });
            let next = Fill::Steps(Steps { first: k as u32, step: 1, rows: u32::MAX });
            let weights = [Uniform(0.0, 4.0), Constant(0.0)][i % 2];
            let inputs: [(&[usize], Fill); 5] =
                [(&[k, c], Normal), (&[k], weights), (&[rows, c], x), (&[k], first), (&[rows], next)];
            b.add(GroupMean { keep: [0.99, 0.5][i % 2] }, &inputs);
        }
    }
}
