//! Running mean and variance of batch norm: `r ← (1 − m)·r + m·batch`, with the unbiased variance (beit-spec §7.3).

use super::{Args, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

use super::units::vector;
use super::{Caps, KernelCall, Kernels};

/// Updates `mean[C]` and `variance[C]` where they lie from `stats[3,C]` of a batch of `rows`; a channel whose
/// statistics are not finite keeps what it had, as a step with a non-finite gradient changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct RunningStats {
    pub momentum: f32,
    pub rows: usize,
}

/// Moves running statistics towards those of a batch of `rows` rows.
///
/// # Errors
/// If the widths differ.
pub fn running_stats(
    g: &mut Graph,
    (mean, variance): (Var, Var),
    stats: Var,
    rows: usize,
    momentum: f32,
) -> Result<()> {
    g.apply_all(RunningStats { momentum, rows }, &[mean, variance, stats]).map(drop)
}

impl RunningStats {
    /// Momentum, and the same times n/(n−1); one row has no unbiased variance and counts as it is.
    fn factors(&self) -> (f64, f64) {
        let n = self.rows.max(2) as f64;
        let unbiased = if self.rows > 1 { n / (n - 1.0) } else { 1.0 };
        (f64::from(self.momentum), f64::from(self.momentum) * unbiased)
    }
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (stats, mean, variance) = (args.real(2), args.out(0), args.out(1));
        let (c, (m, mv)) = (mean.len(), self.factors());
        for i in 0..c {
            let (new_mean, new_variance) = (stats[i], stats[2 * c + i]);
            if new_mean.is_finite() && new_variance.is_finite() {
                mean[i] = T::of(1.0 - m) * mean[i] + T::of(m) * new_mean;
                variance[i] = T::of(1.0 - m) * variance[i] + T::of(mv) * new_variance;
            }
        }
    }
}

impl Op for RunningStats {
    fn name(&self) -> &'static str {
        "running_stats"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 3)?;
        expect_elements("running variance", &inputs[1], inputs[0].elements())?;
        expect_elements("statistics", &inputs[2], 3 * inputs[0].elements())?;
        Ok(vec![inputs[0].clone(), inputs[1].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 1)]
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let cols = inputs[0].elements();
        let vec = vector(&[cols]);
        let (m, mv) = self.factors();
        let call = KernelCall::new("running_stats", "running_stats").writes(&[0, 1]).reads(&[2]);
        let call = call.words(&[cols / vec]).float((1.0 - m) as f32).float(m as f32).float(mv as f32);
        Ok(call.each(cols / vec, vec).into())
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{Constant, Normal, Uniform};
    for (i, c) in [1, 2, 3, 17, 64, 65, 257].into_iter().enumerate() {
        let op = RunningStats { momentum: 0.1, rows: [1, 2, 8, 4096][i % 4] };
        let (wide, three): (&[usize], &[usize]) = (&[c], &[3, c]);
        for stats in [Uniform(0.5, 1.5), Constant(f32::NAN)] {
            b.add(op.clone(), &[(wide, Normal), (wide, Uniform(0.5, 1.5)), (three, stats)]);
        }
    }
}
