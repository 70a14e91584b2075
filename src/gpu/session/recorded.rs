//! Commands recorded before they are asked for. A loop runs the same plans again and again, and their commands never
//! change: a thread of its own records those of the next run while the device works on this one, so that a run only has
//! to submit them.

use super::load::{self, Part};
use super::{Dispatch, GpuSession};
use crate::error::Result;
use crate::session::PlanId;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Encodes dispatches into a pass.
pub(in crate::gpu) fn encode(
    list: &[Dispatch],
    pipelines: &[wgpu::ComputePipeline],
    pass: &mut wgpu::ComputePass<'_>,
) {
    let mut current = usize::MAX;
    for d in list {
        if d.pipeline != current {
            pass.set_pipeline(&pipelines[d.pipeline]);
            current = d.pipeline;
        }
        pass.set_bind_group(0, &d.group, &[]);
        pass.dispatch_workgroups(d.grid[0], d.grid[1], d.grid[2]);
    }
}

/// The dispatches of a run of plans, cut into submits.
struct Script {
    device: wgpu::Device,
    pipelines: Arc<Vec<wgpu::ComputePipeline>>,
    lists: Vec<Arc<[Dispatch]>>,
    submits: Vec<Vec<Part>>,
}

impl Script {
    fn record(&self, parts: &[Part]) -> wgpu::CommandBuffer {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let range = |(list, range): &(usize, Range<usize>)| &self.lists[*list][range.clone()];
        parts.iter().for_each(|part| encode(range(part), &self.pipelines, &mut pass));
        drop(pass);
        encoder.finish()
    }
    /// One command buffer a submit, each recorded when it is taken.
    fn commands(&self) -> impl Iterator<Item = wgpu::CommandBuffer> {
        self.submits.iter().map(|parts| self.record(parts))
    }
}

/// What was run, by its plans.
#[derive(Default)]
pub(super) struct Recorded {
    known: BTreeMap<Vec<PlanId>, Known>,
    #[cfg(not(target_arch = "wasm32"))]
    recorder: Option<thread::Recorder>,
}

struct Known {
    script: Arc<Script>,
    /// The commands of the next run, under way.
    #[cfg(not(target_arch = "wasm32"))]
    next: Option<std::sync::mpsc::Receiver<Vec<wgpu::CommandBuffer>>>,
}

impl GpuSession {
    /// Submits a run of plans, and has its next one recorded if it is not the first.
    pub(super) fn submit_run(&mut self, ids: &[PlanId]) -> Result<()> {
        if !self.recorded.known.contains_key(ids) {
            let script = Arc::new(self.script(ids)?);
            self.submit_each(script.commands());
            self.recorded.known.insert(ids.to_vec(), Known::new(script));
            return Ok(());
        }
        let Some((script, ready)) = self.recorded.take(ids) else { return Ok(()) };
        match ready {
            Some(commands) => self.submit_each(commands.into_iter()),
            // The device begins with the first while the second is recorded.
            None => self.submit_each(script.commands()),
        }
        self.recorded.ask(ids);
        Ok(())
    }

    fn submit_each(&mut self, commands: impl Iterator<Item = wgpu::CommandBuffer>) {
        for one in commands {
            self.in_flight.push_back(self.gpu.queue.submit([one]));
        }
    }

    fn script(&self, ids: &[PlanId]) -> Result<Script> {
        let lists = ids.iter().map(|&id| Ok(self.loaded(id)?.list.clone())).collect::<Result<Vec<_>>>()?;
        let slices: Vec<&[Dispatch]> = lists.iter().map(|l| &**l).collect();
        let submits = load::submits(&slices, self.gpu.is_software());
        Ok(Script { device: self.gpu.device.clone(), pipelines: self.pipelines.all(), lists, submits })
    }

    /// Forgets all commands: pipelines changed.
    pub(super) fn forget_recorded(&mut self) {
        self.recorded.known.clear();
    }
}

#[cfg(target_arch = "wasm32")]
impl Known {
    fn new(script: Arc<Script>) -> Self {
        Known { script }
    }
}

/// A browser has no threads: commands are recorded when they are submitted.
#[cfg(target_arch = "wasm32")]
impl Recorded {
    fn take(&mut self, ids: &[PlanId]) -> Option<(Arc<Script>, Option<Vec<wgpu::CommandBuffer>>)> {
        Some((self.known.get(ids)?.script.clone(), None))
    }
    fn ask(&mut self, _: &[PlanId]) {}
}

#[cfg(not(target_arch = "wasm32"))]
mod thread {
    use super::{Known, Recorded, Script};
    use crate::session::PlanId;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{Builder, JoinHandle};

