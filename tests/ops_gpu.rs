//! The generic suite on the shaders: every sample of every op, at the adapter's limits and at those that WebGPU
//! guarantees, with the kernels for software and for hardware, twice, against the f64 session.
//!
//! Without an adapter the tests say so loudly and pass; `BEIT_ADAPTER` names another one than the first.
#![cfg(feature = "gpu")]

mod support;

use beit::gpu::{Gpu, GpuSession, list_adapters};
use beit::graph::DType;
use beit::ops::{Caps, ProductVariant, Sample, Tier, samples};
use beit::plan::Plan;
use beit::session::{HostData, PlanId, Session};
use std::sync::Arc;
use support::check::{FORWARD, HALF, Tolerance, VJP, bits, compare_all, load, plan_for, reference};
use support::probe::{Returns, between_copies, probe};

fn adapter() -> Option<Gpu> {
    let name = std::env::var("BEIT_ADAPTER").ok();
    if list_adapters().is_empty() {
        eprintln!("NO GPU ADAPTER: the shaders were not tested (sh setup.sh installs a software driver)");
        return None;
    }
    Some(Gpu::create(name.as_deref()).expect("an adapter that is listed opens"))
}

/// All outputs of a run of a loaded plan.
fn outputs(session: &mut GpuSession, plan: &Plan, id: PlanId) -> beit::Result<Vec<HostData>> {
    session.run(id)?;
    plan.outputs.iter().map(|port| session.read(id, &port.name)).collect()
}

fn one(
    s: &Sample,
    session: &mut GpuSession,
    caps: &Caps,
    returns: Returns,
    tol: Tolerance,
) -> Result<f64, String> {
    let p = probe(&s.op, &s.inputs, returns).map_err(|e| e.to_string())?;
    let plan = plan_for(&p, caps).map_err(|e| e.to_string())?;
    let want = reference(&plan, &p.inputs).map_err(|e| e.to_string())?;
    let before = session.allocated();
    let id = load(session, &plan, &p.inputs).map_err(|e| e.to_string())?;
    let got = outputs(session, &plan, id).map_err(|e| e.to_string())?;
    let (memory, allocated) = (plan.memory(), session.allocated() - before);
    if allocated != memory.slots + memory.inputs + memory.uniforms {
        return Err(format!("allocated {allocated} bytes, planned {memory:?}"));
    }
    let worst = compare_all(&plan, &got, &want, tol)?;
    let again = outputs(session, &plan, id).map_err(|e| e.to_string())?;
    if bits(&got) != bits(&again) {
        return Err("two runs differ".into());
    }
    let damaged = session.damaged_guards(id).map_err(|e| e.to_string())?;
    if !damaged.is_empty() {
        return Err(format!("wrote past the end of {}", damaged.join(", ")));
    }
    Ok(worst)
}

fn suite(gpu: &Gpu, caps: &Caps) {
    let all = samples();
    let mut failures = Vec::new();
    let mut worst = (0.0f64, 0.0f64);
    let mut session = GpuSession::guarded(gpu.clone());
    for s in &all {
        let forward = one(s, &mut session, caps, Returns::Results, FORWARD);
        let vjp = one(s, &mut session, caps, Returns::Gradients, VJP);
        match (forward, vjp) {
            (Ok(f), Ok(v)) => worst = (worst.0.max(f), worst.1.max(v)),
            (f, v) => {
                let types: Vec<String> = s.inputs.iter().map(|(t, _)| t.to_string()).collect();
                let said = f.err().or(v.err()).unwrap_or_default();
                failures.push(format!("{:?} of {}\n    {said}", s.op, types.join(", ")));
            }
        }
    }
    eprintln!(
        "{} samples, worst L2-relative error: results {:.1e}, gradients {:.1e}",
        all.len(),
        worst.0,
        worst.1
    );
    let shown = failures.len().min(60);
    assert!(
        failures.is_empty(),
        "{} of {} fail:\n{}",
        failures.len(),
        all.len(),
        failures[..shown].join("\n")
    );
}

#[test]
fn software_kernels_at_the_adapters_limits() {
    if let Some(gpu) = adapter() {
        suite(&gpu, &Caps { tier: Tier::Software, ..gpu.caps() });
    }
}

#[test]
fn hardware_kernels_at_the_adapters_limits() {
    if let Some(gpu) = adapter() {
        suite(&gpu, &Caps { tier: Tier::Hardware, ..gpu.caps() });
    }
}

