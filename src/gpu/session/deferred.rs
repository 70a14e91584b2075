//! Sessions that submit a share at a time, for programs that use one device for a window and for this. Writes, runs,
//! read-backs and drawings wait in their order until [`GpuSession::advance`] submits some of them; nothing waits for
//! the device, so that the window's frames get in between.

use super::{GpuSession, Loaded};
use crate::error::Result;
use crate::gpu::caps::Gpu;
use crate::gpu::readback::{Part, poll, wait_for};
use crate::gpu::upload;
use crate::graph::{DType, TensorType};
use crate::session::{PlanId, Ticket};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a large write that are copied at once.
const PIECE: usize = 2 << 20;
/// Bytes of large writes after which they are submitted. What is written before one was done takes memory that a software
/// driver keeps.
const UNSUBMITTED: usize = PIECE;

/// Commands of a host, recorded between the runs of a session.
pub type Drawing = Box<dyn FnOnce(&mut wgpu::CommandEncoder) + Send>;

/// A range of a buffer to be read.
pub(super) struct Wanted {
    pub buffer: wgpu::Buffer,
    pub offset: u64,
    pub bytes: u64,
    pub dtype: DType,
}

impl Wanted {
    pub(super) fn part(&self) -> Part<'_> {
        Part { buffer: &self.buffer, offset: self.offset, bytes: self.bytes, dtype: self.dtype }
    }
}

enum Work {
    Write {
        buffer: wgpu::Buffer,
        offset: u64,
        bytes: Vec<u8>,
    },
    /// The dispatches of a plan from number `next` on.
    Run {
        plan: PlanId,
        next: usize,
    },
    Read {
        ticket: Ticket,
        parts: Vec<Wanted>,
    },
    Draw(Drawing),
}

/// What was asked for and not submitted yet, and how many of the submitted shares are done.
#[derive(Default)]
pub(super) struct Backlog {
    work: VecDeque<Work>,
    shares: u64,
    done: Arc<AtomicU64>,
}

/// How a deferred session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing to do.
    Idle,
    /// A share of so much work was submitted by this call.
    Submitted(u64),
    /// An earlier share is still being worked on; this call submitted nothing.
    UnderWay,
}

/// An output of a plan as it lies on the device, for hosts that draw it.
#[derive(Debug, Clone)]
pub struct OutputBuffer {
    /// The buffer; usable as storage.
    pub buffer: wgpu::Buffer,
    /// Bytes before the first element.
    pub offset: u64,
    /// Shape and element type.
    pub ty: TensorType,
}

impl GpuSession {
    /// An empty session on a device that is also used for a window: what is asked of it waits until
    /// [`GpuSession::advance`] submits it. Calls with `wait` still wait, and submit everything first.
    pub fn deferred(gpu: Gpu) -> Self {
        GpuSession { backlog: Some(Backlog::default()), ..Self::new(gpu) }
    }