    type Commands = Vec<wgpu::CommandBuffer>;

    /// The thread that records. It ends with the session.
    pub(super) struct Recorder {
        jobs: Option<Sender<(Arc<Script>, Sender<Commands>)>>,
        thread: Option<JoinHandle<()>>,
    }

    impl Recorder {
        /// `None` if there are no threads left.
        fn start() -> Option<Self> {
            let (jobs, received) = channel::<(Arc<Script>, Sender<Commands>)>();
            let work = move || {
                for (script, to) in received {
                    // Nobody waits for it any more: the session is gone or its pipelines changed.
                    let _ = to.send(script.commands().collect());
                }
            };
            let thread = Builder::new().name("recorder".into()).spawn(work).ok()?;
            Some(Recorder { jobs: Some(jobs), thread: Some(thread) })
        }
        fn record(&self, script: Arc<Script>) -> Option<Receiver<Commands>> {
            let (to, next) = channel();
            self.jobs.as_ref()?.send((script, to)).ok()?;
            Some(next)
        }
    }

    impl Drop for Recorder {
        fn drop(&mut self) {
            self.jobs.take();
            // A driver must not be at work while its process ends. The thread itself ends by returning.
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }

    impl Known {
        pub(super) fn new(script: Arc<Script>) -> Self {
            Known { script, next: None }
        }
    }

    impl Recorded {
        /// What these plans dispatch and, if it was asked for, that as commands.
        pub(super) fn take(&mut self, ids: &[PlanId]) -> Option<(Arc<Script>, Option<Commands>)> {
            let known = self.known.get_mut(ids)?;
            let ready = known.next.take().and_then(|next| next.recv().ok());
            Some((known.script.clone(), ready))
        }
        /// Has the next run of these plans recorded.
        pub(super) fn ask(&mut self, ids: &[PlanId]) {
            if self.recorder.is_none() {
                self.recorder = Recorder::start();
            }
            if let (Some(recorder), Some(known)) = (&self.recorder, self.known.get_mut(ids)) {
                known.next = recorder.record(known.script.clone());
            }
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::gpu::caps::Gpu;
    use crate::graph::Graph;
    use crate::plan::{CompileOptions, compile};
    use crate::session::{Data, HostData, Session};

    const N: usize = 64;

    /// Adds its input to itself `times` times over.
    fn doubling(session: &mut GpuSession, times: i32) -> PlanId {
        let mut g = Graph::new();
        let mut x = g.input("x", &[1, N]).unwrap();
        for _ in 0..times {
            x = crate::ops::add(&mut g, x, x).unwrap();
        }
        g.output("y", x);
        let plan = compile("doubling", &g, &[], &session.caps(), &CompileOptions::default()).unwrap();
        session.load(Arc::new(plan)).unwrap()
    }

    fn check(session: &mut GpuSession, id: PlanId, expected: f32) {
        let ticket = session.fetch(id, &["y"]).unwrap();
        let read = session.take(ticket, true).unwrap();
        assert_eq!(read, Some(vec![HostData::F32(vec![expected; N])]));
    }

    #[test]
    fn every_run_sees_its_own_inputs() {
        if crate::gpu::list_adapters().is_empty() {
            eprintln!("NO GPU ADAPTER: recorded commands were not tested");
            return;
        }
        let gpu = Gpu::create(std::env::var("BEIT_ADAPTER").ok().as_deref()).unwrap();
        let mut session = GpuSession::new(gpu);
        let (a, b) = (doubling(&mut session, 3), doubling(&mut session, 5));
        for i in 1..=6u8 {
            let value = f32::from(i);
            session.write(a, "x", Data::F32(&[value; N])).unwrap();
            session.write(b, "x", Data::F32(&[-value; N])).unwrap();
            session.run_all(&[a, b]).unwrap();
            check(&mut session, a, 8.0 * value);
            check(&mut session, b, -32.0 * value);
            session.write(a, "x", Data::F32(&[100.0 * value; N])).unwrap();
            session.run(a).unwrap();
            check(&mut session, a, 800.0 * value);
            check(&mut session, b, -32.0 * value);
            let under_way = |s: &GpuSession| s.recorded.known.values().filter(|k| k.next.is_some()).count();
            assert_eq!(under_way(&session), if i == 1 { 0 } else { 2 }, "run {i}");
            // What was recorded for kernels that changed is not used, and the next run records anew.
            if i == 4 {
                session.forget_recorded();
                session.run_all(&[a, b]).unwrap();
                session.run(a).unwrap();
            }
        }
    }
}
