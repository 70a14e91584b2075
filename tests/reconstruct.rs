//! The reconstruction viewer: its figures are those of training, its pictures are made of what it says, it never waits
//! unless told to, and what cannot work is refused with a message.

use beit::cpu::CpuSession;
use beit::data::{Normalization, Picture, to_dvae_nhwc, to_f32_nhwc};
use beit::graph::{Graph, PageKind, ParamLayout};
use beit::models::mim::{self, MimBatchShape, MimOptions, TOKENIZER};
use beit::models::{DvaeConfig, DvaeNetwork, RelPos, TokenizerModel, VitConfig};
use beit::ops::Caps;
use beit::plan::Plan;
use beit::session::{Data, HostData, PlanId, Session, Ticket};
use beit::tasks::pretrain::{MODEL, MaskedInputs, MimModel};
use beit::tasks::reconstruct::{Sampling, ViewedModels, Viewer, ViewerPlans};
use std::sync::Arc;

struct Models {
    vit: VitConfig,
    dvae: TokenizerModel,
    layout: ParamLayout,
    tokenizer: ParamLayout,
}

impl Models {
    /// A 4 × 4 grid of 8-pixel patches, cells of 4 pixels, 24 ids.
    fn new() -> Models {
        let vit = VitConfig {
            image: (32, 32),
            patch: 8,
            width: 16,
            depth: 2,
            heads: 2,
            mlp: 32,
            vocab: 24,
            layer_norm_eps: 1e-6,
            abs_pos: false,
            rel_pos: RelPos::Shared,
            layer_scale: 0.1,
            drop_path: 0.0,
        };
        let dvae: TokenizerModel = DvaeConfig {
            network: DvaeNetwork::Openai,
            n_hid: 4,
            n_init: 4,
            groups: 3,
            blocks: 1,
            pools: 2,
            vocab: 24,
        }
        .into();
        let mut g = Graph::new();
        let shape = MimBatchShape { images: 1, masked: 16 };
        mim::pretraining(&mut g, &vit, &dvae, shape, MimOptions::default()).unwrap();
        let layout = ParamLayout::of(&g, MODEL, 1 << 20).unwrap();
        let mut g = Graph::new();
        g.in_store(TOKENIZER, |g| dvae.whole(g)).unwrap();
        let tokenizer = ParamLayout::of(&g, TOKENIZER, 1 << 20).unwrap();
        Models { vit, dvae, layout, tokenizer }
    }
    fn viewed(&self) -> ViewedModels<'_> {
        ViewedModels {
            vit: &self.vit,
            layout: &self.layout,
            normalization: Normalization::HALF,
            tokenizer: &self.dvae,
            tokenizer_layout: &self.tokenizer,
            tokenizer_pages: PageKind::Param,
        }
    }
    /// Random parameters large enough that predictions differ from patch to patch.
    fn pages(&self) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
        let mut model = self.layout.initial(3);
        model.iter_mut().flatten().for_each(|v| *v *= 12.0);
        (model, self.tokenizer.initial(4))
    }
    fn viewer(&self, session: &mut dyn Session) -> Viewer {
        let (model, tokenizer) = self.pages();
        Viewer::open(session, &self.viewed(), &model, &tokenizer).unwrap()
    }
}

fn picture(width: usize, height: usize) -> Picture {
    let value = |i: usize| ((i % width) * 5 + (i / width) * 3 + (i * i) % 31) as u8;
    let rgb = (0..width * height).flat_map(|i| [value(i), value(i + 9), value(i * 2)]).collect();
    Picture { width, height, rgb }
}

fn mask() -> Vec<bool> {
    (0..16).map(|p| [1, 2, 5, 6, 11].contains(&p)).collect()
}

