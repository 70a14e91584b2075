//! The light ops on an adapter against the f64 session, and the promises of the session itself.

use super::{Gpu, GpuSession};
use crate::cpu::CpuSession;
use crate::graph::{DType, Graph, TensorType, Var};
use crate::ops::*;
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, HostData, PlanId, Session};
use std::sync::Arc;

/// The adapter under test; `None` (and the test passes) on a machine without any.
fn session() -> Option<GpuSession> {
    let name = std::env::var("BEIT_TEST_ADAPTER").ok();
    let gpu = match std::env::var("BEIT_TEST_LIMITS").as_deref() {
        Ok("default") => Gpu::create_with_default_limits(name.as_deref()),
        _ => Gpu::create(name.as_deref()),
    };
    gpu.ok().map(GpuSession::new)
}

#[derive(Clone)]
enum Host {
    F32(Vec<f32>),
    U32(Vec<u32>),
}

fn contents(ty: &TensorType, fill: Fill, seed: u32) -> Host {
    let key = Key::new(1, Stream::Test, seed);
    let n = ty.elements() as u32;
    let real = |f: &dyn Fn(u32) -> f32| Host::F32((0..n).map(f).collect());
    match fill {
        Fill::Normal => real(&|i| key.normal(i)),
        Fill::Uniform(a, b) => real(&|i| a + (b - a) * key.uniform(i)),
        Fill::Constant(c) => real(&|_| c),
        Fill::Ties => real(&|i| (key.uniform(i) * 4.0).floor()),
        Fill::Words(bound) => Host::U32((0..n).map(|i| key.words(i)[0] % bound).collect()),
        Fill::Count => Host::U32((0..n).collect()),
        Fill::InverseCount(m) => Host::U32((0..n).map(|i| if i < m { i + 1 } else { 0 }).collect()),
    }
}

fn graph_of(op: &Arc<dyn Op>, inputs: &[(TensorType, Fill)]) -> Graph {
    let mut g = Graph::new();
    let vars: Vec<Var> = (inputs.iter().enumerate())
        .map(|(i, (ty, _))| {
            let name = format!("i{i}");
            match ty.dtype() {
                DType::F32 => g.input(&name, ty.shape()).unwrap(),
                DType::U32 => g.input_words(&name, ty.shape()).unwrap(),
            }
        })
        .collect();
    for (o, v) in g.apply_arc(op.clone(), &vars).unwrap().into_iter().enumerate() {
        g.output(&format!("o{o}"), v);
    }
    g
}

fn load(s: &mut dyn Session, graph: &Graph) -> (Arc<Plan>, PlanId) {
    let plan = Arc::new(compile("test", graph, &[], &s.caps(), &CompileOptions::default()).unwrap());
    let id = s.load(plan.clone()).unwrap();
    (plan, id)
}

fn run(s: &mut dyn Session, id: PlanId, plan: &Plan, data: &[Host]) -> Vec<HostData> {
    for (i, host) in data.iter().enumerate() {
        let name = format!("i{i}");
        if plan.input(&name).is_some() {
            let data = match host {
                Host::F32(v) => Data::F32(v),
                Host::U32(v) => Data::U32(v),
            };
            s.write(id, &name, data).unwrap();
        }
    }
    s.run(id).unwrap();
    plan.outputs.iter().map(|o| s.read(id, &o.name).unwrap()).collect()
}

/// Largest error of the device relative to the largest reference value, over all results.
fn check(s: &mut GpuSession, op: impl Op, inputs: &[(&[usize], Fill)]) {
    let op: Arc<dyn Op> = Arc::new(op);
    let inputs: Vec<(TensorType, Fill)> = inputs
        .iter()
        .map(|&(shape, fill)| {
            let words = matches!(fill, Fill::Words(_) | Fill::Count | Fill::InverseCount(_));
            (TensorType::new(shape, if words { DType::U32 } else { DType::F32 }).unwrap(), fill)
        })
        .collect();
    let data: Vec<Host> = (0..).zip(&inputs).map(|(i, (ty, fill))| contents(ty, *fill, i)).collect();
    let graph = graph_of(&op, &inputs);
    let mut oracle = CpuSession::<f64>::new();
    let (plan, id) = load(&mut oracle, &graph);
    let want = run(&mut oracle, id, &plan, &data);
    let before = s.allocated();
    let (plan, id) = load(s, &graph);
    let memory = plan.memory();
    assert_eq!(s.allocated() - before, memory.slots + memory.inputs + memory.uniforms, "{op:?}");
    let got = run(s, id, &plan, &data);
    assert_eq!(got, run(s, id, &plan, &data), "{op:?}: two runs differ");
    for (o, pair) in got.into_iter().zip(want).enumerate() {
        match pair {
            (HostData::F32(got), HostData::F32(want)) => {
                let scale = want.iter().fold(1e-6f32, |m, w| m.max(w.abs()));
                for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                    let error = (g - w).abs() / scale;
                    let same = g.to_bits() == w.to_bits() || error <= 2e-6;
                    assert!(same, "{op:?} of {inputs:?}: result {o}[{i}] = {g}, not {w} ({error})");
                }
            }
            (got, want) => assert_eq!(got, want, "{op:?} of {inputs:?}: result {o}"),
        }
    }
}

const N: Fill = Fill::Normal;

#[test]
fn elementwise() {
    let Some(mut s) = session() else { return };
    for n in [1, 4, 7, 64, 129, 1000, 4096] {
        check(&mut s, accumulate::Accumulate, &[(&[n], N), (&[n], N)]);
    }
}
