//! Stable text of a graph, for snapshots and for reading.

use super::{Graph, Source, Var};
use std::fmt;

impl Graph {
    fn name_of(&self, v: Var) -> String {
        match &self.values[v.index()].source {
            Source::Input(name) => format!("@{name}"),
            Source::Param { name, .. } => format!("${name}"),
            Source::Page(p) => format!("#{}.{:?}.{}", p.store, p.kind, p.page),
            Source::Node(..) => format!("%{}", v.0),
        }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let outs: Vec<String> =
                node.outputs.iter().map(|&v| format!("{}: {}", self.name_of(v), self.ty(v))).collect();
            let ins: Vec<String> = node.inputs.iter().map(|&v| self.name_of(v)).collect();
            writeln!(f, "{} = {:?}({})  // {}", outs.join(", "), node.op, ins.join(", "), node.scope)?;
        }
        for (name, v) in &self.outputs {
            writeln!(f, "return {name} = {}", self.name_of(*v))?;
        }
        Ok(())
    }
}
