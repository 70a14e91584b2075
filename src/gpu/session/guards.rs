//! Guard zones, for tests of the kernels: behind every input and transient lies a zone that the bindings include and
//! that no kernel may touch. WebGPU itself only keeps a kernel inside its bindings, so a kernel that writes past the
//! end of a tensor would otherwise go unnoticed, or show as a wrong last element at most.

use super::GpuSession;
use crate::error::{Error, Result};
use crate::gpu::caps::Gpu;
use crate::gpu::readback::Part;
use crate::graph::DType;
use crate::session::{HostData, PlanId};

/// Words behind every buffer.
const WORDS: usize = 64;
/// What the zones hold: as a float a NaN, so that a kernel which reads there shows too, and in each buffer another, so
/// that one which copies from zone to zone shows as well.
fn sentinel(buffer: usize) -> u32 {
    0xffc0_0000 | buffer as u32 & 0x3f_ffff
}

impl GpuSession {
    /// An empty session with guard zones; they do not count in [`crate::session::Session::allocated`].
    pub fn guarded(gpu: Gpu) -> Self {
        GpuSession { guard: 4 * WORDS as u64, ..Self::new(gpu) }
    }

    /// Fills the zone at the end of a buffer of a plan, by its number.
    pub(super) fn write_guard(&self, number: usize, buffer: &wgpu::Buffer) {
        if self.guard > 0 {
            let at = buffer.size() - self.guard;
            self.gpu.queue.write_buffer(buffer, at, bytemuck::cast_slice(&[sentinel(number); WORDS]));
        }
    }

    /// The inputs and slots of a plan behind which something was written, after the work submitted so far.
    ///
    /// # Errors
    /// If the session has no guard zones or the device was lost.
    pub fn damaged_guards(&mut self, id: PlanId) -> Result<Vec<String>> {
        if self.guard == 0 {
            return Err(Error::device("a session without guard zones"));
        }
        let l = self.plans.get(id.0).ok_or_else(|| Error::device("no such plan"))?;
        let names: Vec<String> = (l.plan.inputs.iter().map(|p| format!("input {}", p.name)))
            .chain((0..l.slots.len()).map(|s| format!("slot {s}")))
            .collect();
        let zone = |buffer| Part {
            buffer,
            offset: buffer.size() - self.guard,
            bytes: self.guard,
            dtype: DType::U32,
        };
        let parts: Vec<Part<'_>> = l.inputs.iter().chain(&l.slots).map(zone).collect();
        let ticket = self.reads.start(&self.gpu, &parts)?;
        let zones = self.reads.take(&self.gpu, ticket, true)?.unwrap_or_default();
        let damaged = |i: usize| !matches!(&zones[i], HostData::U32(w) if w == &[sentinel(i); WORDS]);
        Ok((0..zones.len()).filter(|&i| damaged(i)).map(|i| names[i].clone()).collect())
    }
}
