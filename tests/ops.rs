//! The generic suite: every sample of every op against the f64 session and central differences, bit-identical runs,
//! guard zones.

mod support;

use beit::cpu::CpuSession;
use beit::ops::{Sample, samples};
use std::collections::{BTreeMap, BTreeSet};
use support::check::{self, bits};
use support::kind;
use support::probe::{Returns, probe};

/// Ops without a derivative on purpose: optimiser steps, ids, constants, what only vjps draw.
const WITHOUT_VJP: &[&str] = &[
    "Accumulate",
    "AdamW",
    "Argmax",
    "BatchNormStats",
    "ClipControl",
    "CodebookUpdate",
    "ColSum",
    "Constant",
    "Ema",
    "Fused",
    "GatherWords",
    "GroupMean",
    "LossScale",
    "Members",
    "MovingMean",
    "Nearest",
    "Norm2",
    "Norm2Accumulate",
    "OneHot",
    "RunningStats",
];

fn label(s: &Sample) -> String {
    let types: Vec<String> = s.inputs.iter().map(|(t, f)| format!("{t} {f:?}")).collect();
    format!("{:?} of {}", s.op, types.join(", "))
}

/// Runs `test` on all samples and reports every failure, not only the first.
fn all(test: impl Fn(&Sample) -> Result<(), String>) {
    let all = samples();
    let failures: Vec<String> =
        all.iter().filter_map(|s| test(s).err().map(|e| format!("{}\n    {e}", label(s)))).collect();
    assert!(
        failures.is_empty(),
        "{} of {} samples fail:\n{}",
        failures.len(),
        all.len(),
        failures[..failures.len().min(25)].join("\n")
    );
}

/// Names of all types that implement `Op` under `src/ops`.
fn implemented() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ops");
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("src/ops can be listed") {
        let path = entry.expect("src/ops can be listed").path();
        let text = std::fs::read_to_string(&path).expect("a source file can be read");
        for line in text.lines() {
            if let Some(rest) = line.trim_start().strip_prefix("impl Op for ") {
                names.insert(rest.split([' ', '{', '<']).next().unwrap_or_default().to_string());
            }
        }
    }
    names
}

#[test]
fn every_op_has_samples_of_enough_shapes() {
    let mut shapes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for s in samples() {
        let types: Vec<_> = s.inputs.iter().map(|i| i.0.clone()).collect();
        let results = s.op.infer(&types).expect("a sample has fitting types");
        let key = format!("{types:?} -> {results:?}");
        shapes.entry(kind(&*s.op)).or_default().insert(key);
    }
    let sampled: BTreeSet<String> = shapes.keys().cloned().collect();
    assert_eq!(sampled, implemented(), "ops with samples (left) and ops in src/ops (right)");
    for (name, shapes) in shapes {
        let enough = if ["ClipControl", "LossScale"].contains(&name.as_str()) { 1 } else { 6 };
        assert!(shapes.len() >= enough, "{name} has samples of {} shapes only", shapes.len());
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    let without: std::cell::RefCell<BTreeSet<String>> = std::cell::RefCell::default();
    all(|s| {
        if !s.smooth {
            return Ok(());
        }
        let name = kind(&*s.op);
        if !check::gradient(&s.op, &s.inputs)? {
            without.borrow_mut().insert(name);
        }
        Ok(())
    });
    let unexpected: Vec<String> = without
        .into_inner()
        .into_iter()
        .filter(|n| !WITHOUT_VJP.contains(&n.as_str()) && !n.contains("Grad"))
        .collect();
    assert!(unexpected.is_empty(), "ops without a derivative: {unexpected:?}");
}

#[test]
fn f32_agrees_with_f64() {
    all(|s| check::single(&s.op, &s.inputs).map(drop));
}

/// Bytes of results and gradients in f32.
fn outputs(s: &Sample, session: &mut CpuSession<f32>) -> Result<Vec<Vec<u32>>, String> {
    let mut all = vec![];
    for returns in [Returns::Results, Returns::Gradients] {
        let p = probe(&s.op, &s.inputs, returns).map_err(|e| e.to_string())?;
        let plan = check::plan(&p).map_err(|e| e.to_string())?;
        all.extend(bits(&check::run(session, &plan, &p.inputs).map_err(|e| e.to_string())?));
    }
    Ok(all)
}

#[test]
fn poisoned_slots_change_nothing() {
    all(|s| match outputs(s, &mut CpuSession::new())? == outputs(s, &mut CpuSession::poisoned())? {
        true => Ok(()),
        false => Err("a slot is read before it is written".into()),
    });
}

#[test]
fn runs_are_identical_for_any_number_of_threads() {
    let pools: Vec<rayon::ThreadPool> = [1, 2, 3]
        .into_iter()
        .map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().expect("threads can be started"))
        .collect();
    all(|s| {
        let first = outputs(s, &mut CpuSession::new())?;
        for pool in pools.iter().chain(&pools[1..2]) {
            if pool.install(|| outputs(s, &mut CpuSession::new()))? != first {
                return Err(format!("other bytes with {} threads", pool.current_num_threads()));
            }
        }
        Ok(())
    });
}
