//! Plans without a GPU: their text for two presets against snapshots, and the planner on random graphs.
//!
//! After a wanted change: `BEIT_UPDATE_SNAPSHOTS=1 cargo test --test plans`, then read the difference in review.
#![cfg(feature = "cli")]

use beit::config::preset;
use beit::cpu::CpuSession;
use beit::graph::{Graph, Init, PageKind, ParamLayout, Var, grad};
use beit::ops::{
    Caps, DISPATCH_FLOPS, Fusions, Tier, add, add_scaled, gelu, layer_norm, linear, mean, relu, scale,
};
use beit::plan::{CompileOptions, Place, Plan, compile};
use beit::rng::{Draws, Key, Stream};
use beit::session::{Data, HostData, Session};
use beit::train::all_plans;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// A plan in some thirty lines: what goes in and out, what it holds, what it runs and how often.
fn text(plan: &Plan) -> String {
    let (m, s) = (plan.memory(), plan.summary());
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes text");
    line(format!("plan {} ({:?})", plan.name, plan.caps.tier));
    plan.inputs.iter().for_each(|p| line(format!("  in   {} {}", p.name, p.ty)));
    plan.outputs.iter().for_each(|p| line(format!("  out  {} {}", p.name, p.ty)));
    line(format!(
        "  {} ops, {} dispatches, {} FLOP, {} bytes moved",
        s.steps, s.dispatches, s.flops, s.bytes_moved
    ));
    line(format!(
        "  bytes: {} in {} slots ({} without reuse, {} alive at once), {} of inputs, {} of constants",
        m.slots, s.slots, m.without_reuse, m.peak_live, m.inputs, m.uniforms
    ));
    let mut slots: BTreeMap<(std::cmp::Reverse<usize>, String), (usize, usize)> = BTreeMap::new();
    for slot in &plan.slots {
        let e = slots.entry((std::cmp::Reverse(slot.elements), format!("{:?}", slot.dtype))).or_default();
        *e = (e.0 + 1, e.1 + slot.intervals.len());
    }
    for ((elements, dtype), (count, values)) in &slots {
        line(format!("  slot {dtype}[{}] x{count} for {values} values", elements.0));
    }
    for (name, (count, flops, bytes)) in &s.ops {
        line(format!("  op   {name} x{count}: {flops} FLOP, {bytes} bytes"));
    }
    let mut kernels: BTreeMap<String, usize> = BTreeMap::new();
    for call in plan.steps.iter().flat_map(|s| &s.calls) {
        let defines: Vec<String> = call.defines.iter().map(|(n, v)| format!("{n}={v}")).collect();
        *kernels.entry(format!("{}:{} {}", call.shader, call.entry, defines.join(" "))).or_default() += 1;
    }
    kernels.iter().for_each(|(name, count)| line(format!("  run  {} x{count}", name.trim_end())));
    out
}

