//! The workloads that speed is compared on (docs/performance.md), timed in the browser.

use beit::gpu::GpuSession;
use beit::session::Session;
use beit::tasks::workload::{Prepared, WORKLOADS, Workload};
use beit::{Error, Result};
use js_sys::Date;
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::answer::Answer;
use crate::engine::Engine;
use crate::fault::{Thrown, thrown};
use crate::waiting::take;

#[wasm_bindgen]
impl Engine {
    /// Times `runs` runs of a workload after one that compiles: `{label, images, flops, dispatches, first, seconds}`.
    pub async fn bench(&self, name: &str, runs: u32) -> Thrown<JsValue> {
        let workload = Workload::by_name(name).into_iter().next().ok_or_else(|| {
            let e = Error::config("no such workload").expected(WORKLOADS.join(", "));
            thrown(e.got(name))
        })?;
        let from = Date::now();
        let session = GpuSession::new(self.gpu.clone());
        let arrivals = session.arrivals();
        let mut prepared = workload.prepare(Box::new(session)).map_err(thrown)?;
        run(&mut prepared, &arrivals).await.map_err(thrown)?;
        let first = 1e-3 * (Date::now() - from);
        let mut seconds = Vec::with_capacity(runs as usize);
        for _ in 0..runs {
            let from = Date::now();
            run(&mut prepared, &arrivals).await.map_err(thrown)?;
            seconds.push(1e-3 * (Date::now() - from));
        }
        let figures = json!({
            "label": workload.label(), "images": workload.images(), "flops": workload.flops(),
            "dispatches": prepared.dispatches(), "first": first, "seconds": seconds,
        });
        Ok(Answer::new().json("bench", &figures).done())
    }
}

/// One run, to the end: a read-back of an output arrives after everything that was submitted before it.
async fn run(prepared: &mut Prepared, arrivals: &beit::gpu::Arrivals) -> Result<()> {
    prepared.submit()?;
    let (plan, outputs) = (prepared.plan_id(), &prepared.plans()[0].outputs);
    let Some(output) = outputs.first().map(|o| o.name.clone()) else { return Ok(()) };
    let session: &mut dyn Session = prepared.session();
    let ticket = session.fetch(plan, &[&output])?;
    take(session, arrivals, ticket).await.map(|_| ())
}
