//! The devices that every case runs on, and one run of a graph on one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use beit::cpu::CpuSession;
use beit::graph::{Graph, PageKind, ParamLayout};
use beit::io::fit::check_fit;
use beit::io::tensors::{Tensor, Tensors};
use beit::ops::Caps;
use beit::plan::{CompileOptions, compile};
use beit::session::{Data, HostData, Session};
use beit::train::page_bytes;

use super::case::Outcome;

/// Makes an empty session.
type Make = Box<dyn Fn() -> Box<dyn Session>>;

/// Something that runs plans.
pub struct Device {
    /// For people.
    pub name: String,
    /// Which of a case's bounds applies.
    pub bound: &'static str,
    /// What plans are compiled with.
    pub caps: Caps,
    make: Make,
}

impl Device {
    /// The CPU kernels in f32.
    pub fn cpu() -> Self {
        let make: Make = Box::new(|| Box::new(CpuSession::<f32>::new()));
        Device { name: "cpu".into(), bound: "cpu_f32", caps: Caps::cpu(), make }
    }
    /// The shaders on an adapter.
    #[cfg(feature = "gpu")]
    pub fn gpu(gpu: beit::gpu::Gpu, caps: Caps) -> Self {
        let name = format!("{} ({:?} kernels)", gpu.info().name, caps.tier).to_lowercase();
        let make: Make = Box::new(move || Box::new(beit::gpu::GpuSession::new(gpu.clone())));
        Device { name, bound: "gpu_f32", caps, make }
    }
    /// A new session.
    pub fn session(&self) -> Box<dyn Session> {
        (self.make)()
    }
    /// The layout of a store of a graph.
    pub fn layout(&self, graph: &Graph, store: &str) -> Outcome<ParamLayout> {
        Ok(ParamLayout::of(graph, store, page_bytes(&self.caps))?)
    }

    /// Runs a graph once with weights in one store; all outputs.
    pub fn evaluate(
        &self,
        graph: &Graph,
        store: &str,
        weights: &Tensors,
        inputs: &[(&str, HostData)],
    ) -> Outcome<Outputs> {
        let layout = self.layout(graph, store)?;
        let mut session = self.session();
        session.add_store(&layout, &[PageKind::Param])?;
        for (page, data) in pages(&layout, weights)?.iter().enumerate() {
            session.write_page(store, PageKind::Param, page, data)?;
        }
        let plan = Arc::new(compile("parity", graph, &[&layout], &self.caps, &CompileOptions::default())?);
        let id = session.load(plan.clone())?;
        for (name, data) in inputs {
            match data {
                HostData::F32(v) => session.write(id, name, Data::F32(v))?,
                HostData::U32(v) => session.write(id, name, Data::U32(v))?,
            }
        }
        session.run(id)?;
        let names: Vec<&str> = plan.outputs.iter().map(|p| p.name.as_str()).collect();
        let ticket = session.fetch(id, &names)?;
        let read = session.take(ticket, true)?.ok_or("no outputs arrived")?;
        let one = |(port, data): (&beit::plan::Port, HostData)| {
            let values = match data {
                HostData::F32(v) => v.into_iter().map(f64::from).collect(),
                HostData::U32(v) => v.into_iter().map(f64::from).collect(),
            };
            (port.name.clone(), super::case::Array { shape: port.ty.shape().to_vec(), values })
        };
        Ok(Outputs(plan.outputs.iter().zip(read).map(one).collect()))
    }
}

/// Outputs by name.
pub struct Outputs(BTreeMap<String, super::case::Array>);

impl Outputs {
    /// One of them.
    pub fn get(&self, name: &str) -> Outcome<&super::case::Array> {
        Ok(self.0.get(name).ok_or_else(|| format!("no output {name}"))?)
    }
    /// All whose names start so, without the prefix, as tensors.
    pub fn tensors(&self, prefix: &str) -> Outcome<Tensors> {
        let own = self.0.iter().filter_map(|(n, a)| Some((n.strip_prefix(prefix)?.to_string(), a)));
        own.map(|(n, a)| Ok((n, Tensor::f32(a.shape.clone(), a.reals())?))).collect()
    }
    /// An output `[B,H,W,C]` as `[B,C,H,W]`.
    pub fn planes(&self, name: &str) -> Outcome<Vec<f64>> {
        let a = self.get(name)?;
        let &[b, h, w, c] = a.shape.as_slice() else { return Err(format!("{name}: {:?}", a.shape).into()) };
        Ok(permute(&a.values, b, h * w, c))
    }
}

/// `[b, n, c]` → `[b, c, n]`: channels first; with `n` and `c` exchanged, channels last again.
pub fn permute<T: Copy>(values: &[T], b: usize, n: usize, c: usize) -> Vec<T> {
    (0..b * n * c).map(|i| values[(i / (n * c) * n + i % n) * c + i / n % c]).collect()
}

/// Pages filled with tensors by parameter name; all must be there in the right shape, and no other.
pub fn pages(layout: &ParamLayout, tensors: &Tensors) -> Outcome<Vec<Vec<f32>>> {
    check_fit(tensors, &layout.views.iter().map(|v| (v.name.clone(), v.shape.clone())).collect())?;
    let mut pages: Vec<Vec<f32>> = layout.pages.iter().map(|&n| vec![0.0; n]).collect();
    for v in &layout.views {
        let values = tensors[&v.name].as_f32()?;
        pages[v.page][v.offset..][..values.len()].copy_from_slice(values);
    }
    Ok(pages)
}

/// The reverse of [`pages`].
pub fn tensors(layout: &ParamLayout, pages: &[Vec<f32>]) -> Outcome<Tensors> {
    let one = |v: &beit::graph::ParamView| {
        let data = pages[v.page][v.offset..][..v.elements()].to_vec();
        Ok((v.name.clone(), Tensor::f32(v.shape.clone(), data)?))
    };
    layout.views.iter().map(one).collect()
}
