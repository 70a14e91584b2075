//! The rows of each group as chains: the first row of every group, and after each row the next one of its group. Sums over
//! groups then walk a chain in order instead of searching all rows, without atomics.

use super::{Args, Caps, KernelCall, Kernels, Op, arity, cpu_kernel};
use crate::cpu::Real;
use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};

/// `first[K]` and `next[R]` of `ids[R]`; R where a chain is empty or ends. Ids of K and more are in no chain.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    pub groups: usize,
}

/// The chains of the rows of each of `groups` groups.
#[derive(Debug, Clone, Copy)]
pub struct Chains {
    /// First row of each group.
    pub first: Var,
    /// Next row of a row's group.
    pub next: Var,
}

/// Chains rows by their group ids.
///
/// # Errors
/// If there are no groups.
pub fn members(g: &mut Graph, ids: Var, groups: usize) -> Result<Chains> {
    let out = g.apply_all(Members { groups }, &[ids])?;
    Ok(Chains { first: out[0], next: out[1] })
}

/// The rows of a chain, in order.
pub(crate) fn chain(first: u32, next: &[u32]) -> impl Iterator<Item = usize> + '_ {
    let row = |r: u32| Some(r as usize).filter(|&r| r < next.len());
    std::iter::successors(row(first), move |&r| row(next[r]))
}

impl Members {
    fn run<T: Real>(&self, args: &mut Args<'_, T>) {
        let ids = args.words(0);
        let (first, next) = (args.out_words(0), args.out_words(1));
        first.fill(ids.len() as u32);
        // From the last row to the first, the head of a chain is the next member of what comes before it.
        let mut loose = std::collections::BTreeMap::new();
        for (r, &id) in ids.iter().enumerate().rev() {
            let head = match first.get_mut(id as usize) {
                Some(head) => head,
                None => loose.entry(id).or_insert(ids.len() as u32),
            };
            next[r] = std::mem::replace(head, r as u32);
        }
    }
}

impl Op for Members {
    fn name(&self) -> &'static str {
        "members"
    }
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>> {
        arity(inputs, 1)?;
        Ok(vec![TensorType::word(&[self.groups])?, TensorType::word(&[inputs[0].elements()])?])
    }
    fn differentiable(&self, _: usize) -> bool {
        false
    }
    fn kernels(&self, _: &Caps, inputs: &[TensorType], _: &[TensorType]) -> Result<Kernels> {
        let rows = inputs[0].elements();
        let part = |entry, out: usize, n: usize| {
            KernelCall::new("members", entry).writes(&[out]).reads(&[0]).words(&[n, rows]).each(n, 1)
        };
        Ok(Kernels { calls: vec![part("first", 0, self.groups), part("next", 1, rows)], scratch: vec![] })
    }
    cpu_kernel!();
}

/// Applications for the generic suite.
pub(crate) fn samples(b: &mut super::samples::Builder) {
    use super::samples::Fill::Words;
    for (rows, groups) in [(1, 1), (2, 5), (17, 3), (64, 64), (65, 257), (255, 7), (1031, 512), (4097, 2)] {
        b.add(Members { groups }, &[(&[rows], Words(groups as u32))]);
        // Ids beyond the last group.
        b.add(Members { groups }, &[(&[rows], Words(groups as u32 + 2))]);
    }
}
