//! Times a prepared workload, alternating with a matrix product of our own.

use super::process;
use crate::error::Result;
use crate::plan::Plan;
use crate::tasks::workload::{Prepared, Workload};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Instant;

/// Name of the thread of a GPU session that records commands ahead.
const RECORDER: &str = "recorder";

/// What a workload is, beside its preparation.
pub(super) struct About {
    pub name: String,
    pub images: usize,
    /// Of one run.
    pub flops: u64,
}

/// Time of all applications of one op in a run.
struct Share {
    op: &'static str,
    count: usize,
    seconds: f64,
    share: f64,
    gflops: f64,
    gbs: f64,
}

/// What was measured; seconds.
pub(super) struct Measurement {
    about: About,
    /// From opening the session to the end of the first run: plans, pipelines, buffers, one run.
    first: f64,
    runs: Vec<f64>,
    /// Time that the host spent writing inputs, encoding and submitting a run (all of it on the CPU session).
    host: Vec<f64>,
    /// Processor time of the submitting thread in that: where a driver computes on the CPU, the rest is waiting for it.
    thread: Vec<f64>,
    /// Mean processor time of recording the commands of the next run, on a thread of its own.
    recording: Option<f64>,
    /// Mean processor time of a run, all threads of the process.
    cpu: Option<f64>,
    ops: usize,
    dispatches: usize,
    planned: u64,
    allocated: u64,
    /// Largest resident memory of the process until the end of the second run.
    peak_resident: Option<u64>,
    /// GFLOP/s of a 512³ product between the runs.
    product: Vec<f64>,
    shares: Vec<Share>,
}

/// Prepares by `prepare`, runs twice, then `runs` times, each followed by one run of `product`.
pub(super) fn measure(
    about: About,
    runs: usize,
    product: impl FnOnce() -> Result<Option<Prepared>>,
    prepare: impl FnOnce() -> Result<Prepared>,
) -> Result<Measurement> {
    let start = Instant::now();
    let mut prepared = prepare()?;
    once(&mut prepared)?;
    let first = start.elapsed().as_secs_f64();
    // During the second run the commands of the third are recorded: nothing more is needed from then on. The product, with
    // kernels of its own, comes after.
    once(&mut prepared)?;
    let peak_resident = process::peak_resident();
    let mut product = product()?;
    let mut m = Measurement {
        about,
        first,
        runs: vec![],
        host: vec![],
        thread: vec![],
        recording: None,
        cpu: None,
        ops: prepared.plans().iter().map(|p| p.steps.len()).sum(),
        dispatches: prepared.dispatches(),
        planned: prepared.planned_bytes,
        allocated: prepared.session().allocated(),
        peak_resident,
        product: vec![],
        shares: vec![],
    };
    let recorded = process::named_seconds(RECORDER);
    for _ in 0..runs {
        // Asking costs processor time itself, as much as between these two.
        let (asked, before) = (process::thread_seconds(), process::thread_seconds());
        let cpu = process::cpu_seconds();
        let start = Instant::now();
        prepared.submit()?;
        m.host.push(start.elapsed().as_secs_f64());
        if let (Some(asked), Some(before), Some(after)) = (asked, before, process::thread_seconds()) {
            m.thread.push((after - before - (before - asked)).max(0.0));
        }
        prepared.session().finish()?;
        m.runs.push(start.elapsed().as_secs_f64());
        if let (Some(before), Some(after)) = (cpu, process::cpu_seconds()) {
            m.cpu = Some(m.cpu.unwrap_or(0.0) + (after - before) / runs as f64);
        }
        if let Some(product) = &mut product {
            let start = Instant::now();
            once(product)?;
            m.product.push(PRODUCT.flops() as f64 / start.elapsed().as_secs_f64() / 1e9);
        }
    }
    let spent = recorded.zip(process::named_seconds(RECORDER));
    m.recording = spent.map(|(before, after)| (after - before) / runs as f64);
    let (id, plan) = (prepared.plan_id(), prepared.plans()[0].clone());
    m.shares = prepared.session().profile(id)?.map(|s| shares(&plan, &s)).unwrap_or_default();
    for all in [&mut m.runs, &mut m.host, &mut m.thread, &mut m.product] {
        all.sort_by(f64::total_cmp);
    }
    Ok(m)
}

/// The product that others are compared with.
pub(super) const PRODUCT: Workload = Workload::Matmul { m: 512, k: 512, n: 512 };

/// Runs and waits.
pub(super) fn once(prepared: &mut Prepared) -> Result<()> {
    prepared.submit()?;
    prepared.session().finish()
}

/// The middle of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    sorted.get(sorted.len() / 2).copied()
}

