//! Which nodes are needed, and from which step to which step each planned value is alive.

use super::Place;
use crate::graph::{DType, Graph, TensorType, Var};
use std::collections::{BTreeMap, BTreeSet};

/// Who needs a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A value of the graph.
    Value(Var),
    /// A transient of the kernels of a step.
    Scratch(usize),
}

/// One slot request: alive from step `first` to step `last`, both included.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lifetime {
    pub owner: Owner,
    pub dtype: DType,
    pub elements: usize,
    pub first: usize,
    pub last: usize,
}

/// Nodes that reach an output, a bound value or an update in place, in order.
pub(super) fn live_nodes(graph: &Graph) -> Vec<usize> {
    let mut needed: BTreeSet<Var> = graph.outputs().iter().map(|(_, v)| *v).collect();
    needed.extend(graph.bound.keys());
    let mut live = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate().rev() {
        let updates_state = !node.op.in_place().is_empty();
        if updates_state || node.outputs.iter().any(|v| needed.contains(v)) {
            needed.extend(&node.inputs);
            live.push(n);
        }
    }
    live.reverse();
    live
}

/// Lifetimes of all values without a fixed place and of all transients, in order of first step.
pub(super) fn lifetimes(
    graph: &Graph,
    live: &[usize],
    fixed: &BTreeMap<Var, Place>,
    scratch: &[Vec<TensorType>],
) -> Vec<Lifetime> {
    let stored_in = storage(graph, live);
    let root = |v: &Var| stored_in.get(v).copied().unwrap_or(*v);
    let mut last: BTreeMap<Var, usize> = BTreeMap::new();
    for (step, &n) in live.iter().enumerate() {
        let node = &graph.nodes[n];
        for v in node.inputs.iter().chain(&node.outputs) {
            last.insert(root(v), step);
        }
    }
    last.extend(graph.outputs().iter().map(|(_, v)| (root(v), live.len())));
    let mut all = Vec::new();
    for (step, &n) in live.iter().enumerate() {
        let node = &graph.nodes[n];
        for (o, v) in node.outputs.iter().enumerate() {
            let in_place = node.op.in_place().iter().any(|&(_, out)| out == o);
            if !fixed.contains_key(v) && !in_place {
                all.push(lifetime(Owner::Value(*v), graph.ty(*v), step, last[v]));
            }
        }
        for ty in &scratch[step] {
            all.push(lifetime(Owner::Scratch(step), ty, step, step));
        }
    }
    all
}

/// For every result of an update in place, the value whose storage it is: that one must live as long as the result.
fn storage(graph: &Graph, live: &[usize]) -> BTreeMap<Var, Var> {
    let mut root: BTreeMap<Var, Var> = BTreeMap::new();
    for &n in live {
        let node = &graph.nodes[n];
        for &(i, o) in node.op.in_place() {
            let operand = node.inputs[i];
            root.insert(node.outputs[o], root.get(&operand).copied().unwrap_or(operand));
        }
    }
    root
}

fn lifetime(owner: Owner, ty: &TensorType, first: usize, last: usize) -> Lifetime {
    Lifetime { owner, dtype: ty.dtype(), elements: ty.elements(), first, last }
}
