//! What a plan will cost, before anything is allocated: memory, work, and a stable text.

use super::{Place, Plan};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes a plan needs beside the parameter pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// Reused transient buffers.
    pub slots: u64,
    /// Transients if nothing were reused.
    pub without_reuse: u64,
    /// Largest sum of transients alive at one step: no planner can do with less.
    pub peak_live: u64,
    /// Input buffers.
    pub inputs: u64,
    /// Uniform blocks of the dispatches.
    pub uniforms: u64,
}

/// The figures of a plan, for `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct PlanSummary {
    /// Plan name.
    pub name: String,
    /// Ops.
    pub steps: usize,
    /// WGSL dispatches.
    pub dispatches: usize,
    /// Slots.
    pub slots: usize,
    /// Bytes.
    pub memory: MemoryReport,
    /// FLOPs of one run.
    pub flops: u64,
    /// Bytes moved if every operand is touched once.
    pub bytes_moved: u64,
    /// Per op name: count, FLOPs, bytes.
    pub ops: BTreeMap<String, (usize, u64, u64)>,
    /// Hash of the plan's text.
    pub hash: String,
}

/// Distance of uniform blocks (WebGPU's guaranteed dynamic offset alignment).
pub(crate) const UNIFORM_ALIGN: u64 = 256;

impl Plan {
    /// Bytes the plan needs beside the parameter pages.
    pub fn memory(&self) -> MemoryReport {
        let calls: u64 = self.steps.iter().map(|s| s.calls.len() as u64).sum();
        let sizes = self.slots.iter().map(super::Slot::bytes);
        let mut alive = vec![0u64; self.steps.len() + 2];
        let mut without_reuse = 0;
        for (slot, first, last, bytes) in self.slotted() {
            let _ = slot;
            without_reuse += bytes;
            alive[first..=last].iter_mut().for_each(|a| *a += bytes);
        }
        MemoryReport {
            slots: sizes.sum(),
            without_reuse,
            peak_live: alive.into_iter().max().unwrap_or(0),
            inputs: self.inputs.iter().map(|p| p.ty.bytes()).sum(),
            uniforms: calls * UNIFORM_ALIGN,
        }
    }

    /// Every value in a slot: (slot, first step, last step, bytes).
    fn slotted(&self) -> Vec<(usize, usize, usize, u64)> {
        let mut values = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            for (place, ty) in step.outs.iter().zip(&step.out_types) {
                if let Place::Slot(s) = place
                    && let Some(&(first, last)) = self.slots[*s].intervals.iter().find(|iv| iv.0 == i)
                {
                    values.push((*s, first, last, ty.bytes()));
                }
            }
        }
        values
    }

    /// The figures of the plan.
    pub fn summary(&self) -> PlanSummary {
        let mut ops: BTreeMap<String, (usize, u64, u64)> = BTreeMap::new();
        for s in &self.steps {
            let e = ops.entry(s.op.name().to_string()).or_default();
            *e = (e.0 + 1, e.1 + s.cost.flops, e.2 + s.cost.bytes);
        }
        let cost = self.cost();
        PlanSummary {
            name: self.name.clone(),
            steps: self.steps.len(),
            dispatches: self.steps.iter().map(|s| s.calls.len()).sum(),
            slots: self.slots.len(),
            memory: self.memory(),
            flops: cost.flops,
            bytes_moved: cost.bytes,
            ops,
            hash: self.hash(),
        }
    }

    /// A hash of the plan's text; checkpoints carry it.
    pub fn hash(&self) -> String {
        Sha256::digest(self.to_string().as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
    }
}

fn place(p: &Place) -> String {
    match p {
        Place::Input(i) => format!("in{i}"),
        Place::Slot(s) => format!("s{s}"),
        Place::Page(r) => format!("{}.{:?}.{}+{}", r.store, r.kind, r.page, r.offset),
    }
}

impl fmt::Display for Plan {
    /// One line per input, slot, step and output: stable, for snapshots and hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan {}", self.name)?;
        for (i, p) in self.inputs.iter().enumerate() {
            writeln!(f, "  in{i}: {} {}", p.name, p.ty)?;
        }
        for (i, s) in self.slots.iter().enumerate() {
            writeln!(f, "  s{i}: {}[{}] serves {} values", s.dtype.name(), s.elements, s.intervals.len())?;
        }
        for s in &self.steps {
            let outs: Vec<String> =
                s.outs.iter().zip(&s.out_types).map(|(p, t)| format!("{}:{t}", place(p))).collect();
            let ins: Vec<String> = s.ins.iter().map(place).collect();
            writeln!(f, "  {} = {}({})  {:?}", outs.join(", "), s.label, ins.join(", "), s.op)?;
            for c in &s.calls {
                writeln!(f, "      {}:{} {:?} {:?}", c.shader, c.entry, c.defines, c.grid)?;
            }
        }
        for p in &self.outputs {
            writeln!(f, "  return {} = {}", p.name, place(&p.place))?;
        }
        Ok(())
    }
}
