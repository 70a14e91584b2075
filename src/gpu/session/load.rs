//! Loading a plan: its buffers, its constants, its bind groups, and the cuts between its submits.

use super::{Dispatch, GpuSession, Loaded};
use crate::error::{Error, Result};
use crate::gpu::pipelines::{Key, scoped};
use crate::graph::TensorType;
use crate::ops::{Arg, Caps, DISPATCH_FLOPS, KernelCall, Tier, UNIFORM_BINDING};
use crate::plan::{Place, Plan, Slot, Step, UNIFORM_ALIGN};
use std::ops::Range;
use std::sync::Arc;

/// Dispatches of one submit.
pub(super) const SUBMIT_DISPATCHES: usize = 512;

/// A part of a submit: the number of a list and a range of it.
pub(super) type Part = (usize, Range<usize>);

/// Cuts lists that follow each other where the work or the number of dispatches of a submit would pass its bound.
pub(super) fn submits(lists: &[&[Dispatch]], software: bool) -> Vec<Vec<Part>> {
    let work: Vec<Vec<u64>> = lists.iter().map(|l| l.iter().map(|d| d.flops).collect()).collect();
    // A software adapter has no watchdog, and its driver makes the host wait if a submit follows another.
    match software {
        true => cuts(&work, u64::MAX, usize::MAX),
        false => cuts(&work, DISPATCH_FLOPS, SUBMIT_DISPATCHES),
    }
}

/// The same of the work of each dispatch, for bounds of the work and the number of a submit.
fn cuts(lists: &[Vec<u64>], budget: u64, most: usize) -> Vec<Vec<Part>> {
    let (mut all, mut open): (Vec<Vec<Part>>, Vec<Part>) = (vec![], vec![]);
    let (mut work, mut count) = (0u64, 0);
    for (number, list) in lists.iter().enumerate() {
        let mut start = 0;
        for (i, &flops) in list.iter().enumerate() {
            if count > 0 && (work.saturating_add(flops) > budget || count >= most) {
                open.extend((i > start).then_some((number, start..i)));
                all.push(std::mem::take(&mut open));
                (start, work, count) = (i, 0, 0);
            }
            (work, count) = (work.saturating_add(flops), count + 1);
        }
        open.extend((start < list.len()).then_some((number, start..list.len())));
    }
    all.extend((!open.is_empty()).then_some(open));
    all
}

/// Checks that a plan was compiled for a device like this one.
pub(super) fn check_caps(plan: &Plan, caps: &Caps) -> Result<()> {
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

impl GpuSession {
    /// Creates everything that a plan needs on the device.
    pub(super) fn allocate(&mut self, plan: Arc<Plan>) -> Result<Loaded> {
        let inputs: Vec<u64> = plan.inputs.iter().map(|p| p.ty.bytes()).collect();
        let slots: Vec<u64> = plan.slots.iter().map(Slot::bytes).collect();
        let mut l = Loaded {
            inputs: self.buffers(&plan.name, &inputs, self.guard)?,
            slots: self.buffers(&plan.name, &slots, self.guard)?,
            constants: self.upload_constants(&plan)?,
            list: Arc::default(),
            plan,
        };
        l.inputs.iter().chain(&l.slots).enumerate().for_each(|(i, buffer)| self.write_guard(i, buffer));
        let calls: Vec<(usize, KernelCall)> = (l.plan.steps.iter().enumerate())
            .flat_map(|(s, step)| step.calls.iter().map(move |c| (s, c.clone())))
            .collect();
        let (list, error) = scoped(&self.gpu, || {
            let record = |(i, (s, call)): (usize, &(usize, KernelCall))| {
                self.record(&l, *s, call, i as u64 * UNIFORM_ALIGN)
            };
            calls.iter().enumerate().map(record).collect::<Result<Vec<_>>>()
        });
        l.list = list?.into();
        if let Some(e) = error {
            return Err(Error::device("a dispatch does not fit its buffers").at(l.plan.name.clone()).got(e));
        }
        Ok(l)
    }
    /// Zeroed buffers of the given sizes in bytes, each with a zone of `guard` bytes behind it.
    pub(super) fn buffers(&mut self, label: &str, sizes: &[u64], guard: u64) -> Result<Vec<wgpu::Buffer>> {
        let limit = self.gpu.caps().max_buffer;
        if let Some(size) = sizes.iter().find(|&&s| s > limit) {
            return Err(Error::device("a buffer larger than the adapter allows")
                .at(label)
                .expected(format!("at most {} MiB", limit >> 20))
                .got(format!("{} MiB", size >> 20)));
        }
        let bound = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::UNIFORM;
        let usage = bound | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
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

    /// The dispatch of a call whose uniform block begins at byte `constants`.
    fn record(&self, l: &Loaded, s: usize, call: &KernelCall, constants: u64) -> Result<Dispatch> {
        let step = &l.plan.steps[s];
        let key = Key::of(call);
        let unprepared = || Error::device("a kernel was not prepared").at(step.label.clone());
        let bindings =
            call.bindings.iter().map(|b| self.binding(l, step, b.0)).collect::<Result<Vec<_>>>()?;
        let buffer = l.constants.as_ref().ok_or_else(unprepared)?;
        let size = wgpu::BufferSize::new(UNIFORM_ALIGN);
        let constants = wgpu::BufferBinding { buffer, offset: constants, size };
        let entries: Vec<_> = (0..UNIFORM_BINDING)
            .zip(bindings)
            .chain([(UNIFORM_BINDING, constants)])
            .map(|(binding, b)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(b) })
            .collect();
        let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&step.label),
            layout: self.pipelines.layout(&key).ok_or_else(unprepared)?,
            entries: &entries,
        });
        let pipeline = self.pipelines.number(&key).ok_or_else(unprepared)?;
        let flops = step.work_of(call);
        Ok(Dispatch { pipeline, group, grid: call.grid, step: s, flops })
    }

    /// Uploads the uniform blocks of all calls, 256 bytes apart.
    fn upload_constants(&mut self, plan: &Plan) -> Result<Option<wgpu::Buffer>> {
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
        Ok(Some(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every dispatch is submitted once and in order, and only a single dispatch may pass the budget.
    #[test]
    fn submits_are_cut_by_their_work() {
        assert_eq!(
            cuts(&[vec![4, 4, 4], vec![1, 9, 30, 1]], 10, 9),
            [vec![(0, 0..2)], vec![(0, 2..3), (1, 0..1)], vec![(1, 1..2)], vec![(1, 2..3)], vec![(1, 3..4)],]
        );
        assert_eq!(cuts(&[vec![4; 3], vec![], vec![1; 2]], u64::MAX, 9), [vec![(0, 0..3), (2, 0..2)]]);
        assert_eq!(cuts(&[vec![0; 9], vec![0; 2]], 10, 9), [vec![(0, 0..9)], vec![(1, 0..2)]]);
        assert!(cuts(&[vec![]], 10, 9).is_empty());
    }
}
