//! Asynchronous reads: copies into staging buffers that are used again, mapped when the work is done.

use super::arrivals::Arrivals;
use super::caps::Gpu;
use crate::error::{Error, Result};
use crate::graph::DType;
use crate::session::{HostData, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// Longest wait for a GPU.
const WAIT: Duration = Duration::from_secs(30);
/// Longest wait for a software driver: a step of a large network on a busy processor takes minutes.
const SOFTWARE_WAIT: Duration = Duration::from_secs(3600);
/// Staging buffers above this size are not kept.
const KEEP_BYTES: u64 = 32 << 20;
const KEEP: usize = 8;

/// A range of a buffer to be read.
pub(super) struct Part<'a> {
    pub buffer: &'a wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
    pub dtype: DType,
}

const ON_THE_WAY: u8 = 0;
const HERE: u8 = 1;
const FAILED: u8 = 2;

struct Pending {
    buffer: wgpu::Buffer,
    parts: Vec<(u64, u64, DType)>,
    state: Arc<AtomicU8>,
    submission: wgpu::SubmissionIndex,
}

/// Reads under way and staging buffers to use again.
#[derive(Default)]
pub(super) struct Reads {
    free: Vec<wgpu::Buffer>,
    /// `None`: promised, not begun.
    pending: BTreeMap<Ticket, Option<Pending>>,
    next: u64,
    /// Rung by every read-back that arrives or fails.
    pub arrivals: Arrivals,
}

impl Reads {
    fn staging(&mut self, gpu: &Gpu, bytes: u64) -> Result<wgpu::Buffer> {
        if let Some(i) = self.free.iter().position(|b| b.size() >= bytes) {
            return Ok(self.free.swap_remove(i));
        }
        if bytes > gpu.caps().max_buffer {
            return Err(Error::device("too much to read at once")
                .expected(format!("at most {} bytes", gpu.caps().max_buffer))
                .got(format!("{bytes}")));
        }
        // A small one makes room for the larger one that is needed now.
        if self.free.len() >= KEEP {
            self.free.remove(0);
        }
        let descriptor = wgpu::BufferDescriptor {
            label: Some("read-back"),
            size: bytes.next_power_of_two().min(gpu.caps().max_buffer),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let (buffer, error) = super::pipelines::scoped(gpu, || gpu.device.create_buffer(&descriptor));
        error.map_or(Ok(buffer), |e| Err(Error::device("no memory to read back").got(e)))
    }

    /// Starts reading ranges as they are after the work submitted so far.
    pub(super) fn start(&mut self, gpu: &Gpu, parts: &[Part<'_>]) -> Result<Ticket> {
        let ticket = self.reserve();
        self.begin(gpu, ticket, parts)?;
        Ok(ticket)
    }

    /// A ticket for a read that begins later.
    pub(super) fn reserve(&mut self) -> Ticket {
        self.next += 1;
        self.pending.insert(Ticket(self.next), None);
        Ticket(self.next)
    }

    /// Begins the read of a ticket.
    pub(super) fn begin(&mut self, gpu: &Gpu, ticket: Ticket, parts: &[Part<'_>]) -> Result<()> {
        gpu.check()?;
        let total: u64 = parts.iter().map(|p| p.bytes).sum();
        let buffer = self.staging(gpu, total.max(4))?;
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut at = 0;
        let mut layout = Vec::with_capacity(parts.len());
        for p in parts {
            encoder.copy_buffer_to_buffer(p.buffer, p.offset, &buffer, at, p.bytes);
            layout.push((at, p.bytes, p.dtype));
            at += p.bytes;
        }
        let submission = gpu.queue.submit([encoder.finish()]);
        let state = Arc::new(AtomicU8::new(ON_THE_WAY));
        let (report, arrivals) = (state.clone(), self.arrivals.clone());
        buffer.slice(..).map_async(wgpu::MapMode::Read, move |result| {
            report.store(if result.is_ok() { HERE } else { FAILED }, Ordering::SeqCst);
            arrivals.ring();
        });
        self.pending.insert(ticket, Some(Pending { buffer, parts: layout, state, submission }));
        Ok(())
    }

    /// What was read, once it is here; without `wait` the caller polls. A browser delivers between tasks, so `wait` does nothing there.
    pub(super) fn take(&mut self, gpu: &Gpu, ticket: Ticket, wait: bool) -> Result<Option<Vec<HostData>>> {
        gpu.check()?;
        let pending = self.pending.get(&ticket).ok_or_else(|| Error::device("no such read-back"))?;
        let Some(pending) = pending else { return Ok(None) };
        if wait {
            wait_for(gpu, &pending.submission)?;
        }
        match pending.state.load(Ordering::SeqCst) {
            HERE => {}
            FAILED => {
                self.pending.remove(&ticket);
                gpu.lost.set("a read-back failed");
                return gpu.check().map(|()| None);
            }
            _ => return gpu.check().map(|()| None),
        }
        let Some(Some(Pending { buffer, parts, .. })) = self.pending.remove(&ticket) else { return Ok(None) };
        let read = read_mapped(&buffer, &parts);
        buffer.unmap();
        if buffer.size() <= KEEP_BYTES {
            self.free.push(buffer);
        }
        gpu.check()?;
        read.map(Some)
    }
}

fn read_mapped(buffer: &wgpu::Buffer, parts: &[(u64, u64, DType)]) -> Result<Vec<HostData>> {
    let view = buffer
        .slice(..)
        .get_mapped_range()
        .map_err(|e| Error::device("a read-back could not be mapped").got(e.to_string()))?;
    let part = |&(at, bytes, dtype): &(u64, u64, DType)| {
        let bytes = view.get(at as usize..(at + bytes) as usize).unwrap_or_default();
        match dtype {
            DType::F32 => HostData::F32(bytemuck::pod_collect_to_vec(bytes)),
            // Halves are never outputs.
            DType::U32 | DType::F16 => HostData::U32(bytemuck::pod_collect_to_vec(bytes)),
        }
    };
    Ok(parts.iter().map(part).collect())
}

/// Runs callbacks that are due, without waiting.
pub(super) fn poll(gpu: &Gpu) -> Result<()> {
    if let Err(e) = gpu.device.poll(wgpu::PollType::Poll) {
        gpu.lost.set(&e.to_string());
    }
    gpu.check()
}

/// Waits for everything that was submitted to the device, as [`wait_for`].
pub(super) fn wait_for_all(gpu: &Gpu) -> Result<()> {
    wait(gpu, None)
}

/// Waits for a submission, at most [`WAIT`] or [`SOFTWARE_WAIT`]; a device that takes longer counts as lost.
pub(super) fn wait_for(gpu: &Gpu, submission: &wgpu::SubmissionIndex) -> Result<()> {
    wait(gpu, Some(submission.clone()))
}

fn wait(gpu: &Gpu, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
    let longest = if gpu.is_software() { SOFTWARE_WAIT } else { WAIT };
    let wait = wgpu::PollType::Wait { submission_index, timeout: Some(longest) };
    if let Err(e) = gpu.device.poll(wait) {
        gpu.lost.set(&format!("no answer within {} s: {e}", longest.as_secs()));
    }
    gpu.check()
}
