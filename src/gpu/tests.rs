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
    assert!(same_bits(&got, &run(s, id, &plan, &data)), "{op:?}: two runs differ");
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
const TAU: (&[usize], Fill) = (&[1], Fill::Constant(0.7));
const KEY: (&[usize], Fill) = (&[4], Fill::Words(u32::MAX));

#[test]
fn elementwise() {
    let Some(mut s) = session() else { return };
    for n in [1, 4, 7, 64, 129, 1000, 4096] {
        let x: (&[usize], Fill) = (&[n], N);
        check(&mut s, accumulate::Accumulate, &[x, x]);
        check(&mut s, add::AddScaled { s: 0.3 }, &[x, x]);
        check(&mut s, add::Scale { s: -2.5 }, &[x]);
        check(&mut s, combine::Combine, &[x, x, TAU]);
        check(&mut s, combine::ScaleBy, &[x, TAU]);
        check(&mut s, fill::Constant { value: 1.5, shape: vec![n] }, &[]);
        check(&mut s, reduce::Broadcast { scale: 0.1, shape: vec![n] }, &[TAU]);
        check(&mut s, relu::Relu, &[x]);
        check(&mut s, relu::ReluGrad, &[x, (&[n], Fill::Ties)]);
        for range in [1.0, 6.0] {
            let wide: (&[usize], Fill) = (&[n], Fill::Uniform(-range, range));
            check(&mut s, gelu::Gelu, &[wide]);
            check(&mut s, gelu::GeluGrad, &[x, wide]);
        }
        check(&mut s, qkv_bias::QkvBias, &[x, x]);
        check(&mut s, qkv_bias::QkvBiasGrad, &[(&[3 * n], N)]);
    }
}

#[test]
fn optimizer() {
    let Some(mut s) = session() else { return };
    let some = Fill::Uniform(0.1, 0.9);
    for n in [1, 64, 130, 1000, 8192 + 64] {
        let (x, v): ((&[usize], Fill), (&[usize], Fill)) = ((&[n], N), (&[n], some));
        let groups = [2 * n.div_ceil(64)];
        for gate in [some, Fill::Constant(0.0)] {
            let (control, hyper): ((&[usize], Fill), (&[usize], Fill)) = ((&[16], gate), (&[12], some));
            check(&mut s, adamw::AdamW, &[x, x, v, x, control, hyper, (&groups, some)]);
            check(&mut s, ema::Ema, &[x, x, control, hyper]);
            check(&mut s, clip::ClipControl, &[control, hyper]);
        }
        check(&mut s, norm2::Norm2, &[(&[n * 7], N)]);
        for first in [true, false] {
            check(&mut s, norm2::Norm2Accumulate { first }, &[(&[16], some), (&[n], some)]);
        }
    }
    check(&mut s, clip::ClipControl, &[(&[16], Fill::Constant(f32::NAN)), (&[12], some)]);
    check(&mut s, clip::ClipControl, &[(&[16], Fill::Constant(f32::INFINITY)), (&[12], some)]);
}

#[test]
fn rows() {
    let Some(mut s) = session() else { return };
    for (r, c) in [(1, 1), (1, 4), (3, 7), (17, 64), (33, 129), (5, 1024), (700, 12), (300, 5)] {
        let x: (&[usize], Fill) = (&[r, c], N);
        let (row, stats): ((&[usize], Fill), (&[usize], Fill)) =
            ((&[c], N), (&[r, 2], Fill::Uniform(0.2, 1.0)));
        check(&mut s, argmax::Argmax, &[x]);
        check(&mut s, argmax::Argmax, &[(&[r, c], Fill::Ties)]);
        check(&mut s, gumbel::GumbelSoftmax, &[x, TAU, x]);
        check(&mut s, gumbel::GumbelSoftmax, &[x, TAU, KEY]);
        check(&mut s, gumbel::SoftmaxGrad, &[x, x, TAU]);
        check(&mut s, kl_uniform::KlUniform, &[x]);
        check(&mut s, kl_uniform::KlUniformGrad, &[(&[r], N), x]);
        check(&mut s, layer_norm::LayerNorm { eps: 1e-6 }, &[x, row, row]);
        check(&mut s, layer_norm::LayerNormGradInput, &[x, x, row, stats]);
        check(&mut s, layer_norm::LayerNormGradParams { shape: vec![c] }, &[x, x, stats]);
        check(&mut s, reduce::ColSum { cols: c, shape: vec![c] }, &[x]);
        check(&mut s, reduce::Sum { scale: 0.5 }, &[x]);
        check(&mut s, one_hot::OneHot { classes: c }, &[(&[r], Fill::Words(c as u32 + 1))]);
        let labels: (&[usize], Fill) = (&[r], Fill::Words(c as u32));
        let weights: (&[usize], Fill) = (&[r], Fill::Uniform(0.0, 1.0));
        check(&mut s, cross_entropy::CrossEntropy, &[x, labels, weights]);
        let rows: (&[usize], Fill) = (&[r, 3], N);
        check(&mut s, cross_entropy::CrossEntropyGrad, &[TAU, x, labels, weights, rows]);
        let inverse: (&[usize], Fill) = (&[r], Fill::InverseCount(r as u32 / 2));
        let picks: (&[usize], Fill) = (&[r / 2 + 1], Fill::Words(r as u32));
        check(&mut s, gather::GatherRows, &[x, picks, inverse]);
        check(&mut s, gather::GatherRowsGrad { shape: vec![r, c] }, &[(&[r / 2 + 1, c], N), inverse]);
        check(&mut s, gather::GatherWords, &[(&[r], Fill::Words(99)), (&[c], Fill::Words(r as u32 + 2))]);
    }
    for rows in [70_000, 1_000_003] {
        check(&mut s, reduce::ColSum { cols: 1, shape: vec![1] }, &[(&[rows, 1], Fill::Uniform(0.0, 1.0))]);
        check(&mut s, reduce::Sum { scale: 1.0 }, &[(&[rows], Fill::Uniform(0.0, 1.0))]);
    }
}