    /// Submits the next share if the one before is done: dispatches of about `work` (floating-point operations plus
    /// bytes touched, at least one dispatch) with the writes, read-backs and drawings between them. Runs callbacks that
    /// are due and never waits.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn advance(&mut self, work: u64) -> Result<Standing> {
        poll(&self.gpu)?;
        let Some(b) = &self.backlog else { return Ok(Standing::Idle) };
        if b.done.load(Ordering::SeqCst) < b.shares {
            return Ok(Standing::UnderWay);
        }
        if b.work.is_empty() {
            return Ok(Standing::Idle);
        }
        let spent = self.submit_share(work)?;
        if let Some(b) = &mut self.backlog {
            b.shares += 1;
            let done = b.done.clone();
            self.gpu.queue.on_submitted_work_done(move || {
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        self.gpu.check()?;
        Ok(Standing::Submitted(spent))
    }

    /// Records commands of the host after the work asked for so far.
    pub fn draw(&mut self, drawing: Drawing) {
        if let Some(b) = &mut self.backlog {
            b.work.push_back(Work::Draw(drawing));
            return;
        }
        let mut encoder = self.encoder();
        drawing(&mut encoder);
        self.gpu.queue.submit([encoder.finish()]);
    }

    /// Where an output lies. Its contents are those of the plan's last run until the next run writes it.
    ///
    /// # Errors
    /// If there is no such output.
    pub fn output(&self, id: PlanId, name: &str) -> Result<OutputBuffer> {
        let l = self.loaded(id)?;
        let port = super::port(&l.plan.outputs, name, &l.plan)?;
        let (buffer, offset) = self.place(l, &port.place)?;
        Ok(OutputBuffer { buffer: buffer.clone(), offset, ty: port.ty.clone() })
    }

    /// Writes a range of a buffer after the work asked for so far.
    pub(super) fn put(&mut self, buffer: wgpu::Buffer, offset: u64, bytes: &[u8]) {
        match &mut self.backlog {
            Some(b) if !b.work.is_empty() => {
                b.work.push_back(Work::Write { buffer, offset, bytes: bytes.to_vec() });
            }
            _ => upload::write(&self.gpu.queue, &buffer, offset, bytes),
        }
    }

    /// Writes many bytes a piece at a time. wgpu keeps a copy of what was written until it has been submitted and done, so
    /// that a network written at once would be in memory three times.
    pub(super) fn put_pieces(&mut self, buffer: wgpu::Buffer, bytes: &[u8]) -> Result<()> {
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            self.put(buffer.clone(), (i * PIECE) as u64, piece);
            self.unsubmitted += piece.len();
            if self.backlog.is_none() && self.unsubmitted >= UNSUBMITTED {
                let done = self.gpu.queue.submit([]);
                wait_for(&self.gpu, &done)?;
                self.unsubmitted = 0;
            }
        }
        Ok(())
    }

    /// Starts reading after the work asked for so far.
    pub(super) fn read_later(&mut self, parts: Vec<Wanted>) -> Result<Ticket> {
        let ticket = self.reads.reserve();
        match &mut self.backlog {
            Some(b) => b.work.push_back(Work::Read { ticket, parts }),
            None => self.begin_read(ticket, &parts)?,
        }
        Ok(ticket)
    }

    fn begin_read(&mut self, ticket: Ticket, parts: &[Wanted]) -> Result<()> {
        let parts: Vec<Part<'_>> = parts.iter().map(Wanted::part).collect();
        self.reads.begin(&self.gpu, ticket, &parts)
    }

    /// Puts a run into the backlog, if there is one.
    pub(super) fn run_later(&mut self, plan: PlanId) {
        if let Some(b) = &mut self.backlog {
            b.work.push_back(Work::Run { plan, next: 0 });
        }
    }

    /// Submits everything that waits, for a caller that is going to wait for it.
    pub(in crate::gpu) fn submit_all(&mut self) -> Result<()> {
        while self.backlog.as_ref().is_some_and(|b| !b.work.is_empty()) {
            self.submit_share(u64::MAX)?;
        }
        Ok(())
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.gpu.device.create_command_encoder(&Default::default())
    }

    fn submit_share(&mut self, budget: u64) -> Result<u64> {
        let (mut done, mut open) = (0u64, None);
        while done < budget {
            let Some(work) = self.backlog.as_mut().and_then(|b| b.work.pop_front()) else { break };
            match work {
                Work::Write { buffer, offset, bytes } => {
                    self.submit(&mut open);
                    self.gpu.queue.write_buffer(&buffer, offset, &bytes);
                }
                Work::Read { ticket, parts } => {
                    self.submit(&mut open);
                    self.begin_read(ticket, &parts)?;
                }
                Work::Draw(drawing) => drawing(open.get_or_insert_with(|| self.encoder())),
                Work::Run { plan, next } => {
                    let l = self.loaded(plan)?;
                    let (range, spent) = share(l, next, budget - done);
                    let encoder = open.get_or_insert_with(|| self.encoder());
                    let mut pass = encoder.begin_compute_pass(&Default::default());
                    super::encode(&l.list[range.clone()], &self.pipelines.all(), &mut pass);
                    drop(pass);
                    done = done.saturating_add(spent);
                    let rest = Work::Run { plan, next: range.end };
                    if range.end < l.list.len()
                        && let Some(b) = &mut self.backlog
                    {
                        b.work.push_front(rest);
                    }
                }
            }
        }
        self.submit(&mut open);
        self.gpu.check().map(|()| done)
    }

    fn submit(&self, open: &mut Option<wgpu::CommandEncoder>) {
        if let Some(encoder) = open.take() {
            self.gpu.queue.submit([encoder.finish()]);
        }
    }
}

/// The dispatches from `first` on that `budget` allows, one at least, and their work.
fn share(l: &Loaded, first: usize, budget: u64) -> (Range<usize>, u64) {
    let mut spent = 0u64;
    let most = l.list.len().min(first + super::load::SUBMIT_DISPATCHES);
    for (i, d) in l.list[..most].iter().enumerate().skip(first) {
        let step = &l.plan.steps[d.step];
        let work = (step.cost.flops + step.cost.bytes) / step.calls.len().max(1) as u64;
        if i > first && spent + work > budget {
            return (first..i, spent);
        }
        spent += work;
    }
    (first..most, spent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::plan::{CompileOptions, compile};
    use crate::session::{Data, HostData, Session};

    const N: usize = 64;

    /// Doubles its input 40 times over, a dispatch each.
    fn session(deferred: bool) -> Option<(GpuSession, PlanId)> {
        if crate::gpu::list_adapters().is_empty() {
            eprintln!("NO GPU ADAPTER: deferred sessions were not tested");
            return None;
        }
        let gpu = Gpu::create(std::env::var("BEIT_ADAPTER").ok().as_deref()).unwrap();
        let mut session = if deferred { GpuSession::deferred(gpu) } else { GpuSession::new(gpu) };
        let mut g = Graph::new();
        let mut x = g.input("x", &[1, N]).unwrap();
        for _ in 0..40 {
            x = crate::ops::add(&mut g, x, x).unwrap();
        }
        g.output("y", x);
        let plan = compile("doubling", &g, &[], &session.caps(), &CompileOptions::default()).unwrap();
        let id = session.load(Arc::new(plan)).unwrap();
        Some((session, id))
    }

    fn ask(session: &mut GpuSession, id: PlanId, value: f32) -> Ticket {
        session.write(id, "x", Data::F32(&[value; N])).unwrap();
        session.run(id).unwrap();
        session.fetch(id, &["y"]).unwrap()
    }

    fn result(value: f32) -> Option<Vec<HostData>> {
        Some(vec![HostData::F32(vec![value * 2f32.powi(40); N])])
    }

    #[test]
    fn shares_keep_the_order_of_what_was_asked() {
        let Some((mut session, id)) = session(true) else { return };
        let tickets = [1.0, 2.0, 3.0].map(|v| ask(&mut session, id, v));
        assert_eq!(session.take(tickets[0], false).unwrap(), None, "nothing was submitted yet");
        let (mut shares, mut read) = (0, vec![]);
        while read.len() < tickets.len() {
            shares += u32::from(matches!(session.advance(1).unwrap(), Standing::Submitted(_)));
            if let Some(data) = session.take(tickets[read.len()], false).unwrap() {
                read.push(Some(data));
            }
            std::thread::yield_now();
        }
        assert_eq!(read, [1.0, 2.0, 3.0].map(result));
        assert!(shares >= 120, "{shares} shares of a dispatch each");
        while session.advance(1).unwrap() == Standing::UnderWay {
            std::thread::yield_now();
        }
        assert_eq!(session.advance(1).unwrap(), Standing::Idle);
    }

    #[test]
    fn drawings_see_the_run_before_them() {
        for deferred in [true, false] {
            let Some((mut session, id)) = session(deferred) else { return };
            let from = session.output(id, "y").unwrap();
            assert_eq!(from.ty.elements(), N);
            let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
            let (size, label) = (from.ty.bytes(), None);
            let copy = session.gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size,
                usage,
                mapped_at_creation: false,
            });
            ask(&mut session, id, 5.0);
            let to = copy.clone();
            session.draw(Box::new(move |encoder| {
                encoder.copy_buffer_to_buffer(&from.buffer, from.offset, &to, 0, size);
            }));
            let last = ask(&mut session, id, 7.0);
            assert_eq!(session.take(last, true).unwrap(), result(7.0), "deferred {deferred}");
            let wanted = Wanted { buffer: copy, offset: 0, bytes: size, dtype: DType::F32 };
            let ticket = session.read_later(vec![wanted]).unwrap();
            assert_eq!(session.take(ticket, true).unwrap(), result(5.0), "deferred {deferred}");
            session.finish().unwrap();
        }
    }
}
