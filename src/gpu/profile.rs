//! Times of the steps of a plan by timestamps at the borders of compute passes, one pass a step.

use super::readback::Part;
use super::session::{GpuSession, Loaded, encode};
use crate::error::{Error, Result};
use crate::graph::DType;
use crate::session::PlanId;
use std::ops::Range;

/// Steps of one query set: two timestamps each, within WebGPU's 4096 queries.
const STEPS: usize = 2048;

impl GpuSession {
    /// Seconds of each step of one run; `None` where the device has no timestamps. Passes of their own make the steps
    /// wait for each other, so that the sum is a little more than a plain run takes.
    pub(super) fn step_seconds(&mut self, id: PlanId) -> Result<Option<Vec<f64>>> {
        if !self.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        self.submit_all()?;
        let steps = self.loaded(id)?.plan.steps.len();
        let mut seconds = Vec::with_capacity(steps);
        for first in (0..steps).step_by(STEPS) {
            seconds.extend(self.some_steps(id, first..steps.min(first + STEPS))?);
        }
        Ok(Some(seconds))
    }

    fn some_steps(&mut self, id: PlanId, steps: Range<usize>) -> Result<Vec<f64>> {
        let device = &self.gpu.device;
        let count = 2 * steps.len() as u32;
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("profile"),
            ty: wgpu::QueryType::Timestamp,
            count,
        });
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("profile"),
            size: 8 * u64::from(count),
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let (l, pipelines) = (self.loaded(id)?, self.pipelines.all());
        for (i, step) in steps.enumerate() {
            let writes = wgpu::ComputePassTimestampWrites {
                query_set: &set,
                beginning_of_pass_write_index: Some(2 * i as u32),
                end_of_pass_write_index: Some(2 * i as u32 + 1),
            };
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some(&l.plan.steps[step].label),
                timestamp_writes: Some(writes),
            });
            encode(&l.list[calls_of(l, step)], &pipelines, &mut pass);
        }
        encoder.resolve_query_set(&set, 0..count, &buffer, 0);
        self.gpu.queue.submit([encoder.finish()]);
        let part = Part { buffer: &buffer, offset: 0, bytes: buffer.size(), dtype: DType::U32 };
        let ticket = self.reads.start(&self.gpu, &[part])?;
        let read = self.reads.take(&self.gpu, ticket, true)?;
        let words = read.and_then(|mut all| all.pop()).map(|data| data.u32());
        let words = words.ok_or_else(|| Error::device("timestamps have not arrived"))?;
        let ticks: Vec<u64> =
            words.chunks_exact(2).map(|w| u64::from(w[0]) | (u64::from(w[1]) << 32)).collect();
        let tick = f64::from(self.gpu.queue.get_timestamp_period()) * 1e-9;
        Ok(ticks.chunks_exact(2).map(|t| t[1].saturating_sub(t[0]) as f64 * tick).collect())
    }
}

/// The recorded dispatches of a step.
fn calls_of(l: &Loaded, step: usize) -> Range<usize> {
    let start = l.list.partition_point(|d| d.step < step);
    start..l.list.partition_point(|d| d.step <= step)
}