#[test]
fn tokens_and_branches() {
    let Some(mut s) = session() else { return };
    for (b, n, d) in [(1, 1, 1), (2, 3, 4), (3, 16, 7), (5, 64, 64)] {
        let (x, patches): ((&[usize], Fill), (&[usize], Fill)) = ((&[b, n + 1, d], N), (&[b, n, d], N));
        let (token, mask): ((&[usize], Fill), (&[usize], Fill)) = ((&[d], N), (&[b, n], Fill::Words(2)));
        let pos: (&[usize], Fill) = (&[n + 1, d], N);
        for (masked, with_pos) in [(false, false), (false, true), (true, false), (true, true)] {
            let masks = [token, mask];
            let mut inputs = vec![patches, token];
            inputs.extend(masks.iter().filter(|_| masked));
            inputs.extend(with_pos.then_some(pos));
            check(&mut s, embed::Embed { masked, pos: with_pos }, &inputs);
            let mut inputs = vec![x];
            inputs.extend(masked.then_some(mask));
            check(&mut s, embed::EmbedGradPatches { masked }, &inputs);
            let shapes = [Some(vec![d]), masked.then(|| vec![d]), with_pos.then(|| vec![n + 1, d])];
            let shapes = shapes.into_iter().flatten().collect();
            check(&mut s, embed::EmbedGradParams { masked, pos: with_pos, shapes }, &inputs);
        }
        for pool in [Pool::Cls, Pool::MeanPatches] {
            check(&mut s, pool_tokens::PoolTokens { pool }, &[x]);
            check(&mut s, pool_tokens::PoolTokensGrad { pool, tokens: n + 1 }, &[(&[b, d], N)]);
        }
        for drop in [None, Some(DropPath { rate: 0.4, salt: 3 })] {
            for gamma in [false, true] {
                let gammas: Vec<_> = gamma.then_some(token).into_iter().chain(drop.map(|_| KEY)).collect();
                let forward: Vec<_> = [x, x].into_iter().chain(gammas.clone()).collect();
                check(&mut s, residual::Residual { gamma, drop }, &forward);
                let backward: Vec<_> = [x].into_iter().chain(gammas).collect();
                check(&mut s, residual::ResidualGradBranch { gamma, drop }, &backward);
            }
            let inputs: Vec<_> = [x, x].into_iter().chain(drop.map(|_| KEY)).collect();
            check(&mut s, residual::ResidualGradGamma { drop, shape: vec![d] }, &inputs);
        }
    }
}

#[test]
fn images() {
    let Some(mut s) = session() else { return };
    for (b, h, w, c) in [(1, 2, 2, 1), (2, 4, 6, 3), (3, 8, 4, 8), (1, 12, 12, 5)] {
        let (x, big): ((&[usize], Fill), (&[usize], Fill)) = ((&[b, h, w, c], N), (&[b, 2 * h, 2 * w, c], N));
        let small: (&[usize], Fill) = (&[b, h / 2, w / 2, c], N);
        check(&mut s, upsample::Upsample, &[x]);
        check(&mut s, upsample::UpsampleGrad, &[big]);
        check(&mut s, max_pool::MaxPool, &[x]);
        check(&mut s, max_pool::MaxPoolGrad, &[small, x]);
        check(&mut s, max_pool::MaxPoolGrad, &[small, (&[b, h, w, c], Fill::Ties)]);
        for patch in [1, 2] {
            check(&mut s, patchify::Patchify { patch }, &[x]);
            let patches: (&[usize], Fill) = (&[b, h / patch * (w / patch), c * patch * patch], N);
            check(&mut s, patchify::Unpatchify { patch, shape: vec![b, h, w, c] }, &[patches]);
        }
        let (params, target): ((&[usize], Fill), (&[usize], Fill)) =
            ((&[b, h, w, 2 * c], N), (&[b, h, w, c], Fill::Uniform(0.1, 0.9)));
        check(&mut s, logit_laplace::LogitLaplace, &[params, target]);
        check(&mut s, logit_laplace::LogitLaplaceGrad, &[x, params, target]);
    }
}

/// Equal as bytes: a NaN equals itself.
fn same_bits(a: &[HostData], b: &[HostData]) -> bool {
    let bits = |d: &HostData| match d {
        HostData::F32(v) => v.iter().map(|x| x.to_bits()).collect(),
        HostData::U32(v) => v.clone(),
    };
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(a) == bits(b))
}