/// Every way to compute a product, whatever the choice would be, on products of all shapes and storage orders.
#[test]
fn every_variant_of_products() {
    let Some(gpu) = adapter() else { return };
    let all = samples();
    // Four storage orders a shape: every 13th sample meets every order; each is another pipeline, which takes its time.
    let products: Vec<&Sample> =
        all.iter().filter(|s| format!("{:?}", s.op).starts_with("Matmul")).step_by(13).collect();
    assert!(products.len() >= 4, "only {} products", products.len());
    // The three passes of a convolution whose products read their rows from the image.
    let convolutions: Vec<&Sample> = (all.iter())
        .filter(|s| format!("{:?}", s.op).starts_with("Conv2d"))
        .filter(|s| s.inputs.iter().any(|i| [[1, 6, 6, 16], [1, 6, 6, 32]].iter().any(|l| i.0.shape() == l)))
        .collect();
    assert_eq!(convolutions.len(), 3, "one of each pass");
    let mut session = GpuSession::guarded(gpu.clone());
    for variant in ProductVariant::ALL.into_iter().filter(|v| v.runs_on(&gpu.caps())) {
        let caps = Caps { products: [Some(variant); 4], ..gpu.caps() };
        for s in &products {
            let result = one(s, &mut session, &caps, Returns::Results, FORWARD);
            assert!(result.is_ok(), "{variant} of {:?}: {result:?}", s.op);
        }
        // A GPU's weight gradient goes along the pixels with every variant, too.
        for tier in [Tier::Software, Tier::Hardware] {
            for s in &convolutions {
                let result = one(s, &mut session, &Caps { tier, ..caps }, Returns::Results, FORWARD);
                assert!(result.is_ok(), "{variant} of {:?} ({tier:?}): {result:?}", s.op);
            }
        }
    }
}

/// Every op that can keep operands or results in half precision, against the f64 session.
fn halves(gpu: &Gpu, caps: &Caps) {
    let mut session = GpuSession::guarded(gpu.clone());
    let (mut checked, mut worst, mut failures) = (0, 0.0f64, Vec::new());
    for s in samples() {
        let p = between_copies(&s.op, &s.inputs).expect("a sample");
        let plan = plan_for(&p, caps).expect("a plan");
        if plan.slots.iter().all(|slot| slot.dtype != DType::F16) {
            continue;
        }
        checked += 1;
        let want = reference(&plan_for(&p, &Caps::cpu()).expect("a plan"), &p.inputs).expect("a run");
        let id = load(&mut session, &plan, &p.inputs).expect("a loaded plan");
        let got = outputs(&mut session, &plan, id).expect("a run");
        match compare_all(&plan, &got, &want, HALF) {
            Ok(error) => worst = worst.max(error),
            Err(e) => failures.push(format!("{:?}: {e}", s.op)),
        }
        let damaged = session.damaged_guards(id).expect("guard zones");
        assert!(damaged.is_empty(), "{:?} wrote past the end of {damaged:?}", s.op);
    }
    eprintln!("{checked} samples with halves ({:?}), worst L2-relative error {worst:.1e}", caps.tier);
    assert!(checked > 60, "only {checked} samples with halves"); // which products keep them depends on the driver
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn half_precision_in_software_kernels() {
    if let Some(gpu) = adapter() {
        halves(&gpu, &Caps { tier: Tier::Software, half: true, ..gpu.caps() });
    }
}

#[test]
fn half_precision_in_hardware_kernels() {
    if let Some(gpu) = adapter() {
        halves(&gpu, &Caps { tier: Tier::Hardware, half: true, ..gpu.caps() });
    }
}

#[test]
fn both_at_the_guaranteed_limits() {
    if adapter().is_none() {
        return;
    }
    let name = std::env::var("BEIT_ADAPTER").ok();
    let gpu =
        Gpu::create_with_default_limits(name.as_deref()).expect("an adapter meets the guaranteed limits");
    for tier in [Tier::Software, Tier::Hardware] {
        suite(&gpu, &Caps { tier, ..gpu.caps() });
    }
}

/// The guard zones find a kernel that is told of one element more than its buffers hold.
#[test]
fn one_element_too_many_is_noticed() {
    let Some(gpu) = adapter() else { return };
    let caps = Caps::guaranteed(Tier::Software);
    let odd = |s: &Sample| s.op.name() == "gelu" && s.inputs[0].0.elements() % 4 != 0;
    let sample = samples().into_iter().find(odd).expect("a sample of gelu with an odd size");
    let p = probe(&sample.op, &sample.inputs, Returns::Results).expect("a probe");
    let mut plan = plan_for(&p, &caps).expect("a plan");
    let mut session = GpuSession::guarded(gpu);
    for (extra, expected) in [(0, false), (1, true)] {
        let changed = Arc::make_mut(&mut plan);
        let step = changed.steps.iter_mut().find(|s| s.op.name() == "gelu").expect("a gelu");
        step.calls[0].params[0] += extra;
        let id = load(&mut session, &plan, &p.inputs).expect("a loaded plan");
        outputs(&mut session, &plan, id).expect("a run");
        let damaged = session.damaged_guards(id).expect("guard zones");
        assert_eq!(!damaged.is_empty(), expected, "{extra} elements too many: {damaged:?}");
    }
}
