//! Keeps activations and the operands of matrix products in half precision (`--precision f16`).
//!
//! A value takes two bytes a number if the op that makes it can write halves and all that read it can read them; a
//! parameter that products read is cast once a run. Parameters, gradients, statistics, losses, the residual stream and
//! everything that a host reads stay in f32, and every sum is accumulated in f32.

use super::liveness::live_nodes;
use crate::graph::{Graph, Node, Source, TensorType, Value, Var};
use crate::ops::Caps;
use crate::ops::add::Scale;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The graph with halves where `caps` and the ops allow them.
pub(super) fn halve(mut g: Graph, caps: &Caps) -> Graph {
    if !caps.half {
        return g;
    }
    let live: BTreeSet<usize> = live_nodes(&g).into_iter().collect();
    let kept: BTreeSet<Var> = g.outputs().iter().map(|o| o.1).chain(g.bound.keys().copied()).collect();
    // Per value: whether there are readers, and whether all take halves.
    let mut read: BTreeMap<Var, bool> = BTreeMap::new();
    for &n in &live {
        let (node, types) = (&g.nodes[n], input_types(&g, n));
        for (i, &v) in node.inputs.iter().enumerate() {
            let takes = node.op.reads_half(caps, i, &types) && node.op.in_place().is_empty();
            *read.entry(v).or_insert(true) &= takes;
        }
    }
    let mut halves = Vec::new();
    for &n in &live {
        let (node, types) = (&g.nodes[n], input_types(&g, n));
        for (o, &v) in node.outputs.iter().enumerate() {
            let wanted = read.get(&v) == Some(&true) && !kept.contains(&v);
            if wanted && node.op.writes_half(caps, o, &types) {
                halves.push(v);
            }
        }
    }
    for v in halves {
        g.values[v.index()].ty = g.ty(v).in_half();
    }
    cast_parameters(&mut g, caps);
    g
}

fn input_types(g: &Graph, n: usize) -> Vec<TensorType> {
    g.nodes[n].inputs.iter().map(|&v| g.ty(v).clone()).collect()
}

/// Gives products of halves a half copy of the parameter that they read, made before the first of them.
fn cast_parameters(g: &mut Graph, caps: &Caps) {
    let live: BTreeSet<usize> = live_nodes(g).into_iter().collect();
    let mut copies: BTreeMap<Var, Var> = BTreeMap::new();
    let mut casts: Vec<(usize, Node)> = Vec::new();
    for n in 0..g.nodes.len() {
        if !live.contains(&n) || !g.nodes[n].op.is_product() {
            continue;
        }
        let types = input_types(g, n);
        // The two matrices; a bias stays as it is.
        for i in 0..2 {
            let v = g.nodes[n].inputs[i];
            let parameter = matches!(g.values[v.index()].source, Source::Param { .. });
            let even = g.ty(v).elements() % 4 == 0;
            let beside = types[1 - i].is_half();
            if !parameter || !even || !beside || !g.nodes[n].op.reads_half(caps, i, &types) {
                continue;
            }
            let copy = *copies.entry(v).or_insert_with(|| {
                let ty = g.ty(v).in_half();
                g.values.push(Value { ty, source: Source::Node(0, 0) });
                let copy = Var(g.values.len() as u32 - 1);
                let scope = g.nodes[n].scope.clone();
                let op = Arc::new(Scale { s: 1.0 });
                let node = Node { op, inputs: vec![v], outputs: vec![copy], scope, segment: None };
                casts.push((n, node));
                copy
            });
            g.nodes[n].inputs[i] = copy;
        }
    }
    for (n, node) in casts.into_iter().rev() {
        g.nodes.insert(n, node);
    }
    g.renumber();
}
