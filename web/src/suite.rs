//! The op suite on the browser's GPU: every small sample of every op, results and gradients, the kernels of both classes
//! of adapter, against the f64 session in the same module.

#[path = "../../tests/support/mod.rs"]
mod support;

use beit::gpu::{Gpu, GpuSession};
use beit::ops::{Caps, Sample, Tier, samples};
use beit::session::{HostData, Session};
use support::check::{FORWARD, Tolerance, VJP, compare_all, load, plan_for, reference};
use support::probe::{Returns, probe};
use wasm_bindgen::prelude::*;

use crate::fault::{Thrown, thrown};
use crate::waiting::take;

/// Samples with a larger operand are left to the native suite.
const TINY: usize = 4096;

/// Runs the suite and gives one line a failure, and a last line with the count.
#[wasm_bindgen(js_name = opSuite)]
pub async fn op_suite() -> Thrown<Vec<String>> {
    let gpu = Gpu::create_async(None).await.map_err(thrown)?;
    let (mut lines, mut done) = (Vec::new(), 0usize);
    for tier in [Tier::Software, Tier::Hardware] {
        let mut session = GpuSession::new(gpu.clone());
        let caps = Caps { tier, ..gpu.caps() };
        for s in samples().iter().filter(|s| s.inputs.iter().all(|(ty, _)| ty.elements() <= TINY)) {
            for (returns, tolerance) in [(Returns::Results, FORWARD), (Returns::Gradients, VJP)] {
                done += 1;
                if let Err(e) = one(s, &mut session, &caps, returns, tolerance).await {
                    lines.push(format!("{tier:?} {:?} {returns:?}: {e}", s.op));
                }
            }
        }
    }
    lines.push(format!("{done} checks, {} failed", lines.len()));
    Ok(lines)
}

async fn one(
    s: &Sample,
    session: &mut GpuSession,
    caps: &Caps,
    returns: Returns,
    tolerance: Tolerance,
) -> Result<(), String> {
    let text = |e: beit::Error| e.to_string();
    let p = probe(&s.op, &s.inputs, returns).map_err(text)?;
    let plan = plan_for(&p, caps).map_err(text)?;
    let want = reference(&plan, &p.inputs).map_err(text)?;
    let id = load(session, &plan, &p.inputs).map_err(text)?;
    session.run(id).map_err(text)?;
    let names: Vec<&str> = plan.outputs.iter().map(|o| o.name.as_str()).collect();
    let got: Vec<HostData> = if names.is_empty() {
        vec![]
    } else {
        let ticket = session.fetch(id, &names).map_err(text)?;
        let arrivals = session.arrivals();
        take(session, &arrivals, ticket).await.map_err(text)?
    };
    compare_all(&plan, &got, &want, tolerance).map(|_| ())
}