fn snapshot(name: &str) {
    let config = preset(name).expect("a preset");
    let mut now = String::new();
    for caps in [Caps::cpu(), Caps::guaranteed(Tier::Hardware)] {
        let (tokenizer, model) = all_plans(&config, &caps).expect("a preset has plans");
        for plans in tokenizer.iter().chain([&model]) {
            let bytes = (plans.layout.bytes(), plans.page_bytes(), plans.total_bytes());
            writeln!(
                now,
                "{}: {} parameters in {} pages, {} bytes; {} of all kinds; {} in all",
                plans.micro.name,
                plans.layout.parameters(),
                plans.layout.pages.len(),
                bytes.0,
                bytes.1,
                bytes.2
            )
            .expect("a string takes text");
            now += &format!("{}{}\n", text(&plans.micro), text(&plans.update));
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plans/{name}.txt"));
    if std::env::var_os("BEIT_UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &now).expect("the snapshot can be written");
        return;
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let differ: Vec<String> = before
        .lines()
        .zip(now.lines())
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("- {a}\n+ {b}"))
        .collect();
    let lines = (before.lines().count(), now.lines().count());
    assert!(
        before == now,
        "the plans of {name} changed ({} lines before, {} now); if that is wanted, \
         BEIT_UPDATE_SNAPSHOTS=1 cargo test --test plans writes them anew:\n{}",
        lines.0,
        lines.1,
        differ[..differ.len().min(12)].join("\n")
    );
}

#[test]
fn nano_plans() {
    snapshot("nano");
}

#[test]
fn base_plans() {
    snapshot("base");
}

/// No dispatch of a GPU is longer than the work budget of a submit, however large the batch: base at 256 images.
#[test]
fn large_dispatches_are_cut() {
    let mut config = preset("base").expect("a preset");
    (config.training.batch, config.training.accumulate) = (256, 1);
    let caps = Caps { max_binding: 1 << 31, max_buffer: 1 << 31, ..Caps::guaranteed(Tier::Hardware) };
    let plan = all_plans(&config, &caps).expect("plans").1.micro;
    let work = |s: &beit::plan::Step| s.calls.iter().map(|c| s.work_of(c)).max().unwrap_or(0);
    let largest = plan.steps.iter().max_by_key(|s| work(s)).expect("steps");
    assert!(work(largest) <= DISPATCH_FLOPS, "{}: {} FLOP in one dispatch", largest.label, work(largest));
    let cut = plan.steps.iter().filter(|s| s.cost.flops > DISPATCH_FLOPS).count();
    assert!(cut > 100, "only {cut} steps were large enough to be cut");
    // Nothing is lost by cutting.
    let products = plan.steps.iter().filter(|s| s.op.name() == "matmul" && s.cost.flops > DISPATCH_FLOPS);
    for s in products {
        let sum: u64 = s.calls.iter().map(|c| s.work_of(c)).sum();
        assert!(sum.abs_diff(s.cost.flops) < s.cost.flops / 50, "{}: {sum} of {}", s.label, s.cost.flops);
    }
}

/// The plan of a preset is the same every time, as the hash in its checkpoints must be.
#[test]
fn plans_are_reproducible() {
    let config = preset("nano").expect("a preset");
    let hash = || all_plans(&config, &Caps::guaranteed(Tier::Hardware)).expect("plans").1.micro.hash();
    assert_eq!(hash(), hash());
}

const ROWS: usize = 6;
const WIDTH: usize = 8;

/// A graph of random ops on `[6,8]` values, with the gradient of the last one's mean, and every value it has.
fn random_graph(draws: &mut Draws) -> (Graph, Vec<Var>) {
    let mut g = Graph::new();
    let mut values = vec![
        g.input("a", &[ROWS, WIDTH]).expect("an input"),
        g.input("b", &[ROWS, WIDTH]).expect("an input"),
    ];
    let weight = g.param("w", &[WIDTH, WIDTH], Init::Normal(0.3)).expect("a parameter");
    let (gamma, beta) = (
        g.param("gamma", &[WIDTH], Init::Constant(1.0)).expect("a parameter"),
        g.param("beta", &[WIDTH], Init::Constant(0.0)).expect("a parameter"),
    );
    for _ in 0..4 + draws.below(20) {
        let pick = |draws: &mut Draws, values: &[Var]| values[draws.below(values.len())];
        let (x, y) = (pick(draws, &values), pick(draws, &values));
        let drawn = match draws.below(7) {
            0 => add(&mut g, x, y),
            1 => add_scaled(&mut g, x, y, 0.5),
            2 => scale(&mut g, x, 0.7),
            3 => gelu(&mut g, x),
            4 => relu(&mut g, x),
            5 => layer_norm(&mut g, x, gamma, beta, 1e-6),
            _ => linear(&mut g, x, weight, None),
        };
        values.push(drawn.expect("the types fit"));
    }
    let last = *values.last().expect("there are values");
    let loss = mean(&mut g, last).expect("a scalar");
    values.push(loss);
    let wrt = [values[0], values[1], weight, gamma, beta];
    values.extend(grad(&mut g, loss, &wrt).expect("all ops have derivatives").into_iter().flatten());
    (g, values)
}

/// The named outputs of a run in f32.
fn replay(mut session: CpuSession<f32>, caps: &Caps, graph: &Graph, outputs: &[String]) -> Vec<HostData> {
    let layout = ParamLayout::of(graph, "model", 1 << 20).expect("a layout");
    session.add_store(&layout, &[PageKind::Param]).expect("a store");
    for (page, data) in layout.initial(3).iter().enumerate() {
        session.write_page("model", PageKind::Param, page, data).expect("a page");
    }
    let plan = compile("random", graph, &[&layout], caps, &CompileOptions::default()).expect("a plan");
    let plan = Arc::new(plan);
    let id = session.load(plan.clone()).expect("a loaded plan");
    for port in &plan.inputs {
        // by name: a plan leaves out the input that it does not need
        let key = Key::new(5, Stream::Test, u32::from(port.name.as_bytes()[0]));
        let values: Vec<f32> = (0..port.ty.elements() as u32).map(|e| key.normal(e)).collect();
        session.write(id, &port.name, Data::F32(&values)).expect("an input");
    }
    session.run(id).expect("a run");
    outputs.iter().map(|name| session.read(id, name).expect("an output")).collect()
}

/// No buffer that a step writes is bound to it twice, and no slot holds two values at once.
fn check_places(plan: &Plan) -> Result<(), String> {
    for slot in &plan.slots {
        if slot.intervals.windows(2).any(|w| w[1].0 <= w[0].1) {
            return Err(format!("a slot serves two values at once: {:?}", slot.intervals));
        }
    }
    let mut written: BTreeSet<Place> = BTreeSet::new();
    for step in &plan.steps {
        let places: Vec<&Place> = step.outs.iter().chain(&step.scratch).collect();
        let once: BTreeSet<&Place> = places.iter().copied().collect();
        if once.len() != places.len() || step.ins.iter().any(|p| once.contains(p)) {
            return Err(format!("{}: {:?} from {:?}", step.label, places, step.ins));
        }
        let unwritten = |p: &&Place| matches!(p, Place::Slot(_)) && !written.contains(*p);
        if let Some(p) = step.ins.iter().find(unwritten) {
            return Err(format!("{}: {p:?} is read before it is written", step.label));
        }
        written.extend(step.outs.iter().cloned());
    }
    Ok(())
}

/// A planned run with poisoned slots gives the bytes of a run in which every value has a buffer of its own.
#[test]
fn random_graphs_run_as_if_nothing_were_reused() {
    let (mut reused, mut joined) = (0, 0);
    let fusing = Caps { fusions: Fusions::ALL, ..Caps::cpu() };
    for n in 0..60 {
        let mut draws = Key::new(11, Stream::Test, n).draws();
        let (graph, values) = random_graph(&mut draws);
        let wanted: Vec<String> = (0..6).map(|i| format!("v{i}")).collect();
        let mut planned = graph.clone();
        for name in &wanted {
            planned.output(name, values[values.len() - 1 - draws.below(values.len().min(8))]);
        }
        // what is an output lives to the end: with all values named, no two share a buffer
        let mut unplanned = planned.clone();
        values.iter().enumerate().for_each(|(i, v)| unplanned.output(&format!("all{i}"), *v));
        let want = replay(CpuSession::new(), &Caps::cpu(), &unplanned, &wanted);
        let got = replay(CpuSession::poisoned(), &Caps::cpu(), &planned, &wanted);
        assert_eq!(got, want, "graph {n}");
        let fused = replay(CpuSession::poisoned(), &fusing, &planned, &wanted);
        assert_eq!(fused, want, "graph {n} with products and their endings joined");
        let finite = |d: &HostData| matches!(d, HostData::F32(v) if v.iter().all(|x| x.is_finite()));
        assert!(got.iter().all(finite), "graph {n} has values that are not numbers");
        let layout = ParamLayout::of(&planned, "model", 1 << 20).expect("a layout");
        for caps in [Caps::cpu(), fusing, Caps::guaranteed(Tier::Software), Caps::guaranteed(Tier::Hardware)]
        {
            let plan =
                compile("random", &planned, &[&layout], &caps, &CompileOptions::default()).expect("a plan");
            check_places(&plan).unwrap_or_else(|e| panic!("graph {n}: {e}"));
            joined += plan.steps.iter().filter(|s| format!("{:?}", s.op).starts_with("Fused")).count();
            let m = plan.memory();
            assert!(m.peak_live <= m.slots && m.slots <= m.without_reuse.max(m.slots), "graph {n}: {m:?}");
            reused += usize::from(m.slots < m.without_reuse);
        }
    }
    assert!(reused > 60, "slots were reused in {reused} plans only");
    assert!(joined > 50, "only {joined} products with an ending");
}

/// The check of places finds the mistakes that it is for.
#[test]
fn planner_mistakes_are_found() {
    let mut draws = Key::new(11, Stream::Test, 1).draws();
    let (mut graph, values) = random_graph(&mut draws);
    graph.output("last", values[values.len() - 1]);
    let layout = ParamLayout::of(&graph, "model", 1 << 20).expect("a layout");
    let plan =
        compile("random", &graph, &[&layout], &Caps::cpu(), &CompileOptions::default()).expect("a plan");
    assert_eq!(check_places(&plan), Ok(()));
    let mut aliased = plan.clone();
    let step = aliased.steps.iter_mut().find(|s| s.ins.iter().any(|p| matches!(p, Place::Slot(_))));
    let step = step.expect("a step that reads a slot");
    step.outs[0] = step.ins.iter().find(|p| matches!(p, Place::Slot(_))).expect("a slot").clone();
    assert!(check_places(&aliased).is_err());
    let mut overlapping = plan.clone();
    overlapping.slots[0].intervals = vec![(0, 3), (3, 4)];
    assert!(check_places(&overlapping).is_err());
    let mut early = plan;
    early.steps.rotate_left(1);
    assert!(check_places(&early).is_err());
}

/// What a session allocates for a training step is what the plans said, to the byte; computing blocks twice and splitting
/// the batch take less.
fn memory_of(session: impl Fn() -> Box<dyn Session>, caps: Caps) {
    let bytes = [(false, 1), (true, 1), (false, 2)].map(|(recompute, accumulate)| {
        let mut config = preset("nano").expect("a preset");
        (config.tokenizer_training.batch, config.training.batch) = (2, 4);
        (config.training.recompute, config.training.accumulate) = (recompute, accumulate);
        let (tokenizer, model) = all_plans(&config, &caps).expect("plans");
        let tokenizer = tokenizer.expect("a dVAE needs no teacher");
        let mut session = session();
        let before = session.allocated();
        session.add_store(&tokenizer.layout, &[PageKind::Param]).expect("the frozen tokenizer");
        let planned = tokenizer.layout.bytes() + model.total_bytes();
        let stepper = beit::train::Stepper::new(session, model).expect("the step loads");
        let allocated = stepper.session.allocated() - before;
        assert_eq!(allocated, planned, "bytes allocated (left) and planned (right)");
        planned
    });
    assert!(bytes[1] < bytes[0] && bytes[2] < bytes[0], "plain, recomputing, in two parts: {bytes:?} bytes");
}

#[test]
fn memory_is_allocated_as_planned() {
    memory_of(|| Box::new(CpuSession::<f32>::new()), Caps::cpu());
}

#[cfg(feature = "gpu")]
#[test]
fn memory_is_allocated_as_planned_on_the_adapter() {
    use beit::gpu::{Gpu, GpuSession, list_adapters};
    if list_adapters().is_empty() {
        eprintln!("NO GPU ADAPTER: the memory of its plans was not compared");
        return;
    }
    let name = std::env::var("BEIT_ADAPTER").ok();
    let gpu = Gpu::create(name.as_deref()).expect("an adapter that is listed opens");
    let caps = gpu.caps();
    memory_of(|| Box::new(GpuSession::new(gpu.clone())), caps);
}
