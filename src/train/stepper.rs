//! One trainable store on one session: micro-batches, updates, state in and out.

use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout, Var, grad, grad_from};
use crate::ops::{CONTROL_LEN, Caps, Hyper};
use crate::optim::{Decay, Rates, Update, bind_gradients, group_table, loss_scale, update_graph};
use crate::plan::{CompileOptions, Plan, compile};
use crate::session::{Data, PlanId, Session};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pages of parameters stay within one storage binding and one buffer.
pub fn page_bytes(caps: &Caps) -> u64 {
    caps.max_binding.min(caps.max_buffer)
}

/// The kinds of pages a trained store has.
pub const TRAINED: [PageKind; 6] =
    [PageKind::Param, PageKind::Grad, PageKind::Moment1, PageKind::Moment2, PageKind::Ema, PageKind::Control];

/// Store that stands for the moving average of the trained store's weights: a teacher that follows its student.
pub const AVERAGE: &str = "average";

/// How a graph that reads `store` and its [`AVERAGE`] is compiled.
pub fn with_average(store: &str) -> CompileOptions {
    let average = (AVERAGE.to_string(), (store.to_string(), PageKind::Ema));
    CompileOptions { stand_ins: BTreeMap::from([average]), ..CompileOptions::default() }
}

/// The plans of a training step, before anything is allocated.
#[derive(Debug, Clone)]
pub struct StepPlans {
    /// Layout of the trained store.
    pub layout: ParamLayout,
    /// Forward and backward of one micro-batch; gradients end in the gradient pages.
    pub micro: Plan,
    /// The update.
    pub update: Plan,
    /// Kinds of pages of the trained store.
    pub kinds: Vec<PageKind>,
    /// Micro-batches per update.
    pub accumulate: usize,
    decay: Decay,
    rates: Rates,
}

/// Settings of [`StepPlans::new`].
#[derive(Debug, Clone, Copy)]
pub struct StepOptions {
    /// Keep a moving average of the parameters.
    pub ema: bool,
    /// Micro-batches per update.
    pub accumulate: usize,
    /// Which parameters decay.
    pub decay: Decay,
    /// Their learning rates, relative to the schedule's.
    pub rates: Rates,
}

impl StepPlans {
    /// Draws the gradients of `loss` with respect to all parameters of `store` and compiles both plans.
    ///
    /// `frozen` are the layouts of other stores that the graph reads; it may read its own [`AVERAGE`] if one is kept.
    ///
    /// # Errors
    /// If drawing or compiling fails.
    pub fn new(
        name: &str,
        mut graph: Graph,
        loss: Var,
        store: &str,
        frozen: &[&ParamLayout],
        caps: &Caps,
        options: StepOptions,
    ) -> Result<StepPlans> {
        let layout = ParamLayout::of(&graph, store, page_bytes(caps))?;
        let params = graph.params_of(store);
        let vars: Vec<Var> = params.iter().map(|(_, v)| *v).collect();
        // Halves have few exponents: gradients are kept among them by a scale that the update follows and undoes.
        let scaled = caps.half;
        let grads = if scaled {
            let seed = loss_scale(&mut graph, store)?;
            grad_from(&mut graph, loss, seed, &vars)?
        } else {
            grad(&mut graph, loss, &vars)?
        };
        let named: Vec<(String, Var)> =
            params.into_iter().zip(grads).filter_map(|((name, _), g)| g.map(|g| (name, g))).collect();
        bind_gradients(&mut graph, &layout, &named, options.accumulate > 1)?;
        let mut layouts = vec![&layout];
        layouts.extend_from_slice(frozen);
        let micro = compile(name, &graph, &layouts, caps, &with_average(store))?;
        let zero = options.accumulate > 1;
        let update_graph = update_graph(&layout, Update { ema: options.ema, zero, scaled })?;
        let update =
            compile(&format!("{name} update"), &update_graph, &[&layout], caps, &CompileOptions::default())?;
        let kinds = TRAINED.into_iter().filter(|&k| options.ema || k != PageKind::Ema).collect();
        let StepOptions { accumulate, decay, rates, .. } = options;
        Ok(StepPlans { layout, micro, update, kinds, accumulate, decay, rates })
    }

    /// Bytes of all pages of the trained store.
    pub fn page_bytes(&self) -> u64 {
        let full = self.kinds.iter().filter(|&&k| k != PageKind::Control).count() as u64;
        full * self.layout.bytes() + 4 * CONTROL_LEN as u64
    }
    /// Bytes a session allocates for a step: pages, transients, inputs, uniforms.
    pub fn total_bytes(&self) -> u64 {
        let plan = |p: &Plan| {
            let m = p.memory();
            m.slots + m.inputs + m.uniforms
        };
        self.page_bytes() + plan(&self.micro) + plan(&self.update)
    }
}

/// Everything that a step changes, on the host: one vector per page, in the order of [`State::kinds`].
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Pages by kind.
    pub pages: Vec<(PageKind, Vec<Vec<f32>>)>,
}