/// Sums the times of steps by op, largest first.
fn shares(plan: &Plan, seconds: &[f64]) -> Vec<Share> {
    let mut by_op: BTreeMap<&'static str, (usize, f64, u64, u64)> = BTreeMap::new();
    for (step, s) in plan.steps.iter().zip(seconds) {
        let e = by_op.entry(step.op.name()).or_default();
        *e = (e.0 + 1, e.1 + s, e.2 + step.cost.flops, e.3 + step.cost.bytes);
    }
    let total: f64 = seconds.iter().sum();
    let mut all: Vec<Share> = by_op
        .into_iter()
        .map(|(op, (count, s, flops, bytes))| Share {
            op,
            count,
            seconds: s,
            share: s / total,
            gflops: flops as f64 / s / 1e9,
            gbs: bytes as f64 / s / 1e9,
        })
        .collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}

impl Measurement {
    fn rate(&self) -> f64 {
        self.about.flops as f64 / median(&self.runs).unwrap_or(f64::NAN) / 1e9
    }
    /// Rate of the run over the median rate of the product between the runs.
    fn of_product(&self) -> Option<f64> {
        median(&self.product).map(|p| self.rate() / p)
    }
    fn per_thousand(&self, seconds: Option<f64>) -> Option<f64> {
        seconds.filter(|_| self.dispatches > 0).map(|s| 1e3 * s / self.dispatches as f64)
    }

    /// Machine-readable; keys that the device cannot fill are null.
    pub(super) fn json(&self) -> Value {
        let kernels = self.shares.iter().map(|k| {
            json!({"op": k.op, "count": k.count, "seconds": k.seconds, "share": k.share, "gflops": k.gflops,
                "gbytes_per_second": k.gbs})
        });
        let runs = &self.runs;
        json!({
            "workload": self.about.name,
            "images": self.about.images,
            "gflop": self.about.flops as f64 / 1e9,
            "ops": self.ops,
            "dispatches": self.dispatches,
            "first_run_seconds": self.first,
            "seconds": {"min": runs.first(), "median": median(runs), "max": runs.last(), "runs": runs.len()},
            "cpu_seconds": self.cpu,
            "gflops": self.rate(),
            "images_per_second": self.about.images as f64 / median(runs).unwrap_or(f64::NAN),
            "matmul_512_gflops": median(&self.product),
            "rate_over_matmul_512": self.of_product(),
            "host_seconds": median(&self.host),
            "host_seconds_per_1000_dispatches": self.per_thousand(median(&self.host)),
            "host_cpu_seconds_per_1000_dispatches": self.per_thousand(median(&self.thread)),
            "recording_cpu_seconds_per_1000_dispatches": self.per_thousand(self.recording),
            "planned_bytes": self.planned,
            "allocated_bytes": self.allocated,
            "peak_resident_bytes": self.peak_resident,
            "kernels": kernels.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(super) fn print(&self) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (low, high) = (self.runs[0], self.runs[self.runs.len() - 1]);
        let middle = median(&self.runs).unwrap_or(f64::NAN);
        print!("{}: {middle:.4} s ({low:.4} to {high:.4}), {:.1} GFLOP/s", self.about.name, self.rate());
        if self.about.images > 0 {
            print!(", {:.2} images/s", self.about.images as f64 / middle);
        }
        self.of_product().iter().for_each(|r| print!(", {:.0} % of our 512³ product's rate", 100.0 * r));
        println!();
        print!(
            "  {:.3} GFLOP, {} ops, {} dispatches",
            self.about.flops as f64 / 1e9,
            self.ops,
            self.dispatches
        );
        println!("; first run after {:.2} s", self.first);
        if let Some(host) = self.per_thousand(median(&self.host)) {
            print!("  host {:.2} ms per 1000 dispatches", 1e3 * host);
            let thread = self.per_thousand(median(&self.thread));
            thread.iter().for_each(|s| print!(", {:.2} ms of it processor time of its thread", 1e3 * s));
            let recording = self.per_thousand(self.recording.filter(|&s| s > 0.0));
            recording.iter().for_each(|s| print!("; recorded ahead in {:.2} ms beside it", 1e3 * s));
            println!();
        }
        print!("  planned {:.1} MiB, allocated {:.1} MiB", mib(self.planned), mib(self.allocated));
        self.peak_resident.iter().for_each(|&r| print!(", peak resident {:.0} MiB", mib(r)));
        self.cpu.iter().for_each(|s| print!("; {s:.3} CPU s a run"));
        println!();
        for k in self.shares.iter().take(14) {
            println!(
                "    {:24} x{:<4} {:>5.1} % {:>9.2} ms {:>8.1} GFLOP/s {:>7.1} GB/s",
                k.op,
                k.count,
                100.0 * k.share,
                1e3 * k.seconds,
                k.gflops,
                k.gbs
            );
        }
    }
}
