//! `Graph → Plan`: a list of pure passes, in the order of [`compile`]. A plan is plain data; nothing is allocated.

mod fuse;
mod half;
mod liveness;
mod report;
mod slots;

pub use report::{MemoryReport, PlanSummary};

#[cfg(feature = "gpu")]
pub(crate) use report::UNIFORM_ALIGN;

use crate::error::{Error, Result};
use crate::graph::{Binding, DType, Graph, PageKind, PageRef, ParamLayout, Source, TensorType, Var};
use crate::ops::{Caps, Cost, KernelCall, Op, Tier};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a value lives while the plan runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// An input buffer.
    Input(usize),
    /// A reusable transient buffer.
    Slot(usize),
    /// A range of a page of a parameter store.
    Page(PageRef),
}

/// One reusable buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Element type of everything it serves.
    pub dtype: DType,
    /// Elements.
    pub elements: usize,
    /// First and last step of every value it serves, in order.
    pub intervals: Vec<(usize, usize)>,
}

impl Slot {
    /// Bytes on a GPU, in whole words.
    pub fn bytes(&self) -> u64 {
        (self.dtype.bytes() * self.elements as u64).next_multiple_of(4)
    }
}

/// A named value the host writes or reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Type.
    pub ty: TensorType,
    /// Place.
    pub place: Place,
}

/// One op application with everything it touches.
#[derive(Debug, Clone)]
pub struct Step {
    /// Scope path and op name.
    pub label: String,
    /// The op (its CPU kernel is what the CPU session runs).
    pub op: Arc<dyn Op>,
    /// Operand places.
    pub ins: Vec<Place>,
    /// Result places.
    pub outs: Vec<Place>,
    /// Places of the transients of the WGSL kernels.
    pub scratch: Vec<Place>,
    /// Operand types.
    pub in_types: Vec<TensorType>,
    /// Result types.
    pub out_types: Vec<TensorType>,
    /// WGSL dispatches (none for the CPU session).
    pub calls: Vec<KernelCall>,
    /// Work.
    pub cost: Cost,
}

impl Step {
    /// Floating-point operations of one of the step's dispatches.
    pub fn work_of(&self, call: &KernelCall) -> u64 {
        match call.flops {
            0 => self.cost.flops / self.calls.len().max(1) as u64,
            known => known,
        }
    }
}

/// A compiled graph.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it computes, for people.
    pub name: String,
    /// What it was compiled for.
    pub caps: Caps,
    /// Host-written values.
    pub inputs: Vec<Port>,
    /// Host-readable values.
    pub outputs: Vec<Port>,
    /// Reusable buffers.
    pub slots: Vec<Slot>,
    /// The work, in order.
    pub steps: Vec<Step>,
    /// Parameter stores it uses, with the hash of their layout.
    pub stores: Vec<(String, String)>,
}

/// Settings of [`compile`].
#[derive(Debug, Clone, Default)]
pub struct CompileOptions {
    /// Read the parameters of these stores from another page kind (evaluation with averaged weights).
    pub read_from: BTreeMap<String, PageKind>,
    /// Stores without pages of their own: their parameters are those of the same names in another store's pages. So a
    /// graph reads a network and the moving average of its weights at once.
    pub stand_ins: BTreeMap<String, (String, PageKind)>,
}

/// Compiles a graph for an adapter.
///
/// # Errors
/// If a parameter is missing from the layouts or has another shape, or no kernel fits the adapter.
pub fn compile(
    name: &str,
    graph: &Graph,
    layouts: &[&ParamLayout],
    caps: &Caps,
    options: &CompileOptions,
) -> Result<Plan> {
    let graph = &half::halve(fuse::fuse(graph, caps.fusions), caps);
    let live = liveness::live_nodes(graph);
    let inputs = input_ports(graph, &live);
    let mut places = fixed_places(graph, layouts, &inputs, options)?;
    let mut steps = Vec::with_capacity(live.len());
    let mut scratch = Vec::new();
    for &n in &live {
        let (step, needs) = draft(graph, n, caps)?;
        scratch.push(needs);
        steps.push(step);
    }
    let lifetimes = liveness::lifetimes(graph, &live, &places, &scratch);
    let (slots, assigned) = slots::assign(&lifetimes);
    for (lifetime, slot) in lifetimes.iter().zip(assigned) {
        match lifetime.owner {
            liveness::Owner::Value(v) => drop(places.insert(v, Place::Slot(slot))),
            liveness::Owner::Scratch(step) => steps[step].scratch.push(Place::Slot(slot)),
        }
    }
    share_in_place(graph, &live, &mut places);
    let place = |v: &Var| places.get(v).cloned().ok_or_else(|| Error::shape("a value without a place"));
    for (step, &n) in steps.iter_mut().zip(&live) {
        let node = &graph.nodes[n];
        step.ins = node.inputs.iter().map(place).collect::<Result<_>>()?;
        step.outs = node.outputs.iter().map(place).collect::<Result<_>>()?;
        slots::check_aliasing(step)?;
    }
    let outputs = graph
        .outputs()
        .iter()
        .map(|(name, v)| Ok(Port { name: name.clone(), ty: graph.ty(*v).clone(), place: place(v)? }))
        .collect::<Result<_>>()?;
    let stores = layouts.iter().map(|l| (l.store.clone(), l.hash())).collect();
    Ok(Plan { name: name.into(), caps: *caps, inputs, outputs, slots, steps, stores })
}