#[test]
fn figures_are_those_of_training() {
    let m = Models::new();
    let mut session = CpuSession::<f64>::poisoned();
    let viewer = m.viewer(&mut session);
    let request = viewer.request(&picture(50, 40), mask());
    let (patch_view, token_view) = (request.patch_view.clone(), request.token_view.clone());
    let found = viewer.look(&mut session, request).unwrap();

    let mim = MimModel { vit: m.vit.clone(), tokenizer: m.dvae.clone(), mask_slots: 16 };
    let plan = mim.eval_plan(1, &m.layout, &m.tokenizer, &Caps::cpu()).unwrap();
    let plan = session.load(Arc::new(plan)).unwrap();
    let inputs = MaskedInputs::new(&mask(), 16, 16, 5);
    let norm = Normalization::HALF;
    session.write(plan, "image", Data::F32(&to_f32_nhwc(&patch_view, norm.mean, norm.std))).unwrap();
    session.write(plan, "token_view", Data::F32(&to_dvae_nhwc(&token_view))).unwrap();
    inputs.write(&mut session, plan).unwrap();
    session.run(plan).unwrap();
    let mut number = |name: &str| f64::from(session.read(plan, name).unwrap().f32()[0]);
    let (loss, accuracy) = (number("loss"), number("accuracy"));
    assert!((found.figures.loss - loss).abs() < 1e-5 * loss, "{} and {loss}", found.figures.loss);
    assert!((found.figures.accuracy - accuracy).abs() < 1e-6);
    let ids = session.read(plan, "ids").unwrap().u32();
    assert_eq!(found.patches.iter().map(|p| p.true_id).collect::<Vec<_>>(), ids);
    let predicted = session.read(plan, "predicted").unwrap().u32();
    let ours: Vec<u32> = found.patches.iter().filter(|p| p.masked).map(|p| p.predicted()).collect();
    assert_eq!(ours, predicted[..5]);
    assert_eq!(found.figures.masked, 5);
}

#[test]
fn pictures_are_made_of_the_tokens() {
    let m = Models::new();
    let mut session = CpuSession::<f32>::poisoned();
    let viewer = m.viewer(&mut session);
    let mut request = viewer.request(&picture(32, 32), mask());
    request.sampling = Some(Sampling { temperature: 1.5, seed: 7 });
    request.rounds = 3;
    let found = viewer.look(&mut session, request.clone()).unwrap();
    let again = viewer.look(&mut session, request.clone()).unwrap();
    assert_eq!(found, again, "the same seed gives the same pictures");
    let shown = &found.shown;
    let pixel = |p: &Picture, i: usize| p.rgb[3 * i..3 * i + 3].to_vec();
    for i in 0..32 * 32 {
        let hidden = mask()[i / 32 / 8 * 4 + i % 32 / 8];
        let (original, corrupted) = (pixel(&shown.original, i), pixel(&shown.corrupted, i));
        assert_eq!(hidden, corrupted != original, "pixel {i}");
        let parts = [&shown.reconstructed, shown.sampled.as_ref().unwrap(), shown.iterated.as_ref().unwrap()];
        for part in parts {
            assert!(hidden || pixel(part, i) == original);
        }
        assert!(!hidden || pixel(&shown.reconstructed, i) == pixel(&shown.tokens_only, i));
    }
    let rounds: Vec<usize> = found.patches.iter().filter_map(|p| p.round).collect();
    assert_eq!(rounds.len(), 5);
    assert!((1..=3).all(|r| rounds.contains(&r)), "{rounds:?}");
    assert!(found.patches.iter().all(|p| p.masked == p.round.is_some() && p.masked == p.iterated.is_some()));
    // The first round takes the most certain patch.
    let surest = |first: bool| {
        let part = found.patches.iter().filter(|p| p.masked && (p.round == Some(1)) == first);
        part.map(|p| p.confidence()).fold(0.0f32, f32::max)
    };
    assert!(surest(true) >= surest(false));
    // A cold draw is the prediction.
    request.sampling = Some(Sampling { temperature: 1e-7, seed: 1 });
    let cold = viewer.look(&mut session, request).unwrap();
    assert!(cold.patches.iter().all(|p| p.sampled == Some(p.predicted())));
}

