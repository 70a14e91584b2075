//! `moco_v3`: one step on given features.

use std::collections::BTreeMap;

use beit::graph::{Graph, Var, grad};
use beit::io::tensors::Tensors;
use beit::models::batch_norm::Statistics;
use beit::models::moco::{Diagonal, contrast, mlp};
use beit::ops::{CONTROL_LEN, Ema, HYPER_LEN, Hyper, add};
use beit::session::HostData;

use super::case::{Case, Outcome};
use super::device::Device;
use super::report::Report;
use super::stores::{Loaded, plain_weights};
use super::vit::STORE;

/// Store of the momentum encoder.
const MOMENTUM: &str = "momentum";

/// Heads, average, contrast, gradients; the order of the running statistics is part of the check.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let (hidden, dim, n) = (c.count("hidden")?, c.count("dim")?, c.count("N")?);
    let mut g = Graph::new();
    let mut inputs: Vec<(String, HostData)> = Vec::new();
    let mut given = |g: &mut Graph, name: &str| -> Outcome<Var> {
        let a = case.given(&format!("in.{name}"))?;
        inputs.push((name.into(), HostData::F32(a.reals())));
        Ok(g.input(name, &a.shape)?)
    };
    let features = [given(&mut g, "features1")?, given(&mut g, "features2")?];
    let momentum_features = [given(&mut g, "momentum_features1")?, given(&mut g, "momentum_features2")?];
    let pairs = Diagonal { labels: g.input_words("labels", &[n])?, weights: g.input("weights", &[n])? };
    let (control, hyper) = (g.input("control", &[CONTROL_LEN])?, g.input("hyper", &[HYPER_LEN])?);

    let projector = |g: &mut Graph, name: &str, x: Var| {
        g.scoped(name, |g| mlp(g, x, &[hidden, hidden, dim], Statistics::Batch))
    };
    let mut q = Vec::new();
    for x in features {
        let projected = projector(&mut g, "base_head", x)?;
        q.push(g.scoped("predictor", |g| mlp(g, projected, &[hidden, dim], Statistics::Batch))?);
    }
    average(&mut g, (hidden, dim, c.count("features")?), control, hyper)?;
    let mut k = Vec::new();
    for x in momentum_features {
        k.push(g.in_store(MOMENTUM, |g| projector(g, "momentum_head", x))?);
    }
    let temperature = c.number("temperature")? as f32;
    let loss1 = contrast(&mut g, q[0], k[1], pairs, temperature)?;
    let loss2 = contrast(&mut g, q[1], k[0], pairs, temperature)?;
    let loss = add(&mut g, loss1, loss2)?;

    let params: Vec<(String, Var)> = g.params_of(STORE);
    let mut wrt: Vec<(String, Var)> = params.iter().filter(|p| !p.0.contains("running_")).cloned().collect();
    wrt.extend([("features1", features[0]), ("features2", features[1])].map(|(n, v)| (n.to_string(), v)));
    wrt.extend([("q1", q[0]), ("q2", q[1])].map(|(n, v)| (n.to_string(), v)));
    let vars: Vec<Var> = wrt.iter().map(|w| w.1).collect();
    for ((name, _), gradient) in wrt.iter().zip(grad(&mut g, loss, &vars)?) {
        g.output(&format!("grad.{name}"), gradient.ok_or_else(|| format!("no gradient of {name}"))?);
    }
    let state = params.iter().filter(|p| p.0.contains("running_")).cloned().chain(g.params_of(MOMENTUM));
    for (name, v) in state.collect::<Vec<_>>() {
        g.output(&format!("after.{name}"), v);
    }
    for (name, v) in [
        ("q1", q[0]),
        ("q2", q[1]),
        ("k1", k[0]),
        ("k2", k[1]),
        ("loss1", loss1),
        ("loss2", loss2),
        ("loss", loss),
    ] {
        g.output(name, v);
    }

    let (momentum, base): (Tensors, Tensors) =
        plain_weights(case)?.into_iter().partition(|(name, _)| name.starts_with("momentum_head."));
    let mut net = Loaded::new(device, &g, &[(STORE, &base), (MOMENTUM, &momentum)])?;
    // What the average reads of the two blocks: the step is taken, and with which momentum.
    let hyper = Hyper { ema: c.number("momentum")?, ..no_update() }.block();
    let mut all: Vec<(&str, HostData)> = inputs.iter().map(|(n, d)| (n.as_str(), d.clone())).collect();
    all.extend([
        ("labels", HostData::U32((0..n as u32).collect())),
        ("weights", HostData::F32(vec![1.0 / n as f32; n])),
        ("control", HostData::F32(vec![1.0; CONTROL_LEN])),
        ("hyper", HostData::F32(hyper.to_vec())),
    ]);
    net.run(&all)?;
    for name in ["q1", "q2", "k1", "k2"] {
        report.required("output", &format!("out.{name}"), &net.read(name)?);
    }
    for name in ["loss1", "loss2", "loss"] {
        report.required("loss", &format!("out.{name}"), &net.read(name)?);
    }
    for (group, prefix) in [("grad", "grad."), ("after", "after.")] {
        let names: Vec<String> = net.outputs().into_iter().filter(|n| n.starts_with(prefix)).collect();
        let mut got: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for name in names {
            got.insert(name[prefix.len()..].to_string(), net.read(&name)?);
        }
        report.family(group, prefix, &got);
    }
    Ok(())
}

fn no_update() -> Hyper {
    Hyper { lr: 0.0, weight_decay: 0.0, betas: (0.9, 0.999), eps: 1e-8, clip: 0.0, loss_scale: 1.0, ema: 0.0 }
}

/// Moves the parameters of the momentum head, not its statistics, towards those of the base head.
fn average(
    g: &mut Graph,
    (hidden, dim, features): (usize, usize, usize),
    control: Var,
    hyper: Var,
) -> Outcome {
    let parameters = [
        ("0.weight", vec![hidden, features]),
        ("1.weight", vec![hidden]),
        ("1.bias", vec![hidden]),
        ("3.weight", vec![hidden, hidden]),
        ("4.weight", vec![hidden]),
        ("4.bias", vec![hidden]),
        ("6.weight", vec![dim, hidden]),
    ];
    for (name, shape) in parameters {
        let base = g.param_var(STORE, &format!("base_head.{name}")).ok_or("no such parameter")?;
        let init = beit::graph::Init::Constant(0.0);
        let own = g.in_store(MOMENTUM, |g| g.scoped("momentum_head", |g| g.param(name, &shape, init)))?;
        g.apply(Ema, &[own, base, control, hyper])?;
    }
    Ok(())
}
