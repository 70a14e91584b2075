//! Kernels compiled on several threads, for a driver that compiles in one: Mesa's llvmpipe translates a kernel when it is
//! dispatched for the first time, on the thread of the device's queue. Devices of other threads do the same beside it, and
//! what they have compiled lies in the driver's shader cache when the first run asks for it.

use super::caps::Gpu;
use super::pipelines::{Key, Pipelines};
use super::readback::wait_for;
use super::session::Dispatch;
use crate::error::Result;
use crate::ops::{Access, KernelCall, UNIFORM_BINDING, UNIFORM_BYTES};
use crate::plan::UNIFORM_ALIGN;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Part of the name of the adapters whose driver compiles like this.
const DRIVER: &str = "llvmpipe";
/// What a kernel takes that was compiled before: 0.4 to 14 ms, the long ones most. A new one takes 11 ms at least.
const CACHED: Duration = Duration::from_millis(8);
/// Kernels that took so much longer in all are new.
const PATIENCE: Duration = Duration::from_millis(60);
/// Threads beside the own one: each holds a device and a compiler.
const MOST: usize = 3;
/// Bytes of the bindings of another thread's kernels, which do not run.
const BINDING: u64 = 4096;

/// A kernel and the first dispatch of it.
struct First<'a> {
    dispatch: &'a Dispatch,
    call: &'a KernelCall,
}

/// The kernels that wait, the smallest first.
struct Waiting<'a>(Mutex<VecDeque<First<'a>>>);