#[test]
fn attention_is_that_of_the_op() {
    let m = Models::new();
    let mut session = CpuSession::<f64>::new();
    let viewer = m.viewer(&mut session);
    let mut request = viewer.request(&picture(32, 32), mask());
    request.attention = true;
    let maps = viewer.look(&mut session, request.clone()).unwrap().attention.unwrap();
    assert_eq!((maps.layers, maps.heads, maps.tokens), (2, 2, 17));
    // The op's log-sum-exp and output follow from the maps: A·v of the first block must be what the network mixes.
    let mut g = Graph::new();
    let image = g.input("image", &[1, 32, 32, 3]).unwrap();
    let words = g.input_words("mask", &[1, 16]).unwrap();
    let inputs = beit::models::vit::VitInputs { image, mask: Some(words), drop_key: None };
    let trunk = beit::models::vit::backbone(&mut g, &m.vit, inputs, false).unwrap();
    let spec = beit::ops::AttentionSpec { heads: 2, grid: Some((4, 4)) };
    let mixed = beit::ops::attention(&mut g, trunk.qkv[1], trunk.tables[1], spec).unwrap();
    g.output("qkv", trunk.qkv[1]);
    g.output("mixed", mixed);
    let plan = beit::plan::compile("test", &g, &[&m.layout], &Caps::cpu(), &Default::default()).unwrap();
    let plan = session.load(Arc::new(plan)).unwrap();
    let norm = Normalization::HALF;
    session.write(plan, "image", Data::F32(&to_f32_nhwc(&request.patch_view, norm.mean, norm.std))).unwrap();
    let words: Vec<u32> = mask().iter().map(|&m| u32::from(m)).collect();
    session.write(plan, "mask", Data::U32(&words)).unwrap();
    session.run(plan).unwrap();
    let qkv = session.read(plan, "qkv").unwrap().f32();
    let mixed = session.read(plan, "mixed").unwrap().f32();
    for i in 0..17 {
        for d in 0..16 {
            let head = d / 8;
            let sum: f32 = (0..17).map(|j| maps.map(1, head)[i * 17 + j] * qkv[j * 48 + 32 + d]).sum();
            assert!((sum - mixed[i * 16 + d]).abs() < 1e-4 * (1.0 + sum.abs()), "token {i}, channel {d}");
        }
    }
    for row in maps.rollout().chunks(17) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

/// A session whose read-backs arrive only when asked for the third time, as on a busy GPU.
struct Lagging {
    inner: CpuSession<f32>,
    asked: std::collections::BTreeMap<Ticket, usize>,
}

impl Session for Lagging {
    fn device(&self) -> String {
        self.inner.device()
    }
    fn caps(&self) -> Caps {
        self.inner.caps()
    }
    fn add_store(&mut self, layout: &ParamLayout, kinds: &[PageKind]) -> beit::Result<()> {
        self.inner.add_store(layout, kinds)
    }
    fn write_page(&mut self, store: &str, kind: PageKind, page: usize, data: &[f32]) -> beit::Result<()> {
        self.inner.write_page(store, kind, page, data)
    }
    fn read_page(&mut self, store: &str, kind: PageKind, page: usize) -> beit::Result<Vec<f32>> {
        self.inner.read_page(store, kind, page)
    }
    fn fetch_page(&mut self, store: &str, kind: PageKind, page: usize) -> beit::Result<Ticket> {
        self.inner.fetch_page(store, kind, page)
    }
    fn load(&mut self, plan: Arc<Plan>) -> beit::Result<PlanId> {
        self.inner.load(plan)
    }
    fn write(&mut self, plan: PlanId, input: &str, data: Data<'_>) -> beit::Result<()> {
        self.inner.write(plan, input, data)
    }
    fn run(&mut self, plan: PlanId) -> beit::Result<()> {
        self.inner.run(plan)
    }
    fn fetch(&mut self, plan: PlanId, outputs: &[&str]) -> beit::Result<Ticket> {
        self.inner.fetch(plan, outputs)
    }
    fn take(&mut self, ticket: Ticket, wait: bool) -> beit::Result<Option<Vec<HostData>>> {
        assert!(!wait, "a job that was not told to wait waited");
        let asked = self.asked.entry(ticket).or_default();
        *asked += 1;
        if *asked < 3 { Ok(None) } else { self.inner.take(ticket, wait) }
    }
    fn allocated(&self) -> u64 {
        self.inner.allocated()
    }
    fn finish(&mut self) -> beit::Result<()> {
        self.inner.finish()
    }
}

#[test]
fn never_waits_unless_told_to() {
    let m = Models::new();
    let mut lagging = Lagging { inner: CpuSession::new(), asked: Default::default() };
    let viewer = m.viewer(&mut lagging);
    let mut request = viewer.request(&picture(32, 32), mask());
    request.rounds = 3;
    request.attention = true;
    let mut job = viewer.start(request.clone()).unwrap();
    let mut calls = 0;
    let found = loop {
        calls += 1;
        assert!(calls < 200);
        if let Some(found) = job.advance(&mut lagging, false).unwrap() {
            break found;
        }
    };
    assert!(calls > 15, "{calls}");
    assert!(job.advance(&mut lagging, false).is_err(), "given away already");
    let mut session = CpuSession::<f32>::new();
    let viewer = m.viewer(&mut session);
    assert_eq!(viewer.look(&mut session, request).unwrap(), found);
}

#[test]
fn what_cannot_work_is_refused() {
    let m = Models::new();
    let mut session = CpuSession::<f32>::new();
    let viewer = m.viewer(&mut session);
    let good = viewer.request(&picture(32, 32), mask());
    let refused = |change: &dyn Fn(&mut beit::tasks::reconstruct::Request)| {
        let mut request = good.clone();
        change(&mut request);
        viewer.start(request).unwrap_err().to_string()
    };
    assert!(refused(&|r| r.mask.truncate(9)).contains("4 x 4"));
    assert!(refused(&|r| r.mask.fill(false)).contains("hides nothing"));
    assert!(refused(&|r| r.patch_view = picture(16, 16)).contains("32 x 32"));
    assert!(refused(&|r| r.token_view = picture(32, 32)).contains("16 x 16"));
    assert!(refused(&|r| r.rounds = 0).contains("rounds"));
    assert!(refused(&|r| r.top = 0).contains("top"));
    let wild = Sampling { temperature: f32::NAN, seed: 0 };
    assert!(refused(&|r| r.sampling = Some(wild)).contains("temperature"));
    // More rounds than patches are as many as there are patches; a single pixel is a picture.
    let mut request = viewer.request(&picture(1, 1), mask());
    request.rounds = 50;
    assert!(
        viewer.look(&mut session, request).unwrap().patches.iter().all(|p| p.masked == p.round.is_some())
    );

    let mut other = m.dvae.clone();
    other.set_vocab(25);
    let wrong = ViewerPlans::new(&ViewedModels { tokenizer: &other, ..m.viewed() }, &Caps::cpu());
    let message = wrong.unwrap_err().to_string();
    assert!(message.contains("24 ids") && message.contains("25 ids"), "{message}");
    let mut g = Graph::new();
    let image = g.input("image", &[1, 32, 32, 3]).unwrap();
    let inputs = beit::models::vit::VitInputs { image, mask: None, drop_key: None };
    beit::models::vit::backbone(&mut g, &m.vit, inputs, false).unwrap();
    let unmasked = ParamLayout::of(&g, MODEL, 1 << 20).unwrap();
    let message = ViewerPlans::new(&ViewedModels { layout: &unmasked, ..m.viewed() }, &Caps::cpu());
    assert!(message.unwrap_err().to_string().contains("no mask token"));
}
