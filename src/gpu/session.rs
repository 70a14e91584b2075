//! Runs plans as WGSL dispatches: everything is created when a plan is loaded; a run only encodes and submits.

mod deferred;
mod guards;

pub use deferred::{Drawing, OutputBuffer, Standing};

use super::arrivals::Arrivals;
use super::caps::Gpu;
use super::pipelines::{Key, Pipelines, scoped};
use super::readback::{Reads, poll, wait_for, wait_for_all};
use crate::error::{Error, Result};
use crate::graph::{DType, PageKind, ParamLayout, TensorType};
use crate::ops::{Arg, Caps, Grid, KernelCall, Tier};
use crate::plan::{Place, Plan, Port, Step, UNIFORM_ALIGN};
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use deferred::{Backlog, Wanted};

/// FLOPs of one submit on a GPU: a few milliseconds on a fast one, well under a display's watchdog on a slow one.
const SUBMIT_FLOPS: u64 = 20_000_000_000;
/// Dispatches of one submit.
const SUBMIT_DISPATCHES: usize = 512;
/// Submits that may be under way before `run` waits for the oldest.
const IN_FLIGHT: usize = 16;

/// One recorded dispatch.
pub(super) struct Dispatch {
    pub pipeline: usize,
    pub storage: wgpu::BindGroup,
    pub constants: u32,
    pub grid: Grid,
    /// The step it belongs to.
    pub step: usize,
}

pub(super) struct Loaded {
    pub plan: Arc<Plan>,
    inputs: Vec<wgpu::Buffer>,
    slots: Vec<wgpu::Buffer>,
    pub constants: Option<wgpu::BindGroup>,
    pub list: Vec<Dispatch>,
    chunks: Vec<Range<usize>>,
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
            pipelines: Pipelines::new(&gpu),
            gpu,
            plans: vec![],
            pages: BTreeMap::new(),
            layouts: BTreeMap::new(),
            reads: Reads::default(),
            in_flight: VecDeque::new(),
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
        self.pipelines.reload_changed(&self.gpu)
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
    /// Zeroed buffers of the given sizes in bytes, each with a zone of `guard` bytes behind it.
    fn buffers(&mut self, label: &str, sizes: &[u64], guard: u64) -> Result<Vec<wgpu::Buffer>> {
        let limit = self.gpu.caps().max_buffer;
        if let Some(size) = sizes.iter().find(|&&s| s > limit) {
            return Err(Error::device("a buffer larger than the adapter allows")
                .at(label)
                .expected(format!("at most {} MiB", limit >> 20))
                .got(format!("{} MiB", size >> 20)));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let device = &self.gpu.device;
        let create = |&size: &u64| {
            let (label, size) = (Some(label), size + guard);
            device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        };
        let (buffers, error) = scoped(&self.gpu, || sizes.iter().map(create).collect());
        if let Some(e) = error {
            let total: u64 = sizes.iter().sum();
            return Err(Error::device("not enough GPU memory")
                .at(label)
                .expected(format!("{} MiB", total >> 20))
                .got(e)
                .hint("use a smaller batch, --recompute or a smaller preset"));
        }
        self.bytes += sizes.iter().sum::<u64>();
        Ok(buffers)
    }

    fn place<'a>(&'a self, l: &'a Loaded, place: &Place) -> Result<(&'a wgpu::Buffer, u64)> {
        let lost = || Error::device("a place without a buffer");
        Ok(match place {
            Place::Input(i) => (l.inputs.get(*i).ok_or_else(lost)?, 0),
            Place::Slot(s) => (l.slots.get(*s).ok_or_else(lost)?, 0),
            Place::Page(r) => (self.page(&r.store, r.kind, r.page)?, 4 * r.offset as u64),
        })
    }

