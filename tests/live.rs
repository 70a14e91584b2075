//! Training that somebody watches: the same updates whether a session submits at once or a share at a time, and a copy
//! on the host from which it goes on.
#![cfg(feature = "gpu")]

use beit::data::SyntheticSource;
use beit::gpu::{Gpu, GpuSession, list_adapters};
use beit::graph::PageKind;
use beit::models::{DvaeConfig, DvaeNetwork, RelPos, VitConfig};
use beit::session::Session;
use beit::train::{LiveFigures, LivePlans, LiveSettings, LiveTraining, Pair, State, Trained};
use std::sync::Arc;

/// A 4 × 4 grid of 4-pixel patches, 16 ids, random weights.
fn pair() -> Pair {
    let vit = VitConfig {
        image: (16, 16),
        patch: 4,
        width: 16,
        depth: 1,
        heads: 2,
        mlp: 32,
        vocab: 16,
        layer_norm_eps: 1e-6,
        abs_pos: false,
        rel_pos: RelPos::Shared,
        layer_scale: 0.1,
        drop_path: 0.0,
    };
    let dvae = DvaeConfig {
        n_hid: 4,
        n_init: 4,
        groups: 3,
        blocks: 1,
        pools: 2,
        vocab: 16,
        network: DvaeNetwork::Openai,
    };
    Pair::fresh(vit, dvae, 1 << 20, 3).expect("a small pair")
}

fn start(session: GpuSession, pair: &Pair, kind: Trained, from: Option<(u64, State)>) -> LiveTraining {
    let settings = LiveSettings { kind, fresh: true, steps: 4, batch: 4, seed: 1 };
    let source = Arc::new(SyntheticSource::new(0, 50, 24));
    let plans = LivePlans::new(pair, &settings, &session.caps()).expect("plans");
    LiveTraining::start(Box::new(session), pair, settings, plans, source, from).expect("it starts")
}

/// Updates until `steps` are done; shares of `work` where the session defers.
fn until(t: &mut LiveTraining, steps: u64, work: u64) -> Vec<LiveFigures> {
    let mut all = vec![];
    while t.step() < steps || t.under_way() {
        if let Some(gpu) = t.stepper.session.as_gpu() {
            gpu.advance(work).expect("the device works");
        }
        all.extend(t.advance().expect("an update"));
    }
    all
}

fn parameters(t: &LiveTraining) -> Vec<Vec<f32>> {
    t.snapshot.1.kind(PageKind::Param).expect("a copy with parameters").to_vec()
}

#[test]
fn a_share_at_a_time_gives_the_same_updates() {
    if list_adapters().is_empty() {
        eprintln!("NO GPU ADAPTER: live training was not tested");
        return;
    }
    let gpu = Gpu::create(std::env::var("BEIT_ADAPTER").ok().as_deref()).expect("an adapter opens");
    let pair = pair();
    for kind in [Trained::Tokenizer, Trained::Model] {
        let mut whole = start(GpuSession::new(gpu.clone()), &pair, kind, None);
        let figures = until(&mut whole, 4, 0);
        assert_eq!(figures.iter().map(|f| f.step).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(figures.iter().all(|f| f.loss.is_finite()), "{figures:?}");
        assert!(whole.done() && whole.snapshot.0 == 4);
        assert!(whole.advance().unwrap_err().to_string().contains("done"));

        let mut shared = start(GpuSession::deferred(gpu.clone()), &pair, kind, None);
        assert_eq!(until(&mut shared, 4, 100_000), figures, "{kind:?}");
        assert_eq!(parameters(&shared), parameters(&whole), "{kind:?}");
        assert_ne!(shared.trained(&pair), pair, "training changes the trained network");

        // Three updates, a copy (which cannot be had in the middle of one), a new session: the last comes out the same.
        let mut first = start(GpuSession::deferred(gpu.clone()), &pair, kind, None);
        until(&mut first, 2, u64::MAX);
        assert_eq!(first.advance().expect("an update begins"), None);
        assert!(first.copy().unwrap_err().to_string().contains("middle of an update"));
        until(&mut first, 3, u64::MAX);
        while !first.copy().expect("a copy") {
            first.stepper.session.as_gpu().expect("a GPU").advance(u64::MAX).expect("the device works");
        }
        let mut second = start(GpuSession::new(gpu.clone()), &pair, kind, Some(first.snapshot.clone()));
        let rest = until(&mut second, 4, 0);
        assert_eq!(rest.iter().map(|f| f.loss).collect::<Vec<_>>(), [figures[3].loss]);
        assert_eq!(parameters(&second), parameters(&whole), "{kind:?} after a copy");
    }
}
