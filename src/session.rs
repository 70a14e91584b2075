//! What runs plans: the WGSL session on wgpu or the CPU session, behind one small trait.

use crate::error::Result;
use crate::graph::{PageKind, ParamLayout};
use crate::ops::Caps;
use crate::plan::Plan;
use std::sync::Arc;

/// A loaded plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(pub(crate) usize);

/// A read-back under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Elements that the host writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Data<'a> {
    /// Real numbers.
    F32(&'a [f32]),
    /// Words.
    U32(&'a [u32]),
}

/// Elements that the host reads.
#[derive(Debug, Clone, PartialEq)]
pub enum HostData {
    /// Real numbers.
    F32(Vec<f32>),
    /// Words.
    U32(Vec<u32>),
}

impl HostData {
    /// The real numbers (empty for words).
    pub fn f32(self) -> Vec<f32> {
        match self {
            HostData::F32(v) => v,
            HostData::U32(_) => vec![],
        }
    }
    /// The words (empty for real numbers).
    pub fn u32(self) -> Vec<u32> {
        match self {
            HostData::U32(v) => v,
            HostData::F32(_) => vec![],
        }
    }
}

/// Holds parameter stores and loaded plans, and runs them in order.
///
/// Every call returns an error instead of panicking; after a device was lost every call does.
pub trait Session: Send {
    /// The session as one on a GPU, for programs that draw what it computed; `None` on the CPU.
    #[cfg(feature = "gpu")]
    fn as_gpu(&mut self) -> Option<&mut crate::gpu::GpuSession> {
        None
    }
    /// The device, for people.
    fn device(&self) -> String;
    /// What plans for this session must be compiled with.
    fn caps(&self) -> Caps;
    /// Allocates the pages of a store, zeroed, for each kind; kinds that exist already stay as they are.
    ///
    /// # Errors
    /// If the memory is not there, or a store of that name has another layout.
    fn add_store(&mut self, layout: &ParamLayout, kinds: &[PageKind]) -> Result<()>;
    /// Overwrites a page.
    ///
    /// # Errors
    /// If there is no such page or the length differs.
    fn write_page(&mut self, store: &str, kind: PageKind, page: usize, data: &[f32]) -> Result<()>;
    /// Reads a page, waiting for work under way.
    ///
    /// # Errors
    /// If there is no such page or the device was lost.
    fn read_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Vec<f32>>;
    /// Starts reading a page as it is after the work submitted so far; [`Session::take`] gives it.
    ///
    /// # Errors
    /// If there is no such page or the device was lost.
    fn fetch_page(&mut self, store: &str, kind: PageKind, page: usize) -> Result<Ticket>;
    /// Makes a plan ready to run: buffers, bind groups and pipelines are created here and nowhere else.
    ///
    /// # Errors
    /// If the memory is not there or a store is missing.
    fn load(&mut self, plan: Arc<Plan>) -> Result<PlanId>;
    /// Writes an input; it keeps its contents until written again.
    ///
    /// # Errors
    /// If there is no such input or the type or length differs.
    fn write(&mut self, plan: PlanId, input: &str, data: Data<'_>) -> Result<()>;
    /// Runs a plan. On a GPU this returns when the work is submitted.
    ///
    /// # Errors
    /// If the device was lost.
    fn run(&mut self, plan: PlanId) -> Result<()>;
    /// Runs plans one after the other. On a GPU they share a submit where their work allows it.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn run_all(&mut self, plans: &[PlanId]) -> Result<()> {
        plans.iter().try_for_each(|&plan| self.run(plan))
    }
    /// Starts reading outputs as they are after the work submitted so far.
    ///
    /// # Errors
    /// If there is no such output.
    fn fetch(&mut self, plan: PlanId, outputs: &[&str]) -> Result<Ticket>;
    /// The outputs of a [`Session::fetch`], in its order; `None` if they have not arrived and `wait` is off.
    ///
    /// # Errors
    /// If the device was lost or the wait passed its time limit.
    fn take(&mut self, ticket: Ticket, wait: bool) -> Result<Option<Vec<HostData>>>;
    /// Runs a plan and times each of its steps, in seconds; `None` where the device cannot tell.
    ///
    /// # Errors
    /// As [`Session::run`].
    fn profile(&mut self, plan: PlanId) -> Result<Option<Vec<f64>>> {
        self.run(plan)?;
        Ok(None)
    }
    /// Bytes allocated for pages, slots, inputs and uniforms.
    fn allocated(&self) -> u64;
    /// Waits until all submitted work is done.
    ///
    /// # Errors
    /// If the device was lost or the wait passed its time limit.
    fn finish(&mut self) -> Result<()>;

    /// Reads one output and waits for it.
    ///
    /// # Errors
    /// As [`Session::fetch`] and [`Session::take`].
    fn read(&mut self, plan: PlanId, output: &str) -> Result<HostData> {
        let ticket = self.fetch(plan, &[output])?;
        let mut all = self.take(ticket, true)?.unwrap_or_default();
        all.pop().ok_or_else(|| crate::error::Error::device("a read-back came back empty").at(output))
    }
}
