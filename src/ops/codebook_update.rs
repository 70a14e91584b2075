//! One step of a codebook of unit vectors that follows the rows assigned to its codes (beit-spec §3.7):
//! `code ← norm(k·code + (1 − k)·norm(Σ of its rows))`, without a gradient. With k = 0 it is a round of cosine k-means.

use super::members::{Chains, chain};
use super::units::vector;
use super::{Access, Arg, Args, Caps, KernelCall, Kernels, Op, arity, cpu_kernel, expect_elements};
use crate::cpu::{Real, par_chunks2};
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};
use crate::rng::Key;

/// Lengths below this count as it.
const EPS: f64 = 1e-12;

/// Updates `codes[K,C]` and `sizes[K]` where they lie, from `rows[R,C]` of length 1, their chains, and a key of 4 words.
///
/// `sizes` is the moving average of the number of rows of each code. A code without rows stays as it is, unless its
/// size falls below `restart`: then it becomes one of the rows, drawn by the key, with a size of 1. A sum that is not
/// finite moves no code.
#[derive(Debug, Clone)]
pub(crate) struct CodebookUpdate {
    /// k, the share of the old code and of the old size.
    pub keep: f32,
    /// Size below which a code starts anew; 0 = never.
    pub restart: f32,
}

/// How a codebook follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Following {
    /// Share of the old code and of the old size.
    pub keep: f32,
    /// Size below which a code starts anew; 0 = never.
    pub restart: f32,
}

/// Moves a codebook towards the rows assigned to its codes; `state` is the codes `[K,C]` and their sizes `[K]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn codebook_update(
    g: &mut Graph,
    (codes, sizes): (Var, Var),
    rows: Var,
    chains: Chains,
    key: Var,
    how: Following,
) -> Result<()> {
    let op = CodebookUpdate { keep: how.keep, restart: how.restart };
    g.apply_all(op, &[codes, sizes, rows, chains.first, chains.next, key]).map(drop)
}

impl CodebookUpdate {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let (c, count) = (args.ty(0).cols(), args.ty(4).elements());
        let (rows, first, next) = (args.real(2), args.words(3), args.words(4));
        let key = match *args.words(5) {
            [a, b, c, d] => Key([a, b, c, d]),
            _ => Key([0; 4]),
        };
        let keep = f64::from(self.keep);
        let (keep, share, restart) = (T::of(keep), T::of(1.0 - keep), T::of(f64::from(self.restart)));
        par_chunks2(args.out(0), args.out(1), (c, 1), |k, code, size| {
            let mut sum = vec![T::ZERO; c];
            let mut n = T::ZERO;
            for r in chain(first[k], next) {
                sum.iter_mut().zip(&rows[r * c..]).for_each(|(s, &x)| *s += x);
                n += T::ONE;
            }
            size[0] = keep * size[0] + share * n;
            let length = length(&sum);
            if n == T::ZERO && size[0] < restart {
                let r = key.words(k as u32)[0] as usize % count;
                code.copy_from_slice(&rows[r * c..][..c]);
                size[0] = T::ONE;
            } else if length > T::ZERO && length.is_finite() {
                let part = share / length.max(T::of(EPS));
                code.iter_mut().zip(&sum).for_each(|(code, &s)| *code = keep * *code + part * s);
                let inverse = T::ONE / self::length(code).max(T::of(EPS));
                code.iter_mut().for_each(|code| *code *= inverse);
            }
        });
    }
}

fn length<T: Real>(row: &[T]) -> T {
    row.iter().fold(T::ZERO, |s, &x| s + x * x).sqrt()
}

impl Op for CodebookUpdate {
    fn name(&self) -> &'static str {
        "codebook_update"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 6)?;
        let (k, c) = (inputs[0].rows(), inputs[0].cols());
        expect_elements("sizes of the codes", &inputs[1], k)?;
        expect_elements("rows", &inputs[2], inputs[4].elements() * c)?;
        expect_elements("first rows", &inputs[3], k)?;
        expect_elements("key", &inputs[5], 4)?;
        Ok(vec![inputs[0].clone(), inputs[1].clone()])
    }
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[(0, 0), (1, 1)]
    }
    fn flops(&self, inputs: &[TensorType], _: &[TensorType]) -> u64 {
        (inputs[2].elements() + 8 * inputs[0].elements()) as u64
    }
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let (k, c, rows) = (inputs[0].rows(), inputs[0].cols(), inputs[4].elements());
        let (vec, keep) = (vector(&[c]), f64::from(self.keep));
        let call = KernelCall::new("codebook_update", "codebook_update");
        let call = call.writes(&[0, 1]).bind(Arg::Scratch(0), Access::Write).reads(&[2, 3, 4, 5]);
        let call =
            call.words(&[k, c / vec, rows]).float(self.keep).float((1.0 - keep) as f32).float(self.restart);
        Ok(Kernels { calls: vec![call.rows(caps, k, c / vec, vec)], scratch: vec![inputs[0].clone()] })
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::{self, Constant, Normal, Uniform, Words};
    use super::samples::Steps;
    let sizes = [(1, 1, 1), (3, 5, 7), (8, 32, 64), (65, 16, 33), (17, 33, 257), (512, 4, 100)];
    for (i, (k, c, rows)) in sizes.into_iter().enumerate() {
        let mut add = |keep: f32, restart: f32, first: u32, x: Fill| {
            // Code j has the rows j + first, j + first + K, ..., or none.
            let first = Fill::Steps(Steps { first, step: 1, rows: u32::MAX });
            let next = Fill::Steps(Steps { first: k as u32, step: 1, rows: u32::MAX });
            let op = CodebookUpdate { keep, restart };
            let state: [(&[usize], Fill); 2] = [(&[k, c], Normal), (&[k], Uniform(0.0, 4.0))];
            let rest: [(&[usize], Fill); 4] =
                [(&[rows, c], x), (&[k], first), (&[rows], next), (&[4], Words(u32::MAX))];
            b.add(op, &[state.as_slice(), &rest].concat());
        };
        let keep = [0.99, 0.0, 0.5][i % 3];
        add(keep, 0.0, 0, Normal);
        add(keep, 0.0, rows as u32 / 2, Normal);
        add(keep, 0.0, 0, Constant(f32::INFINITY));
        add(0.9, 2.0, rows as u32, Normal);
    }
}