fn input_ports(graph: &Graph, live: &[usize]) -> Vec<Port> {
    let used: std::collections::BTreeSet<Var> = live
        .iter()
        .flat_map(|&n| &graph.nodes[n].inputs)
        .chain(graph.outputs().iter().map(|(_, v)| v))
        .copied()
        .collect();
    let mut ports = Vec::new();
    for (i, value) in graph.values.iter().enumerate() {
        if let Source::Input(name) = &value.source
            && used.contains(&Var(i as u32))
        {
            let place = Place::Input(ports.len());
            ports.push(Port { name: name.clone(), ty: value.ty.clone(), place });
        }
    }
    ports
}

/// Places of inputs, parameters, pages and bound values.
fn fixed_places(
    graph: &Graph,
    layouts: &[&ParamLayout],
    inputs: &[Port],
    options: &CompileOptions,
) -> Result<BTreeMap<Var, Place>> {
    let view = |store: &str, name: &str, kind: PageKind, elements: usize| -> Result<Place> {
        let layout = layouts.iter().find(|l| l.store == store);
        let view = layout.and_then(|l| l.view(name)).ok_or_else(|| {
            Error::shape("parameter not in the store's layout").at(format!("{store}: {name}"))
        })?;
        if view.elements() != elements {
            return Err(Error::shape("parameter of another size than in the store")
                .at(format!("{store}: {name}"))
                .expected(format!("{:?}", view.shape))
                .got(format!("{elements} elements")));
        }
        Ok(Place::Page(PageRef { store: store.into(), kind, page: view.page, offset: view.offset }))
    };
    let mut places = BTreeMap::new();
    for (i, value) in graph.values.iter().enumerate() {
        let v = Var(i as u32);
        let elements = value.ty.elements();
        let place = match (&value.source, graph.bound.get(&v)) {
            (_, Some(Binding::Page(at))) => Some(Place::Page(at.clone())),
            (_, Some(Binding::GradOf { store, name })) => Some(view(store, name, PageKind::Grad, elements)?),
            (Source::Input(name), _) => inputs.iter().find(|p| &p.name == name).map(|p| p.place.clone()),
            (Source::Param { store, name }, _) => {
                let own =
                    || (store.clone(), options.read_from.get(store).copied().unwrap_or(PageKind::Param));
                let (store, kind) = options.stand_ins.get(store).cloned().unwrap_or_else(own);
                Some(view(&store, name, kind, elements)?)
            }
            (Source::Page(at), _) => Some(Place::Page(at.clone())),
            (Source::Node(..), None) => None,
        };
        if let Some(place) = place {
            places.insert(v, place);
        }
    }
    // An in-place result of a page value lives in that page.
    for node in &graph.nodes {
        for &(i, o) in node.op.in_place() {
            if let Some(place @ Place::Page(_)) = places.get(&node.inputs[i]).cloned() {
                places.insert(node.outputs[o], place);
            }
        }
    }
    Ok(places)
}

/// A step without places, and the transients its kernels need.
fn draft(graph: &Graph, n: usize, caps: &Caps) -> Result<(Step, Vec<TensorType>)> {
    let node = &graph.nodes[n];
    let types = |vars: &[Var]| vars.iter().map(|&v| graph.ty(v).clone()).collect::<Vec<_>>();
    let (in_types, out_types) = (types(&node.inputs), types(&node.outputs));
    let label = if node.scope.is_empty() {
        node.op.name().into()
    } else {
        format!("{}/{}", node.scope, node.op.name())
    };
    let kernels = if caps.tier == Tier::Cpu {
        crate::ops::Kernels::default()
    } else {
        node.op
            .kernels(caps, &in_types, &out_types)
            .map_err(|e| if e.at.is_none() { e.at(label.clone()) } else { e })?
    };
    let bytes = in_types.iter().chain(&out_types).map(TensorType::bytes).sum();
    let cost = Cost { flops: node.op.flops(&in_types, &out_types), bytes };
    let step = Step {
        label,
        op: node.op.clone(),
        ins: vec![],
        outs: vec![],
        scratch: vec![],
        in_types,
        out_types,
        calls: kernels.calls,
        cost,
    };
    Ok((step, kernels.scratch))
}

/// In-place results that live in slots share the slot of their operand.
fn share_in_place(graph: &Graph, live: &[usize], places: &mut BTreeMap<Var, Place>) {
    for &n in live {
        let node = &graph.nodes[n];
        for &(i, o) in node.op.in_place() {
            if let Some(place) = places.get(&node.inputs[i]).cloned() {
                places.insert(node.outputs[o], place);
            }
        }
    }
}

impl Plan {
    /// Work of one run.
    pub fn cost(&self) -> Cost {
        self.steps.iter().fold(Cost::default(), |a, s| Cost {
            flops: a.flops + s.cost.flops,
            bytes: a.bytes + s.cost.bytes,
        })
    }
    /// The port of an input.
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|p| p.name == name)
    }
    /// The port of an output.
    pub fn output(&self, name: &str) -> Option<&Port> {
        self.outputs.iter().find(|p| p.name == name)
    }
}
