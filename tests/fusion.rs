//! The same models with and without each fusion on an adapter: losses and all gradients against the f64 session, which
//! never joins anything.
#![cfg(feature = "gpu")]

use beit::cpu::CpuSession;
use beit::gpu::{Gpu, GpuSession, list_adapters};
use beit::graph::{Graph, PageKind, ParamLayout, grad};
use beit::models::dvae::{self, DvaeConfig, DvaeNetwork, Noise};
use beit::models::mim::{MimBatchShape, MimOptions, on_tokens};
use beit::models::vit::{RelPos, VitConfig};
use beit::ops::{Caps, Fusions};
use beit::plan::{CompileOptions, Plan, compile};
use beit::rng::{Key, Stream};
use beit::session::{Data, PlanId, Session};
use std::sync::Arc;

/// Largest L2-relative error of an output.
const BOUND: f64 = 3e-5;

/// A masked image model with everything that can end a product: LayerScale, stochastic depth, GELU.
fn transformer(g: &mut Graph) -> beit::Result<beit::graph::Var> {
    let vit = VitConfig {
        image: (8, 12),
        patch: 4,
        width: 24,
        depth: 2,
        heads: 2,
        mlp: 40,
        vocab: 19,
        layer_norm_eps: 1e-6,
        abs_pos: true,
        rel_pos: RelPos::Shared,
        layer_scale: 0.1,
        drop_path: 0.4,
    };
    let ids = g.input_words("ids", &[3, 6])?;
    let options = MimOptions { train: true, ..MimOptions::default() };
    Ok(on_tokens(g, &vit, ids, MimBatchShape { images: 3, masked: 5 }, options)?.loss)
}

/// A tokenizer, whose blocks have ReLUs and sums.
fn tokenizer(g: &mut Graph) -> beit::Result<beit::graph::Var> {
    let cfg = DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: 8,
        n_init: 8,
        groups: 3,
        blocks: 1,
        pools: 2,
        vocab: 12,
    };
    let image = g.input("image", &[2, 16, 16, 3])?;
    let (tau, weight) = (g.input("tau", &[1])?, g.input("kl_weight", &[1])?);
    let key = g.input_words("key", &[4])?;
    Ok(dvae::training(g, &cfg, image, tau, weight, Noise::Key(key).into())?.loss)
}

/// The model with the gradient of every parameter as an output.
fn with_gradients(
    draw: fn(&mut Graph) -> beit::Result<beit::graph::Var>,
) -> beit::Result<(Graph, ParamLayout)> {
    let mut g = Graph::new();
    let loss = draw(&mut g)?;
    let params = g.params_of("model");
    let wrt: Vec<_> = params.iter().map(|p| p.1).collect();
    let grads = grad(&mut g, loss, &wrt)?;
    g.output("the loss", loss);
    for ((name, _), grad) in params.iter().zip(grads) {
        if let Some(grad) = grad {
            g.output(name, grad);
        }
    }
    let layout = ParamLayout::of(&g, "model", 1 << 20)?;
    Ok((g, layout))
}

fn load(session: &mut dyn Session, plan: &Arc<Plan>) -> beit::Result<PlanId> {
    let id = session.load(plan.clone())?;
    for (i, port) in plan.inputs.iter().enumerate() {
        let key = Key::new(4, Stream::Test, i as u32);
        let n = port.ty.elements() as u32;
        match port.ty.dtype() {
            beit::graph::DType::F32 => {
                let values: Vec<f32> = (0..n).map(|e| 0.2 + 0.6 * key.uniform(e)).collect();
                session.write(id, &port.name, Data::F32(&values))?;
            }
            _ => {
                let values: Vec<u32> = (0..n).map(|e| key.words(e)[0] % 2).collect();
                session.write(id, &port.name, Data::U32(&values))?;
            }
        }
    }
    session.run(id)?;
    Ok(id)
}

fn store(session: &mut dyn Session, layout: &ParamLayout) -> beit::Result<()> {
    session.add_store(layout, &[PageKind::Param])?;
    for (page, data) in layout.initial(2).iter().enumerate() {
        session.write_page("model", PageKind::Param, page, data)?;
    }
    Ok(())
}

/// Fused steps of the plan.
fn joined(plan: &Plan) -> usize {
    plan.steps.iter().filter(|s| format!("{:?}", s.op).starts_with("Fused")).count()
}

fn check(what: &str, draw: fn(&mut Graph) -> beit::Result<beit::graph::Var>, kinds: &[(&str, Fusions)]) {
    if list_adapters().is_empty() {
        eprintln!("NO GPU ADAPTER: fused kernels were not tested");
        return;
    }
    let name = std::env::var("BEIT_ADAPTER").ok();
    let gpu = Gpu::create(name.as_deref()).expect("an adapter that is listed opens");
    let (g, layout) = with_gradients(draw).expect("a model");
    let plan = |caps: &Caps| {
        Arc::new(compile(what, &g, &[&layout], caps, &CompileOptions::default()).expect("a plan"))
    };
    let mut oracle = CpuSession::<f64>::new();
    store(&mut oracle, &layout).expect("a store");
    let unfused = plan(&Caps::cpu());
    let want = load(&mut oracle, &unfused).expect("a run");
    let mut session = GpuSession::new(gpu.clone());
    store(&mut session, &layout).expect("a store");
    let steps = plan(&Caps { fusions: Fusions::NONE, ..gpu.caps() }).steps.len();
    for (label, fusions) in kinds {
        let fused = plan(&Caps { fusions: *fusions, ..gpu.caps() });
        assert_eq!(fused.steps.len() + joined(&fused), steps, "{what}, {label}: steps that became one");
        assert_eq!(joined(&fused) > 0, *fusions != Fusions::NONE, "{what}, {label}: nothing was joined");
        let id = load(&mut session, &fused).expect("a run");
        for port in &fused.outputs {
            let want = oracle.read_f64(want, &port.name).expect("an output");
            let got = session.read(id, &port.name).expect("an output").f32();
            let size: f64 = want.iter().map(|w| w * w).sum();
            let error: f64 = got.iter().zip(&want).map(|(&g, w)| (f64::from(g) - w).powi(2)).sum();
            let relative = (error / size.max(1e-30)).sqrt();
            assert!(relative <= BOUND, "{what}, {label}, {}: error {relative:.1e}", port.name);
        }
    }
}

#[test]
fn transformers_with_each_fusion() {
    let none = Fusions::NONE;
    check(
        "transformer",
        transformer,
        &[
            ("nothing", none),
            ("gelu", Fusions { gelu: true, ..none }),
            ("residual", Fusions { residual: true, ..none }),
            ("all", Fusions::ALL),
        ],
    );
}

#[test]
fn tokenizers_with_each_fusion() {
    let none = Fusions::NONE;
    check(
        "tokenizer",
        tokenizer,
        &[
            ("nothing", none),
            ("relu", Fusions { relu: true, ..none }),
            ("add", Fusions { add: true, ..none }),
            ("all", Fusions::ALL),
        ],
    );
}
