//! Training that somebody watches: the same updates whether a session submits at once or a share at a time, and a copy
//! on the host from which it goes on.
#![cfg(feature = "gpu")]

use beit::cpu::CpuSession;
use beit::data::{Picture, SyntheticSource};
use beit::gpu::{Gpu, GpuSession, list_adapters};
use beit::graph::PageKind;
use beit::models::{DvaeConfig, DvaeNetwork, RelPos, TokenizerModel, VitConfig, VqKdConfig};
use beit::ops::Caps;
use beit::session::Session;
use beit::tasks::reconstruct::Viewer;
use beit::train::{LiveFigures, LivePlans, LiveSettings, LiveTraining, Pair, PairFiles, State, Trained};
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

/// A tab or a window reads a VQ-KD tokenizer, shows its ids by their mean patches, trains the transformer on them, and
/// says why it cannot train the tokenizer; one without mean patches is refused where it would have to be shown.
#[test]
fn a_distilled_tokenizer_is_shown_but_not_trained_live() {
    let vit = pair().vit;
    let sizes = VqKdConfig { mean_patches: true, ..VqKdConfig::like(&vit) };
    let made = Pair::fresh(vit.clone(), sizes.clone(), 1 << 20, 3).expect("a small pair");
    let files = made.files().expect("files");
    let file = |name: &str| files.iter().find(|f| f.0 == name).expect("a file").1.as_slice();
    let read = PairFiles {
        model: file("model.safetensors"),
        config: file("config.json"),
        tokenizer: file("tokenizer.safetensors"),
        sizes: file("tokenizer.json"),
    };
    let pair = Pair::read(&read, 1 << 20).expect("its own files");
    assert!(pair.dvae == TokenizerModel::from(sizes.clone()) && pair.tokenizer_pages == made.tokenizer_pages);
    let mut session = CpuSession::<f32>::new();
    let models = pair.viewed(PageKind::Param);
    let viewer =
        Viewer::open(&mut session, &models, &pair.model_pages, &pair.tokenizer_pages).expect("plans");
    let mut mask = vec![false; 16];
    mask[5] = true;
    let picture = Picture::flat(30, 20, [200, 30, 90]);
    let found = viewer.look(&mut session, viewer.request(&picture, mask)).expect("a look");
    // Nothing was learned: the mean of no patches is mid-grey.
    assert!(found.shown.ceiling.rgb.iter().all(|&v| v == 128), "{:?}", &found.shown.ceiling.rgb[..3]);
    let live = |kind| {
        LivePlans::new(&pair, &LiveSettings { kind, fresh: true, steps: 4, batch: 4, seed: 1 }, &Caps::cpu())
    };
    assert!(live(Trained::Model).is_ok());
    let message = live(Trained::Tokenizer).err().expect("no teacher here").to_string();
    assert!(message.contains("VQ-KD") && message.contains("--teacher"), "{message}");
    let blind = VqKdConfig { mean_patches: false, ..sizes };
    let blind = Pair::fresh(vit, blind, 1 << 20, 3).expect("a small pair");
    let mut session = CpuSession::<f32>::new();
    let refused = Viewer::open(
        &mut session,
        &blind.viewed(PageKind::Param),
        &blind.model_pages,
        &blind.tokenizer_pages,
    );
    assert!(refused.unwrap_err().to_string().contains("cannot draw pictures"));
}

/// What a tokenizer's figures call the distance of its pictures is what its network's loss is made of.
#[test]
fn figures_name_the_loss_of_the_network() {
    let small = pair();
    for network in [DvaeNetwork::Openai, DvaeNetwork::Custom] {
        let dvae = small.dvae.dvae().expect("a dVAE").in_network(network);
        let pair = Pair::fresh(small.vit.clone(), dvae, 1 << 20, 3).expect("a small pair");
        let settings = LiveSettings { kind: Trained::Tokenizer, fresh: true, steps: 10, batch: 4, seed: 1 };
        let plans = LivePlans::new(&pair, &settings, &Caps::cpu()).expect("plans");
        let (session, source) = (CpuSession::<f32>::new(), Arc::new(SyntheticSource::new(0, 50, 24)));
        let mut live =
            LiveTraining::start(Box::new(session), &pair, settings, plans, source, None).expect("it starts");
        let f = until(&mut live, 1, 0)[0];
        let squared = network == DvaeNetwork::Custom;
        assert_eq!((f.nll.is_some(), f.mse.is_some(), f.kl.is_some()), (!squared, squared, true), "{f:?}");
        // β is 0 in the first update
        assert_eq!(f.nll.or(f.mse), Some(f.loss));
    }
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
