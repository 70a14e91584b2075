//! Graphs over several stores, run several times: state that a step changes is still there in the next.

use std::sync::Arc;

use beit::graph::{Graph, PageKind};
use beit::io::tensors::{Tensor, Tensors};
use beit::plan::{CompileOptions, Plan, compile};
use beit::session::{Data, HostData, PlanId, Session};

use super::case::{Case, Outcome};
use super::device::{Device, pages};

/// The weights of a case by their own names, without counters of batches.
pub fn plain_weights(case: &Case) -> Outcome<Tensors> {
    let all = case.arrays("weights.safetensors")?;
    let own = all.into_iter().filter(|(name, _)| !name.ends_with(".num_batches_tracked"));
    own.map(|(name, a)| Ok((name, Tensor::f32(a.shape.clone(), a.reals())?))).collect()
}

/// A loaded graph.
pub struct Loaded {
    session: Box<dyn Session>,
    id: PlanId,
    plan: Arc<Plan>,
}

impl Loaded {
    /// Loads a graph with the weights of its stores.
    pub fn new(device: &Device, graph: &Graph, stores: &[(&str, &Tensors)]) -> Outcome<Self> {
        let mut session = device.session();
        let mut layouts = Vec::new();
        for (store, weights) in stores {
            let layout = device.layout(graph, store)?;
            session.add_store(&layout, &[PageKind::Param])?;
            for (page, data) in pages(&layout, weights)?.iter().enumerate() {
                session.write_page(store, PageKind::Param, page, data)?;
            }
            layouts.push(layout);
        }
        let layouts: Vec<_> = layouts.iter().collect();
        let plan = Arc::new(compile("parity", graph, &layouts, &device.caps, &CompileOptions::default())?);
        let id = session.load(plan.clone())?;
        Ok(Loaded { session, id, plan })
    }
    /// Writes inputs and runs once.
    pub fn run(&mut self, inputs: &[(&str, HostData)]) -> Outcome {
        for (name, data) in inputs {
            match data {
                HostData::F32(v) => self.session.write(self.id, name, Data::F32(v))?,
                HostData::U32(v) => self.session.write(self.id, name, Data::U32(v))?,
            }
        }
        Ok(self.session.run(self.id)?)
    }
    /// Names of the outputs.
    pub fn outputs(&self) -> Vec<String> {
        self.plan.outputs.iter().map(|p| p.name.clone()).collect()
    }
    /// An output after the last run.
    pub fn read(&mut self, name: &str) -> Outcome<Vec<f64>> {
        Ok(match self.session.read(self.id, name)? {
            HostData::F32(v) => v.into_iter().map(f64::from).collect(),
            HostData::U32(v) => v.into_iter().map(f64::from).collect(),
        })
    }
}
