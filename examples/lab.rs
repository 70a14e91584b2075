use beit::cpu::CpuSession;
use beit::data::*;
use beit::graph::PageKind;
use beit::models::*;
use beit::session::*;
use beit::tasks::{pretrain, pretrain::*, tokenizer, tokenizer::*};
use beit::train::*;
use std::sync::Arc;
use std::time::Instant;
fn env<T: std::str::FromStr>(k: &str, d: T) -> T {
    std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d)
}
fn main() {
    let seed = 0u64;
    let cfg = DvaeConfig {
        n_hid: env("NHID", 32),
        n_init: env("NINIT", 16),
        groups: 3,
        blocks: 1,
        pools: 2,
        vocab: env("V", 256),
    };
    let r = TokenizerRecipe {
        steps: env("TSTEPS", 800),
        batch: env("TB", 16),
        lr: env("TLR", 6e-3),
        min_lr: env("TMIN", 6e-4),
        warmup: 0.05,
        beta: env("BETA", 1.0),
        beta_rise: env("BRISE", 0.2),
        tau: env("TAU", 0.0625),
        tau_fall: env("TFALL", 0.8),
        weight_decay: 1e-4,
        ema: env("EMA", 0.995),
        clip: env("TCLIP", 0.0),
    };
    let src = beit::data::open("synthetic", seed).unwrap().source;
    let (train, val) = split(src, 0.05, seed).unwrap();
    let aug = Augment { jitter: env("JIT", 0.4), min_scale: env("MINSCALE", 0.3), ..Augment::default() };
    let views =
        Views { patch_side: 32, token_side: 32, augment: Some(aug), normalization: Normalization::HALF };
    let bad = Arc::new(BadSamples::new(0.1));
    let mut s: Box<dyn Session> = Box::new(CpuSession::<f32>::new());
    let caps = s.caps();
    let plans = tokenizer::plans(&cfg, (32, 32), r.batch, &caps).unwrap();
    println!(
        "tokenizer params {} flops/step {:.2} GF mem {:?}",
        plans.layout.parameters(),
        plans.micro.cost().flops as f64 / 1e9,
        plans.micro.memory()
    );
    let layout = plans.layout.clone();
    let kinds = plans.kinds.clone();
    let mut st = Stepper::new(s, plans).unwrap();
    st.restore(&State::initial(&layout, &kinds, seed)).unwrap();
    let tb = Arc::new(
        TokenBatches::new(
            Samples::shuffled(train.clone(), seed, bad.clone()).unwrap(),
            r.batch,
            views.clone(),
        )
        .unwrap(),
    );
    let tb2 = tb.clone();
    let mut ld = Loader::new(LoaderOptions::new(1, 0, r.steps), Arc::new(move |i| tb2.make(i))).unwrap();
    let ev = TokenBatches::new(
        Samples::in_order(val.clone(), seed, bad.clone()).unwrap(),
        50,
        Views { augment: None, ..views.clone() },
    )
    .unwrap();
    let evb: Vec<Vec<f32>> = (0..8).map(|i| ev.make(i).unwrap().token_view).collect();
    let rt = round_trip_plan(&cfg, &layout, (32, 32), 50, &caps, PageKind::Ema).unwrap();
    let rt = load(st.session.as_mut(), rt).unwrap();
    let t0 = Instant::now();
    for i in 0..r.steps {
        let b = ld.next().unwrap().unwrap().unwrap();
        tokenizer::step(&mut st, &cfg, &r, seed, i, &b).unwrap();
        if i % 100 == 99 || i == 20 {
            let m = st.micro();
            let rd = |st: &mut Stepper, n: &str| st.session.read(m, n).unwrap().f32()[0];
            let (l, n, k) = (rd(&mut st, "loss"), rd(&mut st, "nll"), rd(&mut st, "kl"));
            let q = measure(st.session.as_mut(), rt, &cfg, (32, 32), &evb[..2]).unwrap();
            println!(
                "{i} {:.1}s wait {:.1} loss {l:.4} nll {n:.4} kl {k:.3} | mae {:.4} flat {:.4} perp {:.1} used {}",
                t0.elapsed().as_secs_f64(),
                ld.waited().as_secs_f64(),
                q.mae,
                q.flat_mae,
                q.codebook.perplexity(),
                q.codebook.used()
            );
        }
    }
    let q = measure(st.session.as_mut(), rt, &cfg, (32, 32), &evb).unwrap();
    println!(
        "TOK mae {:.4} flat {:.4} perp {:.1} used {} entropy {:.3} time {:.1}",
        q.mae,
        q.flat_mae,
        q.codebook.perplexity(),
        q.codebook.used(),
        q.codebook.entropy(),
        t0.elapsed().as_secs_f64()
    );
    let state = st.state().unwrap();
    // mim
    let vit = VitConfig {
        image: (32, 32),
        patch: 4,
        width: env("W", 64),
        depth: env("DEPTH", 4),
        heads: env("H", 2),
        mlp: 4 * env("W", 64usize),
        vocab: cfg.vocab,
        layer_norm_eps: 1e-6,
        abs_pos: false,
        rel_pos: RelPos::Shared,
        layer_scale: 0.1,
        drop_path: env("DP", 0.0),
    };
    let pr = PretrainRecipe {
        steps: env("STEPS", 400),
        batch: env("B", 64),
        accumulate: 1,
        recompute: false,
        lr: env("LR", 3e-3),
        min_lr: 1e-5,
        warmup: env("WARM", 40),
        weight_decay: 0.05,
        betas: (0.9, env("B2", 0.98)),
        clip: 3.0,
    };
    let model = MimModel { vit: vit.clone(), tokenizer: cfg.clone(), mask_slots: 25 };
    let mut s: Box<dyn Session> = Box::new(CpuSession::<f32>::new());
    s.add_store(&layout, &[PageKind::Param]).unwrap();
    for (p, d) in state.kind(PageKind::Ema).unwrap().iter().enumerate() {
        s.write_page("tokenizer", PageKind::Param, p, d).unwrap();
    }
    let plans = model.plans(&pr, &layout, &caps).unwrap();
    println!(
        "vit params {} flops/step {:.2} GF mem {:?}",
        plans.layout.parameters(),
        plans.micro.cost().flops as f64 / 1e9,
        plans.micro.memory()
    );
    let (ml, mk) = (plans.layout.clone(), plans.kinds.clone());
    let mut st = Stepper::new(s, plans).unwrap();
    st.restore(&State::initial(&ml, &mk, seed)).unwrap();
    let mask = MaskSpec::blockwise(8, 8, 25, 4);
    let mb = Arc::new(
        MimBatches::new(
            Samples::shuffled(train, seed, bad.clone()).unwrap(),
            pr.batch,
            views.clone(),
            mask.clone(),
        )
        .unwrap(),
    );
    let mb2 = mb.clone();
    let mut ld = Loader::new(LoaderOptions::new(1, 0, pr.steps), Arc::new(move |i| mb2.make(i))).unwrap();
    let ev = MimBatches::new(
        Samples::in_order(val, seed, bad.clone()).unwrap(),
        50,
        Views { augment: None, ..views.clone() },
        mask,
    )
    .unwrap();
    let evb: Vec<MimBatch> = (0..10).map(|i| ev.make(i).unwrap()).collect();
    let ep = load(st.session.as_mut(), model.eval_plan(50, &ml, &layout, &caps).unwrap()).unwrap();
    let t0 = Instant::now();
    let mut tstats = TokenStatistics::new(64, cfg.vocab);
    for i in 0..pr.steps {
        let b = ld.next().unwrap().unwrap().unwrap();
        let tk = pretrain::step(&mut st, &model, &pr, seed, i, &b, true).unwrap();
        let r = st.session.take(tk[0], true).unwrap().unwrap();
        tstats.add(&r[2].clone().u32());
        if i % 100 == 99 || i == 0 || i == 20 {
            let mut ts = TokenStatistics::new(64, cfg.vocab);
            let e = evaluate(st.session.as_mut(), ep, &model, &evb, &mut ts).unwrap();
            println!(
                "{i} {:.1}s wait {:.1} loss {:.3} acc {:.3} | val {:.3} acc {:.3} uni {:.3} pos {:.3} (val uni {:.3} pos {:.3}) common {:.3}",
                t0.elapsed().as_secs_f64(),
                ld.waited().as_secs_f64(),
                r[0].clone().f32()[0],
                r[1].clone().f32()[0],
                e.loss,
                e.accuracy,
                tstats.codebook().entropy(),
                tstats.position_entropy(),
                ts.codebook().entropy(),
                ts.position_entropy(),
                ts.codebook().commonest()
            );
        }
    }
}
