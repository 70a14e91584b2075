//! Runs plans as WGSL dispatches: everything is created when a plan is loaded; a run only submits.

mod deferred;
mod guards;
mod load;
mod recorded;

pub use deferred::{Drawing, OutputBuffer, Standing};

use super::arrivals::Arrivals;
use super::caps::Gpu;
use super::pipelines::{Key, Pipelines};
use super::readback::{Reads, poll, wait_for, wait_for_all};
use crate::error::{Error, Result};
use crate::graph::{DType, PageKind, ParamLayout};
use crate::ops::{Caps, Grid};
use crate::plan::{Place, Plan, Port};
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use deferred::{Backlog, Wanted};
use recorded::Recorded;
pub(super) use recorded::encode;

/// Submits that may be under way before `run` waits for the oldest.
const IN_FLIGHT: usize = 16;

/// One recorded dispatch.
pub(super) struct Dispatch {
    pub pipeline: usize,
    pub group: wgpu::BindGroup,
    pub grid: Grid,
    /// The step it belongs to.
    pub step: usize,
    /// Work, for the budget of a submit.
    flops: u64,
}

pub(super) struct Loaded {
    pub plan: Arc<Plan>,
    inputs: Vec<wgpu::Buffer>,
    slots: Vec<wgpu::Buffer>,
    /// The uniform blocks of all dispatches, 256 bytes apart; none without dispatches.
    constants: Option<wgpu::Buffer>,
    pub list: Arc<[Dispatch]>,
}

/// A session on a GPU.
pub struct GpuSession {
    pub(super) gpu: Gpu,
    pub(super) pipelines: Pipelines,
    pub(super) plans: Vec<Loaded>,
    pages: BTreeMap<(String, PageKind, usize), wgpu::Buffer>,
    layouts: BTreeMap<String, String>,
    pub(super) reads: Reads,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    recorded: Recorded,
    /// Bytes of pages written since a submit that was made for them.
    unsubmitted: usize,
    bytes: u64,
    /// Bytes of the zone behind every input and slot; 0 except in tests.
    guard: u64,
    /// Work that waits to be submitted, in a session that shares its device.
    backlog: Option<Backlog>,
}

impl GpuSession {
    /// An empty session.
    pub fn new(gpu: Gpu) -> Self {
        GpuSession {
            pipelines: Pipelines::new(),
            gpu,
            plans: vec![],
            pages: BTreeMap::new(),
            layouts: BTreeMap::new(),
            reads: Reads::default(),
            in_flight: VecDeque::new(),
            recorded: Recorded::default(),
            unsubmitted: 0,
            bytes: 0,
            guard: 0,
            backlog: None,
        }
    }
    /// The device it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
    /// Rebuilds the kernels whose WGSL changed on disk (native debug builds) and returns how many.
    ///
    /// # Errors
    /// If a file is broken, with file, line and column; the old kernels go on.
    pub fn reload_changed(&mut self) -> Result<usize> {
        let changed = self.pipelines.reload_changed(&self.gpu)?;
        if changed > 0 {
            self.forget_recorded();
        }
        Ok(changed)
    }
    /// The WGSL texts that kernels loaded from now on are made of (experiments and tests).
    pub fn library_mut(&mut self) -> &mut super::shaders::Library {
        self.pipelines.library_mut()
    }
    /// Tells when read-backs arrive; what a browser or a user interface waits on instead of blocking.
    pub fn arrivals(&self) -> Arrivals {
        self.reads.arrivals.clone()
    }

    fn page(&self, store: &str, kind: PageKind, page: usize) -> Result<&wgpu::Buffer> {
        self.pages
            .get(&(store.to_string(), kind, page))
            .ok_or_else(|| Error::device("no such page").at(format!("{store} {kind:?} {page}")))
    }
    pub(super) fn loaded(&self, id: PlanId) -> Result<&Loaded> {
        self.plans.get(id.0).ok_or_else(|| Error::device("no such plan"))
    }
    fn place<'a>(&'a self, l: &'a Loaded, place: &Place) -> Result<(&'a wgpu::Buffer, u64)> {
        let lost = || Error::device("a place without a buffer");
        Ok(match place {
            Place::Input(i) => (l.inputs.get(*i).ok_or_else(lost)?, 0),
            Place::Slot(s) => (l.slots.get(*s).ok_or_else(lost)?, 0),
            Place::Page(r) => (self.page(&r.store, r.kind, r.page)?, 4 * r.offset as u64),
        })
    }
}

fn port<'p>(ports: &'p [Port], name: &str, plan: &Plan) -> Result<&'p Port> {
    ports.iter().find(|p| p.name == name).ok_or_else(|| {
        let names: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
        Error::device("no such input or output")
            .at(format!("{}: {name}", plan.name))
            .expected(names.join(", "))
    })
}

fn not_in_time() -> Error {
    Error::device("the read-back has not arrived").hint("in a browser, fetch and take it later")
}

