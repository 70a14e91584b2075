//! Joins products with the op that their elements go through next (architecture: the `fuse` pass).
//!
//! A product and its reader become one node at the reader's place if the reader can be an epilogue of it. Other readers
//! that come later get the product as a second result; an earlier one forbids joining.

use super::liveness::live_nodes;
use crate::graph::{Graph, Node, Var};
use crate::ops::{Epilogue, Fused, Fusions};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The graph with the endings that `which` allows joined to their products.
pub(super) fn fuse(graph: &Graph, which: Fusions) -> Graph {
    let mut g = graph.clone();
    if which == Fusions::NONE {
        return g;
    }
    let live = live_nodes(graph);
    let made_by: BTreeMap<Var, usize> =
        live.iter().flat_map(|&n| graph.nodes[n].outputs.iter().map(move |&v| (v, n))).collect();
    let mut readers: BTreeMap<Var, BTreeSet<usize>> = BTreeMap::new();
    for &n in &live {
        for &v in &graph.nodes[n].inputs {
            readers.entry(v).or_default().insert(n);
        }
    }
    let returned: BTreeSet<Var> = graph.outputs().iter().map(|o| o.1).collect();
    let mut joined: BTreeSet<usize> = BTreeSet::new();
    for &n in &live {
        let node = g.nodes[n].clone();
        // The last operand first: of two products that are added up, the later one is at hand.
        for at in (0..node.inputs.len()).rev() {
            let Some(e) = node.op.as_epilogue(at).filter(|&e| which.allow(e)) else { continue };
            let v = node.inputs[at];
            let Some(&from) = made_by.get(&v) else { continue };
            let product = &g.nodes[from];
            let alone = node.inputs.iter().filter(|&&i| i == v).count() == 1;
            // An update in place between the two might change what the product reads.
            let updates = graph.nodes[from..n].iter().any(|m| !m.op.in_place().is_empty());
            let bound = graph.bound.contains_key(&v);
            if product.op.as_product().is_none() || joined.contains(&from) || bound || !alone || updates {
                continue;
            }
            let product = product.clone();
            if e == Epilogue::Relu {
                gates_by_result(&mut g, &mut readers, v, node.outputs[0]);
            }
            let others: Vec<usize> = readers[&v].iter().copied().filter(|&r| r != n).collect();
            if others.iter().any(|&r| r < n) {
                continue;
            }
            let keep = !others.is_empty() || returned.contains(&v);
            g.nodes[n] = join(&product, &node, at, keep);
            joined.insert(from);
            break;
        }
    }
    let mut number = 0..;
    g.nodes.retain(|_| !joined.contains(&number.next().unwrap_or(0)));
    g.renumber();
    g
}

/// ReLU's derivative asks for the sign of its operand, which the result has too: the operand need not be kept.
fn gates_by_result(g: &mut Graph, readers: &mut BTreeMap<Var, BTreeSet<usize>>, operand: Var, result: Var) {
    for n in readers.get(&operand).cloned().unwrap_or_default() {
        let node = &mut g.nodes[n];
        if node.op.as_epilogue(0) == Some(Epilogue::ReluGate)
            && node.inputs.len() == 2
            && node.inputs[1] == operand
            && node.inputs[0] != operand
        {
            node.inputs[1] = result;
            readers.entry(operand).or_default().remove(&n);
            readers.entry(result).or_default().insert(n);
        }
    }
}

fn join(product: &Node, then: &Node, at: usize, keep: bool) -> Node {
    let mut inputs = product.inputs.clone();
    inputs.extend(then.inputs.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, v)| *v));
    let mut outputs = then.outputs.clone();
    outputs.extend(keep.then_some(then.inputs[at]));
    let op = Fused {
        product: product.op.clone(),
        then: then.op.clone(),
        operands: product.inputs.len(),
        at,
        keep,
    };
    Node { op: Arc::new(op), inputs, outputs, scope: product.scope.clone(), segment: then.segment }
}