impl<'a> Waiting<'a> {
    fn take(&self, from: impl FnOnce(&mut VecDeque<First<'a>>) -> Option<First<'a>>) -> Option<First<'a>> {
        from(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Compiles the kernels numbered from `known` on, if the driver would do it one by one in the first run. The dispatches are
/// those of `calls`.
pub(super) fn compile<'a>(
    gpu: &Gpu,
    pipelines: &Pipelines,
    list: &'a [Dispatch],
    calls: impl Iterator<Item = &'a KernelCall>,
    known: usize,
) -> Result<()> {
    if !gpu.info().name.contains(DRIVER) {
        return Ok(());
    }
    let mut all: Vec<First<'a>> = (list.iter().zip(calls))
        .map(|(dispatch, call)| First { dispatch, call })
        .filter(|f| f.dispatch.pipeline >= known)
        .collect();
    // What takes longest lies at the end, where the others begin.
    all.sort_by_key(|f| (pipelines.length(f.dispatch.pipeline), f.dispatch.pipeline));
    all.dedup_by_key(|f| f.dispatch.pipeline);
    let waiting = Waiting(Mutex::new(all.into()));
    let others = std::thread::available_parallelism().map_or(0, |n| usize::from(n) - 1).min(MOST);
    let mut late = Duration::ZERO;
    std::thread::scope(|scope| {
        let mut alone = others > 0;
        while let Some(First { dispatch, .. }) = waiting.take(VecDeque::pop_front) {
            let start = Instant::now();
            empty(gpu, &pipelines.all()[dispatch.pipeline], &dispatch.group)?;
            late += start.elapsed().saturating_sub(CACHED);
            if alone && late > PATIENCE {
                alone = false;
                for _ in 0..others.min(waiting.count() / 2) {
                    // A thread that cannot help leaves its share to the first run.
                    let _ = std::thread::Builder::new()
                        .name("compiler".into())
                        .spawn_scoped(scope, || help(gpu, &waiting));
                }
            }
        }
        Ok(())
    })
}

/// Compiles kernels from the end on with a device of its own.
fn help(gpu: &Gpu, waiting: &Waiting<'_>) -> Result<()> {
    let gpu = Gpu::create(Some(&gpu.info().name))?;
    let (bindings, mut pipelines) = (Bindings::new(&gpu), Pipelines::new());
    while let Some(First { call, .. }) = waiting.take(VecDeque::pop_back) {
        let key = Key::of(call);
        pipelines.prepare(&gpu, std::iter::once(key.clone()))?;
        if let (Some(layout), Some(number)) = (pipelines.layout(&key), pipelines.number(&key)) {
            let group = bindings.group(&gpu, layout, &key.accesses, &call.params);
            empty(&gpu, &pipelines.all()[number], &group)?;
        }
    }
    Ok(())
}

/// Dispatches a kernel over an empty grid and waits: it is compiled, but does not run.
fn empty(gpu: &Gpu, pipeline: &wgpu::ComputePipeline, group: &wgpu::BindGroup) -> Result<()> {
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, group, &[]);
    pass.dispatch_workgroups(0, 0, 0);
    drop(pass);
    wait_for(gpu, &gpu.queue.submit([encoder.finish()]))
}

/// Buffers in place of a plan's.
struct Bindings {
    read: wgpu::Buffer,
    write: wgpu::Buffer,
    constants: wgpu::Buffer,
}

impl Bindings {
    fn new(gpu: &Gpu) -> Self {
        let create = |size, usage| {
            let (label, mapped_at_creation) = (Some("empty"), false);
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation })
        };
        let most = u64::from(UNIFORM_BINDING);
        let (storage, uniform) = (wgpu::BufferUsages::STORAGE, wgpu::BufferUsages::UNIFORM);
        Bindings {
            read: create(UNIFORM_BYTES, storage | uniform),
            write: create(most * BINDING, storage),
            constants: create(UNIFORM_ALIGN, uniform | wgpu::BufferUsages::COPY_DST),
        }
    }
    /// A group of these with a kernel's constants. The driver looks at them: it compiles a kernel for their values where
    /// that shortens it by half, as zeros in place of the lengths of its loops would.
    fn group(
        &self,
        gpu: &Gpu,
        layout: &wgpu::BindGroupLayout,
        accesses: &[Access],
        constants: &[u32],
    ) -> wgpu::BindGroup {
        gpu.queue.write_buffer(&self.constants, 0, bytemuck::cast_slice(constants));
        let entry = |binding, buffer, offset, size| {
            let size = wgpu::BufferSize::new(size);
            let range = wgpu::BufferBinding { buffer, offset, size };
            wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(range) }
        };
        let operand = |(binding, access): (u32, &Access)| match access {
            Access::Read => entry(binding, &self.read, 0, BINDING),
            Access::Uniform => entry(binding, &self.read, 0, UNIFORM_BYTES),
            Access::Write => entry(binding, &self.write, u64::from(binding) * BINDING, BINDING),
        };
        let constants = entry(UNIFORM_BINDING, &self.constants, 0, UNIFORM_ALIGN);
        let entries: Vec<_> = (0u32..).zip(accesses).map(operand).chain([constants]).collect();
        let label = Some("empty");
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout, entries: &entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::plan::{CompileOptions, compile};
    use crate::session::{Data, HostData, Session};
    use std::sync::Arc;

    /// A kernel that another device compiled has run nowhere, and the session's own run is what it was.
    #[test]
    fn another_device_takes_every_kernel_and_runs_none() {
        if crate::gpu::list_adapters().is_empty() {
            eprintln!("NO GPU ADAPTER: compiling on several threads was not tested");
            return;
        }
        let gpu = Gpu::create(std::env::var("BEIT_ADAPTER").ok().as_deref()).unwrap();
        let mut session = crate::gpu::GpuSession::new(gpu.clone());
        let mut g = Graph::new();
        let x = g.input("x", &[2, 8]).unwrap();
        let product = crate::ops::matmul(&mut g, x, x, false, true).unwrap();
        let y = crate::ops::softmax(&mut g, product).unwrap();
        g.output("y", y);
        let plan = compile("small", &g, &[], &session.caps(), &CompileOptions::default()).unwrap();
        let id = session.load(Arc::new(plan.clone())).unwrap();
        let calls = plan.steps.iter().flat_map(|s| &s.calls);
        let list = session.plans[0].list.clone();
        let all = list.iter().zip(calls).map(|(dispatch, call)| First { dispatch, call });
        let waiting = Waiting(Mutex::new(all.collect()));
        assert!(waiting.count() >= 2);
        help(&gpu, &waiting).unwrap();
        assert_eq!(waiting.count(), 0);
        session.write(id, "x", Data::F32(&[0.5; 16])).unwrap();
        session.run(id).unwrap();
        let ticket = session.fetch(id, &["y"]).unwrap();
        assert_eq!(session.take(ticket, true).unwrap(), Some(vec![HostData::F32(vec![0.5; 4])]));
    }
}