impl Session for GpuSession {
    fn as_gpu(&mut self) -> Option<&mut GpuSession> {
        Some(self)
    }
    fn device(&self) -> String {
        self.gpu.info().to_string()
    }
    fn caps(&self) -> Caps {
        self.gpu.caps()
    }
    fn add_store(&mut self, layout: &ParamLayout, kinds: &[PageKind]) -> Result<()> {
        self.gpu.check()?;
        let hash = layout.hash();
        if self.layouts.get(&layout.store).is_some_and(|h| *h != hash) {
            return Err(Error::device("store exists with another layout").at(layout.store.clone()));
        }
        self.layouts.insert(layout.store.clone(), hash);
        for &kind in kinds {
            let control = [crate::ops::CONTROL_LEN];
            let pages = if kind == PageKind::Control { &control[..] } else { &layout.pages };
            for (page, &elements) in pages.iter().enumerate() {
                let key = (layout.store.clone(), kind, page);
                if !self.pages.contains_key(&key) {
                    let buffers = self.buffers(&layout.store, &[4 * elements as u64], 0)?;
                    self.pages.extend(buffers.into_iter().map(|b| (key.clone(), b)));
                }
            }
        }
        Ok(())
    }
    fn write_page(&mut self, store: &str, kind: PageKind, page: usize, data: &[f32]) -> Result<()> {
        self.gpu.check()?;
        let buffer = self.page(store, kind, page)?.clone();
        if buffer.size() != 4 * data.len() as u64 {
            return Err(Error::device("page of another length")
                .expected((buffer.size() / 4).to_string())
                .got(data.len().to_string()));
        }
        self.put_pieces(buffer, bytemuck::cast_slice(data))
    }
    fn fetch_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Ticket> {
        let buffer = self.page(store, kind, page)?.clone();
        let bytes = buffer.size();
        self.read_later(vec![Wanted { buffer, offset: 0, bytes, dtype: DType::F32 }])
    }
    fn read_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Vec<f32>> {
        let ticket = self.fetch_page(store, kind, page)?;
        let mut all = self.take(ticket, true)?.ok_or_else(not_in_time)?;
        Ok(all.pop().map(HostData::f32).unwrap_or_default())
    }
    fn load(&mut self, plan: Arc<Plan>) -> Result<PlanId> {
        self.gpu.check()?;
        load::check_caps(&plan, &self.gpu.caps())?;
        for (store, hash) in &plan.stores {
            if self.layouts.get(store).is_some_and(|h| h != hash) {
                return Err(Error::device("plan and store have different layouts")
                    .at(format!("{}: {store}", plan.name)));
            }
        }
        let keys = plan.steps.iter().flat_map(|s| &s.calls).map(Key::of);
        #[cfg(not(target_arch = "wasm32"))]
        let known = self.pipelines.all().len();
        self.pipelines.prepare(&self.gpu, keys)?;
        let before = self.bytes;
        let loaded = self.allocate(plan).inspect_err(|_| self.bytes = before)?;
        #[cfg(not(target_arch = "wasm32"))]
        if self.backlog.is_none() {
            let calls = loaded.plan.steps.iter().flat_map(|s| &s.calls);
            super::warm::compile(&self.gpu, &self.pipelines, &loaded.list, calls, known)?;
        }
        self.plans.push(loaded);
        self.gpu.check()?;
        Ok(PlanId(self.plans.len() - 1))
    }
    fn write(&mut self, id: PlanId, input: &str, data: Data<'_>) -> Result<()> {
        self.gpu.check()?;
        let l = self.loaded(id)?;
        let port = port(&l.plan.inputs, input, &l.plan)?;
        let (bytes, dtype): (&[u8], DType) = match data {
            Data::F32(d) => (bytemuck::cast_slice(d), DType::F32),
            Data::U32(d) => (bytemuck::cast_slice(d), DType::U32),
        };
        if dtype != port.ty.dtype() || bytes.len() as u64 != port.ty.bytes() {
            return Err(Error::device("input of the wrong type or length")
                .at(port.name.clone())
                .expected(port.ty.to_string())
                .got(format!("{} elements", bytes.len() / 4)));
        }
        let (buffer, offset) = self.place(l, &port.place)?;
        self.put(buffer.clone(), offset, bytes);
        Ok(())
    }
    fn run(&mut self, id: PlanId) -> Result<()> {
        self.run_all(&[id])
    }
    fn run_all(&mut self, ids: &[PlanId]) -> Result<()> {
        self.gpu.check()?;
        ids.iter().try_for_each(|&id| self.loaded(id).map(|_| ()))?;
        if self.backlog.is_some() {
            ids.iter().for_each(|&id| self.run_later(id));
            return Ok(());
        }
        self.submit_run(ids)?;
        while self.in_flight.len() > IN_FLIGHT {
            if let Some(oldest) = self.in_flight.pop_front() {
                wait_for(&self.gpu, &oldest)?;
            }
        }
        self.gpu.check()
    }
    fn fetch(&mut self, id: PlanId, outputs: &[&str]) -> Result<Ticket> {
        self.gpu.check()?;
        let wanted = |name: &&str| {
            let at = self.output(id, name)?;
            let (bytes, dtype) = (at.ty.bytes(), at.ty.dtype());
            Ok(Wanted { buffer: at.buffer, offset: at.offset, bytes, dtype })
        };
        let parts = outputs.iter().map(wanted).collect::<Result<_>>()?;
        self.read_later(parts)
    }
    fn take(&mut self, ticket: Ticket, wait: bool) -> Result<Option<Vec<HostData>>> {
        match (wait, &self.backlog) {
            (true, _) => self.submit_all()?,
            // A deferred session is polled by its `advance`: a second poll may have to wait for a frame of the window.
            (false, Some(_)) => {}
            (false, None) => poll(&self.gpu)?,
        }
        self.reads.take(&self.gpu, ticket, wait)
    }
    fn profile(&mut self, id: PlanId) -> Result<Option<Vec<f64>>> {
        match self.step_seconds(id)? {
            Some(seconds) => Ok(Some(seconds)),
            None => self.run(id).map(|()| None),
        }
    }
    fn allocated(&self) -> u64 {
        self.bytes
    }
    fn finish(&mut self) -> Result<()> {
        self.gpu.check()?;
        if self.backlog.is_some() {
            self.submit_all()?;
            return wait_for_all(&self.gpu);
        }
        if let Some(last) = self.in_flight.pop_back() {
            wait_for(&self.gpu, &last)?;
            self.in_flight.clear();
        }
        self.gpu.check()
    }
}