    /// The buffer range behind a binding of a call.
    fn binding<'a>(&'a self, l: &'a Loaded, step: &Step, arg: Arg) -> Result<wgpu::BufferBinding<'a>> {
        let missing = || Error::device("a kernel binds an operand that is not there").at(step.label.clone());
        let (place, ty): (&Place, Option<&TensorType>) = match arg {
            Arg::In(i) => (step.ins.get(i).ok_or_else(missing)?, step.in_types.get(i)),
            Arg::Out(i) => (step.outs.get(i).ok_or_else(missing)?, step.out_types.get(i)),
            Arg::Scratch(i) => (step.scratch.get(i).ok_or_else(missing)?, None),
        };
        let (buffer, offset) = self.place(l, place)?;
        let guarded = self.guard > 0 && !matches!(place, Place::Page(_));
        let size = ty.filter(|_| !guarded).map_or(buffer.size(), TensorType::bytes);
        let limit = self.gpu.caps().max_binding;
        if size > limit {
            return Err(Error::device("a tensor larger than one binding of the adapter")
                .at(step.label.clone())
                .expected(format!("at most {} MiB", limit >> 20))
                .got(format!("{} MiB", size >> 20))
                .hint("use a smaller batch"));
        }
        Ok(wgpu::BufferBinding { buffer, offset, size: wgpu::BufferSize::new(size) })
    }

    fn record(&self, l: &Loaded, s: usize, call: &KernelCall, constants: u32) -> Result<Dispatch> {
        let step = &l.plan.steps[s];
        let key = Key::of(call);
        let unprepared = || Error::device("a kernel was not prepared").at(step.label.clone());
        let bindings =
            call.bindings.iter().map(|b| self.binding(l, step, b.0)).collect::<Result<Vec<_>>>()?;
        let entries: Vec<_> = (0..)
            .zip(bindings)
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(b) })
            .collect();
        let storage = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&step.label),
            layout: self.pipelines.storage_layout(&key).ok_or_else(unprepared)?,
            entries: &entries,
        });
        let pipeline = self.pipelines.number(&key).ok_or_else(unprepared)?;
        Ok(Dispatch { pipeline, storage, constants, grid: call.grid, step: s })
    }

    /// Uploads the uniform blocks of all calls, 256 bytes apart.
    fn upload_constants(&mut self, plan: &Plan) -> Result<Option<wgpu::BindGroup>> {
        let calls: Vec<&KernelCall> = plan.steps.iter().flat_map(|s| &s.calls).collect();
        if calls.is_empty() {
            return Ok(None);
        }
        let block = (UNIFORM_ALIGN / 4) as usize;
        let mut words = vec![0u32; calls.len() * block];
        for (to, call) in words.chunks_mut(block).zip(&calls) {
            if call.params.len() > block {
                return Err(Error::device("too many constants of a kernel").at(call.shader));
            }
            to[..call.params.len()].copy_from_slice(&call.params);
        }
        let size = 4 * words.len() as u64;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let label = Some("constants");
        let buffer = self.gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size,
            usage,
            mapped_at_creation: false,
        });
        self.bytes += size;
        self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
        let binding =
            wgpu::BufferBinding { buffer: &buffer, offset: 0, size: wgpu::BufferSize::new(UNIFORM_ALIGN) };
        Ok(Some(self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label,
            layout: self.pipelines.uniform_layout(),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(binding) }],
        })))
    }

    /// Encodes dispatches into a pass.
    pub(super) fn encode(&self, l: &Loaded, range: Range<usize>, pass: &mut wgpu::ComputePass<'_>) {
        let mut current = usize::MAX;
        for d in &l.list[range] {
            if d.pipeline != current {
                pass.set_pipeline(self.pipelines.get(d.pipeline));
                current = d.pipeline;
            }
            pass.set_bind_group(0, &d.storage, &[]);
            if let Some(constants) = &l.constants {
                pass.set_bind_group(1, constants, &[d.constants]);
            }
            pass.dispatch_workgroups(d.grid[0], d.grid[1], d.grid[2]);
        }
    }
}

/// Cuts the list where the work or the number of dispatches of a submit would pass its bound.
fn chunks(plan: &Plan, list: &[Dispatch], software: bool) -> Vec<Range<usize>> {
    let budget = if software { u64::MAX } else { SUBMIT_FLOPS };
    let (mut all, mut start, mut work) = (Vec::new(), 0, 0u64);
    for (i, d) in list.iter().enumerate() {
        let step = &plan.steps[d.step];
        let flops = step.cost.flops / step.calls.len().max(1) as u64;
        if i > start && (work + flops > budget || i - start >= SUBMIT_DISPATCHES) {
            all.push(start..i);
            (start, work) = (i, 0);
        }
        work += flops;
    }
    if start < list.len() {
        all.push(start..list.len());
    }
    all
}

