//! The graph: an append-only list of coarse ops over typed values.
//!
//! Models draw the forward pass; [`grad`] draws the backward pass into the same graph.

mod grad;
mod params;
mod print;
mod types;

pub use grad::{grad, grad_from};
pub use params::{Init, ParamDecl, ParamLayout, ParamView};
pub use types::{DType, MAX_ELEMENTS, TensorType};

use crate::error::{Error, Result};
use crate::ops::Op;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Var(pub(crate) u32);

impl Var {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Kinds of flat pages a parameter store holds across steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageKind {
    /// The parameters.
    Param,
    /// Their gradients.
    Grad,
    /// First moment of AdamW.
    Moment1,
    /// Second moment of AdamW.
    Moment2,
    /// Exponential moving average of the parameters.
    Ema,
    /// Sixteen numbers of optimiser state (see `ops::clip`).
    Control,
}

/// A range of a page: element offset and length are those of the value bound there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageRef {
    /// Name of the parameter store.
    pub store: String,
    /// Which state.
    pub kind: PageKind,
    /// Page number.
    pub page: usize,
    /// First element.
    pub offset: usize,
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// Written by the host before a run.
    Input(String),
    /// A parameter of a store, by name.
    Param {
        /// Store name.
        store: String,
        /// Parameter name.
        name: String,
    },
    /// A range of a state page (optimiser graphs).
    Page(PageRef),
    /// Output number `1` of node `0`.
    Node(usize, usize),
}

/// A typed value.
#[derive(Debug, Clone)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Its origin.
    pub source: Source,
}

/// One op application.
#[derive(Debug, Clone)]
pub struct Node {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Operands.
    pub inputs: Vec<Var>,
    /// Results.
    pub outputs: Vec<Var>,
    /// Dotted path of the part of the model that drew it.
    pub scope: String,
    /// Recomputation segment (a transformer block, say), if it belongs to one.
    pub segment: Option<u32>,
}

/// An append-only graph.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) outputs: Vec<(String, Var)>,
    pub(crate) bound: BTreeMap<Var, Binding>,
    pub(crate) params: Vec<ParamDecl>,
    param_vars: BTreeMap<(String, String), Var>,
    scope: Vec<String>,
    store: String,
    segment: Option<u32>,
    segments: u32,
}

/// A value whose storage is prescribed instead of planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// A range of a page.
    Page(PageRef),
    /// The gradient range of a parameter.
    GradOf {
        /// Store name.
        store: String,
        /// Parameter name.
        name: String,
    },
}

impl Graph {
    /// An empty graph; parameters go to the store `model` until [`Graph::in_store`] says otherwise.
    pub fn new() -> Self {
        Graph { store: "model".into(), ..Graph::default() }
    }

    /// The type of a value.
    pub fn ty(&self, v: Var) -> &TensorType {
        &self.values[v.index()].ty
    }
    /// The shape of a value.
    pub fn shape(&self, v: Var) -> &[usize] {
        self.ty(v).shape()
    }
    /// The column sums of a value, if the op that makes it gives them as well.
    pub(crate) fn column_sums(&self, v: Var) -> Option<Var> {
        let Source::Node(n, 0) = self.values[v.index()].source else { return None };
        let node = &self.nodes[n];
        node.op.column_sums().map(|i| node.outputs[i])
    }
    /// Named outputs in the order they were marked.
    pub fn outputs(&self) -> &[(String, Var)] {
        &self.outputs
    }
    /// The parameters drawn so far, in the order of drawing.
    pub fn params(&self) -> &[ParamDecl] {
        &self.params
    }
    /// The value of a parameter, if it was drawn.
    pub fn param_var(&self, store: &str, name: &str) -> Option<Var> {
        self.param_vars.get(&(store.to_string(), name.to_string())).copied()
    }
    /// All parameters of a store that were drawn, in the order of drawing.
    pub fn params_of(&self, store: &str) -> Vec<(String, Var)> {
        self.params
            .iter()
            .filter(|p| p.store == store)
            .filter_map(|p| self.param_var(store, &p.name).map(|v| (p.name.clone(), v)))
            .collect()
    }

    fn push_value(&mut self, ty: TensorType, source: Source) -> Var {
        self.values.push(Value { ty, source });
        Var(self.values.len() as u32 - 1)
    }

    /// A real input written by the host.
    ///
    /// # Errors
    /// If the shape is impossible or the name is taken.
    pub fn input(&mut self, name: &str, shape: &[usize]) -> Result<Var> {
        self.input_of(name, TensorType::real(shape)?)
    }
    /// An input of words (ids, masks, keys) written by the host.
    ///
    /// # Errors
    /// As [`Graph::input`].
    pub fn input_words(&mut self, name: &str, shape: &[usize]) -> Result<Var> {
        self.input_of(name, TensorType::word(shape)?)
    }
    fn input_of(&mut self, name: &str, ty: TensorType) -> Result<Var> {
        let taken = self.values.iter().any(|v| matches!(&v.source, Source::Input(n) if n == name));
        if taken {
            return Err(Error::shape("two inputs of one name").at(self.path(name)));
        }
        Ok(self.push_value(ty, Source::Input(name.to_string())))
    }