impl State {
    /// The pages of one kind.
    pub fn kind(&self, kind: PageKind) -> Option<&[Vec<f32>]> {
        self.pages.iter().find(|(k, _)| *k == kind).map(|(_, p)| p.as_slice())
    }
    /// The initial state under a seed.
    pub fn initial(layout: &ParamLayout, kinds: &[PageKind], seed: u64) -> State {
        let pages = kinds.iter().filter(|&&k| k != PageKind::Grad).map(|&kind| {
            let pages = match kind {
                PageKind::Param | PageKind::Ema => layout.initial(seed),
                PageKind::Control => vec![vec![0.0; CONTROL_LEN]],
                _ => layout.pages.iter().map(|&n| vec![0.0; n]).collect(),
            };
            (kind, pages)
        });
        State { pages: pages.collect() }
    }
}

/// Runs training steps of one store.
pub struct Stepper {
    /// The session; evaluation plans may be loaded beside.
    pub session: Box<dyn Session>,
    /// Layout of the trained store.
    pub layout: ParamLayout,
    micro: PlanId,
    update: PlanId,
    kinds: Vec<PageKind>,
    decay: Decay,
}

impl Stepper {
    /// Allocates pages and loads both plans; frozen stores must have been added to the session before.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(mut session: Box<dyn Session>, plans: StepPlans) -> Result<Stepper> {
        session.add_store(&plans.layout, &plans.kinds)?;
        let micro = session.load(Arc::new(plans.micro))?;
        let update = session.load(Arc::new(plans.update))?;
        let StepPlans { layout, kinds, decay, rates, .. } = plans;
        let mut stepper = Stepper { session, layout, micro, update, kinds, decay };
        stepper.set_rates(rates)?;
        Ok(stepper)
    }
    /// Changes the relative learning rates from the next update on.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn set_rates(&mut self, rates: Rates) -> Result<()> {
        for (page, table) in group_table(&self.layout, self.decay, rates).iter().enumerate() {
            self.session.write(self.update, &format!("groups.{page}"), Data::F32(table))?;
        }
        Ok(())
    }
    /// Writes an input of the micro-batch plan.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn write(&mut self, input: &str, data: Data<'_>) -> Result<()> {
        self.session.write(self.micro, input, data)
    }
    /// Kinds of pages of the trained store.
    pub fn kinds(&self) -> &[PageKind] {
        &self.kinds
    }
    /// The micro-batch plan.
    pub fn micro(&self) -> PlanId {
        self.micro
    }
    /// Runs forward and backward of the inputs written before.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn run_micro(&mut self) -> Result<()> {
        self.session.run(self.micro)
    }
    /// Runs forward and backward of the inputs written before and, given its `update`, the update after them.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn run_batch(&mut self, update: Option<&Hyper>) -> Result<()> {
        let Some(hyper) = update else { return self.run_micro() };
        self.session.write(self.update, "hyper", Data::F32(&hyper.block()))?;
        self.session.run_all(&[self.micro, self.update])
    }
    /// Runs the update.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn run_update(&mut self, hyper: &Hyper) -> Result<()> {
        self.session.write(self.update, "hyper", Data::F32(&hyper.block()))?;
        self.session.run(self.update)
    }
    /// Starts reading the control block of the last update.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn fetch_control(&mut self) -> Result<crate::session::Ticket> {
        self.session.fetch(self.update, &["control"])
    }
    /// Writes the parameters that training under a seed begins with, and their average. The pages must be new: moments
    /// and counters are zero there and stay so.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn begin(&mut self, seed: u64) -> Result<()> {
        self.begin_with(&self.layout.initial(seed))
    }
    /// As [`Stepper::begin`], with these parameters.
    ///
    /// # Errors
    /// If the pages do not fit the layout or the device refuses.
    pub fn begin_with(&mut self, pages: &[Vec<f32>]) -> Result<()> {
        for &kind in self.kinds.iter().filter(|k| matches!(k, PageKind::Param | PageKind::Ema)) {
            for (p, page) in pages.iter().enumerate() {
                self.session.write_page(&self.layout.store, kind, p, page)?;
            }
        }
        Ok(())
    }
    /// Copies everything that training changes to the host.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn state(&mut self) -> Result<State> {
        let mut pages = Vec::new();
        for &kind in self.kinds.iter().filter(|&&k| k != PageKind::Grad) {
            let count = if kind == PageKind::Control { 1 } else { self.layout.pages.len() };
            let read = (0..count).map(|p| self.session.read_page(&self.layout.store, kind, p));
            pages.push((kind, read.collect::<Result<Vec<_>>>()?));
        }
        Ok(State { pages })
    }
    /// Puts a state back.
    ///
    /// # Errors
    /// If its pages do not fit the layout.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        for (kind, pages) in &state.pages {
            if !self.kinds.contains(kind) {
                return Err(Error::checkpoint("state with pages that this run does not keep")
                    .got(format!("{kind:?}")));
            }
            for (p, data) in pages.iter().enumerate() {
                self.session.write_page(&self.layout.store, *kind, p, data)?;
            }
        }
        Ok(())
    }
}