fn check_caps(plan: &Plan, caps: &Caps) -> Result<()> {
    let needed = plan.steps.iter().flat_map(|s| &s.calls).map(|c| c.bindings.len()).max().unwrap_or(0);
    // The kernels of either class of GPU run on the other; those that a feature is missing for do not.
    let features = |c: &Caps| (c.subgroup_size, c.f16, c.int64);
    let (wanted, own) = (features(&plan.caps), features(caps));
    let there = (wanted.0 == 0 || wanted.0 == own.0) && wanted.1 <= own.1 && wanted.2 <= own.2;
    if plan.caps.tier != Tier::Cpu && there && needed <= caps.max_storage_buffers as usize {
        return Ok(());
    }
    Err(Error::device("the plan was compiled for another device")
        .at(plan.name.clone())
        .expected(format!("{:?} with {} storage buffers", caps.tier, caps.max_storage_buffers))
        .got(format!("{:?} with {needed}", plan.caps.tier)))
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
        self.put(buffer, 0, bytemuck::cast_slice(data));
        Ok(())
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
        check_caps(&plan, &self.gpu.caps())?;
        for (store, hash) in &plan.stores {
            if self.layouts.get(store).is_some_and(|h| h != hash) {
                return Err(Error::device("plan and store have different layouts")
                    .at(format!("{}: {store}", plan.name)));
            }
        }
        let keys = plan.steps.iter().flat_map(|s| &s.calls).map(Key::of);
        self.pipelines.prepare(&self.gpu, keys)?;
        let before = self.bytes;
        let loaded = self.allocate(plan).inspect_err(|_| self.bytes = before)?;
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
        self.gpu.check()?;
        self.loaded(id)?;
        if self.run_later(id) {
            return Ok(());
        }
        let l = self.loaded(id)?;
        let mut submitted = Vec::with_capacity(l.chunks.len());
        for range in &l.chunks {
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            self.encode(l, range.clone(), &mut encoder.begin_compute_pass(&Default::default()));
            submitted.push(self.gpu.queue.submit([encoder.finish()]));
        }
        self.in_flight.extend(submitted);
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

impl GpuSession {
    /// Creates everything that a plan needs on the device.
    fn allocate(&mut self, plan: Arc<Plan>) -> Result<Loaded> {
        let inputs: Vec<u64> = plan.inputs.iter().map(|p| p.ty.bytes()).collect();
        let slots: Vec<u64> = plan.slots.iter().map(|s| 4 * s.elements as u64).collect();
        let mut l = Loaded {
            inputs: self.buffers(&plan.name, &inputs, self.guard)?,
            slots: self.buffers(&plan.name, &slots, self.guard)?,
            constants: self.upload_constants(&plan)?,
            list: vec![],
            chunks: vec![],
            plan,
        };
        l.inputs.iter().chain(&l.slots).enumerate().for_each(|(i, buffer)| self.write_guard(i, buffer));
        let calls: Vec<(usize, KernelCall)> = (l.plan.steps.iter().enumerate())
            .flat_map(|(s, step)| step.calls.iter().map(move |c| (s, c.clone())))
            .collect();
        let (list, error) = scoped(&self.gpu, || {
            let record = |(i, (s, call)): (usize, &(usize, KernelCall))| {
                self.record(&l, *s, call, (i as u64 * UNIFORM_ALIGN) as u32)
            };
            calls.iter().enumerate().map(record).collect::<Result<Vec<_>>>()
        });
        l.list = list?;
        if let Some(e) = error {
            return Err(Error::device("a dispatch does not fit its buffers").at(l.plan.name.clone()).got(e));
        }
        l.chunks = chunks(&l.plan, &l.list, self.gpu.is_software());
        Ok(l)
    }
}