    /// A parameter of the current store under the current scope; drawing it twice gives the same value.
    ///
    /// # Errors
    /// If it was drawn before with another shape.
    pub fn param(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Var> {
        self.declare(name, shape, init, true)
    }
    /// State that lives beside the parameters (in their pages, checkpoints and averages) but that the optimiser leaves
    /// alone: running statistics, which an op of the forward pass updates in place.
    ///
    /// # Errors
    /// As [`Graph::param`].
    pub fn statistic(&mut self, name: &str, shape: &[usize], init: Init) -> Result<Var> {
        self.declare(name, shape, init, false)
    }
    fn declare(&mut self, name: &str, shape: &[usize], init: Init, trained: bool) -> Result<Var> {
        let (store, name) = (self.store.clone(), self.path(name));
        if let Some(v) = self.param_var(&store, &name) {
            if self.shape(v) != shape {
                return Err(Error::shape("parameter drawn with two shapes")
                    .at(name)
                    .expected(format!("{:?}", self.shape(v)))
                    .got(format!("{shape:?}")));
            }
            return Ok(v);
        }
        let ty = TensorType::real(shape)?;
        let v = self.push_value(ty, Source::Param { store: store.clone(), name: name.clone() });
        self.param_vars.insert((store.clone(), name.clone()), v);
        self.params.push(ParamDecl { store, name, shape: shape.to_vec(), init, trained });
        Ok(v)
    }

    /// A range of a state page as a value (for optimiser graphs).
    ///
    /// # Errors
    /// If `len` is impossible.
    pub fn page(&mut self, at: PageRef, len: usize) -> Result<Var> {
        let ty = TensorType::real(&[len])?;
        Ok(self.push_value(ty, Source::Page(at)))
    }

    /// Applies an op; all its results.
    ///
    /// # Errors
    /// If the op's type rule refuses the operands; the scope is added to the message.
    pub fn apply_all(&mut self, op: impl Op, inputs: &[Var]) -> Result<Vec<Var>> {
        self.apply_arc(Arc::new(op), inputs)
    }
    /// Applies an op and returns its first result.
    ///
    /// # Errors
    /// As [`Graph::apply_all`].
    pub fn apply(&mut self, op: impl Op, inputs: &[Var]) -> Result<Var> {
        Ok(self.apply_all(op, inputs)?[0])
    }
    pub(crate) fn apply_arc(&mut self, op: Arc<dyn Op>, inputs: &[Var]) -> Result<Vec<Var>> {
        let types: Vec<TensorType> = inputs.iter().map(|&v| self.ty(v).clone()).collect();
        let out_types = op.infer(&types).map_err(|e| {
            let at = self.path(op.name());
            if e.at.is_none() { e.at(at) } else { e }
        })?;
        let node = self.nodes.len();
        let outputs: Vec<Var> = out_types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| self.push_value(ty, Source::Node(node, i)))
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            scope: self.scope.join("."),
            segment: self.segment,
        });
        Ok(outputs)
    }

    /// Tells every value anew which node makes it, after nodes were taken out or put in.
    pub(crate) fn renumber(&mut self) {
        for (n, node) in self.nodes.iter().enumerate() {
            for (o, v) in node.outputs.iter().enumerate() {
                self.values[v.index()].source = Source::Node(n, o);
            }
        }
    }
    /// Marks a value as readable by the host after a run.
    pub fn output(&mut self, name: &str, v: Var) {
        self.outputs.push((name.to_string(), v));
    }
    /// Prescribes where a value is stored; it then outlives the run.
    pub fn bind(&mut self, v: Var, to: Binding) {
        self.bound.insert(v, to);
    }

    /// Draws inside a named scope.
    ///
    /// # Errors
    /// Whatever `draw` returns.
    pub fn scoped<T>(&mut self, name: &str, draw: impl FnOnce(&mut Graph) -> Result<T>) -> Result<T> {
        self.scope.push(name.to_string());
        let result = draw(self);
        self.scope.pop();
        result
    }
    /// Draws with parameters going to another store, outside the current scope path.
    ///
    /// # Errors
    /// Whatever `draw` returns.
    pub fn in_store<T>(&mut self, store: &str, draw: impl FnOnce(&mut Graph) -> Result<T>) -> Result<T> {
        let (outer_store, outer_scope) =
            (std::mem::replace(&mut self.store, store.to_string()), std::mem::take(&mut self.scope));
        let result = draw(self);
        (self.store, self.scope) = (outer_store, outer_scope);
        result
    }
    /// Draws a recomputation segment: its inner values are computed again in the backward pass instead of kept.
    ///
    /// # Errors
    /// Whatever `draw` returns.
    pub fn recomputed<T>(&mut self, draw: impl FnOnce(&mut Graph) -> Result<T>) -> Result<T> {
        self.segments += 1;
        let outer = self.segment.replace(self.segments);
        let result = draw(self);
        self.segment = outer;
        result
    }
    /// The dotted path of `name` in the current scope.
    pub fn path(&self, name: &str) -> String {
        let mut parts: Vec<&str> = self.scope.iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
        parts.push(name);
        parts.join(".")
    }
}
