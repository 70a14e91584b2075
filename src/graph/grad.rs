//! Reverse-mode differentiation: one walk over the nodes, asking each op for its vjp, summing cotangents.

use super::{Graph, Source, Var};
use crate::error::{Error, Result};
use crate::ops::{Vjp, add, fill};
use std::collections::{BTreeMap, BTreeSet};

/// Gradients of `scalar` with respect to each of `wrt`; `None` where it does not depend on it.
///
/// # Errors
/// If `scalar` has more than one element or an op on the way has no vjp.
pub fn grad(g: &mut Graph, scalar: Var, wrt: &[Var]) -> Result<Vec<Option<Var>>> {
    let seed = fill(g, 1.0, &[1])?;
    grad_from(g, scalar, seed, wrt)
}

/// As [`grad`], with the cotangent of `scalar` given (a loss scale, say).
///
/// # Errors
/// As [`grad`].
pub fn grad_from(g: &mut Graph, scalar: Var, seed: Var, wrt: &[Var]) -> Result<Vec<Option<Var>>> {
    if g.ty(scalar).elements() != 1 {
        return Err(Error::shape("gradient of a value that is not a scalar")
            .expected("one element")
            .got(g.ty(scalar).to_string()));
    }
    let forward_nodes = g.nodes.len();
    let active = active_values(g, wrt, forward_nodes);
    let mut walk = Walk { cotangents: BTreeMap::new(), replayed: BTreeMap::new(), segments: BTreeSet::new() };
    walk.cotangents.insert(scalar, seed);
    for n in (0..forward_nodes).rev() {
        walk.visit(g, n, forward_nodes, &active)?;
    }
    Ok(wrt.iter().map(|v| walk.cotangents.get(v).copied()).collect())
}

/// Values that depend on any of `wrt` through differentiable inputs.
fn active_values(g: &Graph, wrt: &[Var], nodes: usize) -> BTreeSet<Var> {
    let mut active: BTreeSet<Var> = wrt.iter().copied().collect();
    for node in &g.nodes[..nodes] {
        if node.inputs.iter().enumerate().any(|(i, v)| active.contains(v) && node.op.differentiable(i)) {
            active.extend(&node.outputs);
        }
    }
    active
}

struct Walk {
    cotangents: BTreeMap<Var, Var>,
    /// Values of recomputed segments and their second computation.
    replayed: BTreeMap<Var, Var>,
    segments: BTreeSet<u32>,
}

impl Walk {
    fn visit(&mut self, g: &mut Graph, n: usize, end: usize, active: &BTreeSet<Var>) -> Result<()> {
        let node = g.nodes[n].clone();
        let cotangents: Vec<Option<Var>> =
            node.outputs.iter().map(|v| self.cotangents.get(v).copied()).collect();
        let wanted: Vec<bool> = node
            .inputs
            .iter()
            .enumerate()
            .map(|(i, v)| active.contains(v) && node.op.differentiable(i))
            .collect();
        if cotangents.iter().all(Option::is_none) || !wanted.contains(&true) {
            return Ok(());
        }
        if let Some(segment) = node.segment
            && self.segments.insert(segment)
        {
            self.replay(g, segment, end)?;
        }
        let scope = format!("{}'", node.scope);
        let again = |v: &Var| self.replayed.get(v).copied().unwrap_or(*v);
        let inputs: Vec<Var> = node.inputs.iter().map(again).collect();
        let outputs: Vec<Var> = node.outputs.iter().map(again).collect();
        let op = node.op.clone();
        let outer_segment = g.segment.take();
        let so_far: Vec<Option<Var>> = node.inputs.iter().map(|v| self.cotangents.get(v).copied()).collect();
        let onto = so_far.clone();
        let result = g.scoped(&scope, |g| {
            let mut vjp =
                Vjp { g, inputs, outputs, cotangents, wanted, onto, grads: vec![None; node.inputs.len()] };
            op.vjp(&mut vjp)?;
            Ok((vjp.grads, vjp.onto))
        });
        g.segment = outer_segment;
        let (grads, left) = result?;
        let taken = |i: &usize| left[*i] != so_far[*i];
        let (sums, others): (Vec<usize>, Vec<usize>) = (0..grads.len()).partition(taken);
        // Sums first: they replace what they began with.
        for (i, gv) in sums.into_iter().chain(others).filter_map(|i| Some((i, grads[i]?))) {
            if taken(&i) {
                self.cotangents.remove(&node.inputs[i]);
            }
            self.accumulate(g, node.inputs[i], gv)?;
        }
        Ok(())
    }

    fn accumulate(&mut self, g: &mut Graph, v: Var, gv: Var) -> Result<()> {
        if g.shape(v) != g.shape(gv) && g.ty(v).elements() != g.ty(gv).elements() {
            return Err(Error::shape("a cotangent has another shape than its value")
                .expected(g.ty(v).to_string())
                .got(g.ty(gv).to_string()));
        }
        let total = match self.cotangents.get(&v) {
            Some(&old) => add(g, old, gv)?,
            None => gv,
        };
        self.cotangents.insert(v, total);
        Ok(())
    }

    /// Draws the nodes of a segment again, right before its backward pass.
    fn replay(&mut self, g: &mut Graph, segment: u32, end: usize) -> Result<()> {
        for n in 0..end {
            let node = g.nodes[n].clone();
            if node.segment != Some(segment) {
                continue;
            }
            let inputs: Vec<Var> =
                node.inputs.iter().map(|v| self.replayed.get(v).copied().unwrap_or(*v)).collect();
            let scope = format!("{}~", node.scope);
            let outs = g.scoped(&scope, |g| g.apply_arc(node.op.clone(), &inputs))?;
            for (old, new) in node.outputs.iter().zip(outs) {
                debug_assert!(matches!(g.values[old.index()].source, Source::Node(..)));
                self.replayed.insert(*old, new);
            }
        }
        Ok(())
    }
}
