//! The workloads that speed is compared on: fixed networks and shapes, random numbers, no files (docs/performance.md).

use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout, Var};
use crate::models::dvae::{DvaeConfig, DvaeNetwork, encoder};
use crate::models::mim::{MimBatchShape, MimOptions, on_tokens};
use crate::models::vit::{MATRIX, RelPos, VitConfig, VitInputs, backbone, dense, norm};
use crate::ops::{Caps, Hyper, gather_rows, matmul, softmax};
use crate::optim::{Decay, Rates};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, HostData, PlanId, Session};
use crate::tasks::pretrain::{MODEL, MaskedInputs};
use crate::train::{StepOptions, StepPlans, Stepper, page_bytes};
use std::sync::Arc;

/// Seed of all contents.
const SEED: u64 = 0;

/// One workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// `C[m,n] = A[m,k]·B[k,n]`.
    Matmul {
        /// Rows.
        m: usize,
        /// Inner size.
        k: usize,
        /// Columns.
        n: usize,
    },
    /// Training step of a 32-pixel, 64-wide network, 64 images.
    TMicro,
    /// Training step of ViT-Tiny at 224 pixels, 8 images.
    TTiny,
    /// Forward pass of ViT-Tiny on one image with the distribution of its 75 masked tokens.
    F,
    /// The same of the 32-pixel network.
    FMicro,
    /// The released tokenizer's encoder (256 wide) on one 112-pixel image.
    D,
}

/// Names that [`Workload::by_name`] knows.
pub const WORKLOADS: [&str; 6] = ["matmul", "t-micro", "t-tiny", "f", "f-micro", "d"];

impl Workload {
    /// The workloads of a name: one, or three products for `matmul`; none if the name is unknown.
    pub fn by_name(name: &str) -> Vec<Workload> {
        let product = |m, k, n| Workload::Matmul { m, k, n };
        match name {
            "matmul" => vec![product(512, 512, 512), product(1024, 1024, 1024), product(1576, 192, 576)],
            "t-micro" => vec![Workload::TMicro],
            "t-tiny" => vec![Workload::TTiny],
            "f" => vec![Workload::F],
            "f-micro" => vec![Workload::FMicro],
            "d" => vec![Workload::D],
            _ => vec![],
        }
    }
    /// Name with its sizes.
    pub fn label(self) -> String {
        match self {
            Workload::Matmul { m, k, n } => format!("matmul {m}x{k}x{n}"),
            Workload::TMicro => "t-micro".into(),
            Workload::TTiny => "t-tiny".into(),
            Workload::F => "f".into(),
            Workload::FMicro => "f-micro".into(),
            Workload::D => "d".into(),
        }
    }
    /// Images of one run (0 for a product).
    pub fn images(self) -> usize {
        match self {
            Workload::Matmul { .. } => 0,
            Workload::TMicro => 64,
            Workload::TTiny => 8,
            _ => 1,
        }
    }
    fn network(self) -> (VitConfig, usize) {
        match self {
            Workload::TMicro | Workload::FMicro => (network(32, 4, 64, 4, 4, 256), 26),
            _ => (network(224, 16, 192, 12, 3, 8192), 75),
        }
    }
    /// FLOPs of the matrix products and convolutions; a training step counts three times its forward pass.
    pub fn flops(self) -> u64 {
        match self {
            Workload::Matmul { m, k, n } => 2 * (m * k * n) as u64,
            Workload::D => 52_118_814_720,
            Workload::F | Workload::FMicro => forward_flops(self),
            Workload::TMicro | Workload::TTiny => 3 * self.images() as u64 * forward_flops(self),
        }
    }
    /// Compiles, allocates and fills everything; [`Prepared::submit`] then runs it.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn prepare(self, mut session: Box<dyn Session>) -> Result<Prepared> {
        let caps = session.caps();
        match self {
            Workload::TMicro | Workload::TTiny => self.prepare_step(session, &caps),
            _ => {
                let (graph, store) = self.forward_graph()?;
                let layout = ParamLayout::of(&graph, store, page_bytes(&caps))?;
                session.add_store(&layout, &[PageKind::Param])?;
                for (p, page) in layout.initial(SEED).iter().enumerate() {
                    session.write_page(store, PageKind::Param, p, page)?;
                }
                let plan = compile(&self.label(), &graph, &[&layout], &caps, &CompileOptions::default())?;
                let mut prepared = Prepared::forward(session, plan, layout.bytes(), self.inputs())?;
                if matches!(self, Workload::Matmul { .. }) {
                    // its operands are no pictures: they stay
                    prepared.write_inputs()?;
                    prepared.inputs.clear();
                }
                Ok(prepared)
            }
        }
    }
    /// A forward pass and the store of its parameters.
    fn forward_graph(self) -> Result<(Graph, &'static str)> {
        let mut g = Graph::new();
        match self {
            Workload::Matmul { m, k, n } => {
                let (a, b) = (g.input("a", &[m, k])?, g.input("b", &[k, n])?);
                let c = matmul(&mut g, a, b, false, false)?;
                g.output("c", c);
            }
            Workload::D => {
                let cfg = DvaeConfig {
                    network: DvaeNetwork::Openai,
                    n_hid: 256,
                    n_init: 128,
                    groups: 4,
                    blocks: 2,
                    pools: 3,
                    vocab: 8192,
                };
                let image = g.input("image", &[1, 112, 112, 3])?;
                let logits = encoder(&mut g, &cfg, image)?;
                g.output("logits", logits);
            }
            _ => {
                let (vit, masked) = self.network();
                let logits = masked_logits(&mut g, &vit, masked)?;
                let p = softmax(&mut g, logits)?;
                g.output("probabilities", p);
            }
        }
        Ok((g, MODEL))
    }
    fn prepare_step(self, session: Box<dyn Session>, caps: &Caps) -> Result<Prepared> {
        let (vit, masked) = self.network();
        let images = self.images();
        let mut g = Graph::new();
        let ids = g.input_words("ids", &[images, vit.patches()])?;
        let shape = MimBatchShape { images, masked: images * masked };
        let options = MimOptions { train: true, ..MimOptions::default() };
        let loss = on_tokens(&mut g, &vit, ids, shape, options)?.loss;
        let options = StepOptions { ema: false, accumulate: 1, decay: Decay::Official, rates: Rates::Equal };
        let plans = StepPlans::new(&self.label(), g, loss, MODEL, &[], caps, options)?;
        let hyper = Hyper {
            lr: 1e-3,
            weight_decay: 0.05,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: 3.0,
            loss_scale: 1.0,
            ema: 0.0,
        };
        Prepared::step(session, plans, hyper, SEED, self.inputs())
    }
    /// Contents of the inputs.
    fn inputs(self) -> Inputs {
        let key = Key::new(SEED, Stream::Test, 0);
        let normal = |n: usize, salt: u32| {
            let key = key.child(salt);
            (0..n as u32).map(|i| key.normal(i)).collect::<Vec<f32>>()
        };
        match self {
            Workload::Matmul { m, k, n } => {
                vec![("a", HostData::F32(normal(m * k, 0))), ("b", HostData::F32(normal(k * n, 1)))]
            }
            Workload::D => vec![("image", HostData::F32(normal(112 * 112 * 3, 2)))],
            _ => {
                let (vit, masked) = self.network();
                let (images, patches) = (self.images(), vit.patches());
                let side = vit.image.0;
                // The same number of masked patches in every image, spread evenly, shifted from image to image.
                let is_masked = |i: usize| (i % patches * masked + i / patches) % patches < masked;
                let mask: Vec<bool> = (0..images * patches).map(is_masked).collect();
                let masked = MaskedInputs::new(&mask, patches, images * masked, images * masked);
                let ids = (0..(images * patches) as u32).map(|i| key.words(i)[0] % vit.vocab as u32);
                let mut all = masked_inputs(masked);
                all.push(("image", HostData::F32(normal(images * side * side * 3, 3))));
                all.push(("ids", HostData::U32(ids.collect())));
                all
            }
        }
    }
}

/// Logits `[M,V]` of the masked patches of one image.
fn masked_logits(g: &mut Graph, vit: &VitConfig, masked: usize) -> Result<Var> {
    let image = g.input("image", &[1, vit.image.0, vit.image.1, 3])?;
    let mask = g.input_words("mask", &[1, vit.patches()])?;
    let trunk = backbone(g, vit, VitInputs { image, mask: Some(mask), drop_key: None }, false)?;
    let rows = g.input_words("masked_rows", &[masked])?;
    let inverse = g.input_words("masked_inverse", &[vit.tokens()])?;
    let normed = norm(g, "norm", trunk.last(), vit.layer_norm_eps)?;
    let picked = gather_rows(g, normed, rows, inverse)?;
    dense(g, "lm_head", picked, vit.vocab, MATRIX)
}

fn network(side: usize, patch: usize, width: usize, depth: usize, heads: usize, vocab: usize) -> VitConfig {
    VitConfig {
        image: (side, side),
        patch,
        width,
        depth,
        heads,
        mlp: 4 * width,
        vocab,
        layer_norm_eps: 1e-6,
        abs_pos: false,
        rel_pos: RelPos::Shared,
        layer_scale: 0.1,
        drop_path: 0.0,
    }
}

/// FLOPs of one image's forward pass (beit-spec §11.1).
fn forward_flops(w: Workload) -> u64 {
    let (v, masked) = w.network();
    let (n, d) = (v.tokens(), v.width);
    let block = n * (4 * d * d + 2 * d * v.mlp) + 2 * n * n * d;
    let macs = v.patches() * v.patch * v.patch * 3 * d + v.depth * block + masked * d * v.vocab;
    2 * macs as u64
}

/// Contents of inputs by name.
pub type Inputs = Vec<(&'static str, HostData)>;

/// The inputs of a mask.
pub fn masked_inputs(masked: MaskedInputs) -> Inputs {
    vec![
        ("mask", HostData::U32(masked.mask)),
        ("masked_rows", HostData::U32(masked.rows)),
        ("masked_inverse", HostData::U32(masked.inverse)),
        ("masked_patches", HostData::U32(masked.patches)),
        ("weights", HostData::F32(masked.weights)),
    ]
}

/// A workload that is ready to run.
pub struct Prepared {
    runner: Runner,
    inputs: Inputs,
    plans: Vec<Arc<Plan>>,
    /// Bytes that the plans say will be allocated.
    pub planned_bytes: u64,
}

enum Runner {
    Step(Stepper, Hyper),
    Forward(Box<dyn Session>, PlanId),
}

impl Prepared {
    /// A training step under fixed hyper-parameters, from the initial state of a seed; `inputs` may hold more than it has.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn step(
        session: Box<dyn Session>,
        plans: StepPlans,
        hyper: Hyper,
        seed: u64,
        inputs: Inputs,
    ) -> Result<Prepared> {
        let planned_bytes = plans.total_bytes();
        let all = vec![Arc::new(plans.micro.clone()), Arc::new(plans.update.clone())];
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(seed)?;
        let inputs = of_plan(inputs, &all[0]);
        Ok(Prepared { runner: Runner::Step(stepper, hyper), inputs, plans: all, planned_bytes })
    }
    fn forward(
        mut session: Box<dyn Session>,
        plan: Plan,
        parameters: u64,
        inputs: Inputs,
    ) -> Result<Prepared> {
        let memory = plan.memory();
        let planned_bytes = parameters + memory.slots + memory.inputs + memory.uniforms;
        let plan = Arc::new(plan);
        let id = session.load(plan.clone())?;
        let inputs = of_plan(inputs, &plan);
        Ok(Prepared { runner: Runner::Forward(session, id), inputs, plans: vec![plan], planned_bytes })
    }
    /// Writes the inputs and starts one run. On a GPU this returns when the work is submitted; [`Session::finish`] waits
    /// for it.
    ///
    /// # Errors
    /// If the device was lost.
    pub fn submit(&mut self) -> Result<()> {
        self.write_inputs()?;
        match &mut self.runner {
            Runner::Step(stepper, hyper) => stepper.run_batch(Some(hyper)),
            Runner::Forward(session, id) => session.run(*id),
        }
    }
    fn write_inputs(&mut self) -> Result<()> {
        let id = self.plan_id();
        let Prepared { runner, inputs, .. } = self;
        let session = match runner {
            Runner::Step(stepper, _) => stepper.session.as_mut(),
            Runner::Forward(session, _) => session.as_mut(),
        };
        for (name, values) in inputs {
            let data = match values {
                HostData::F32(v) => Data::F32(v),
                HostData::U32(v) => Data::U32(v),
            };
            session.write(id, name, data)?;
        }
        Ok(())
    }
    /// The session it runs on.
    pub fn session(&mut self) -> &mut dyn Session {
        match &mut self.runner {
            Runner::Step(stepper, _) => stepper.session.as_mut(),
            Runner::Forward(session, _) => session.as_mut(),
        }
    }
    /// The forward plan, or the forward and backward one of a step.
    pub fn plan_id(&self) -> PlanId {
        match &self.runner {
            Runner::Step(stepper, _) => stepper.micro(),
            Runner::Forward(_, id) => *id,
        }
    }
    /// The plans of one run; the first is that of [`Prepared::plan_id`].
    pub fn plans(&self) -> &[Arc<Plan>] {
        &self.plans
    }
    /// WGSL dispatches of one run.
    pub fn dispatches(&self) -> usize {
        self.plans.iter().flat_map(|p| &p.steps).map(|s| s.calls.len()).sum()
    }
}

/// Those that a plan has.
fn of_plan(inputs: Inputs, plan: &Plan) -> Inputs {
    inputs.into_iter().filter(|(name, _)| plan.inputs.iter().any(|p| p.name == *name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuSession;

    /// The figures of docs/performance.md.
    #[test]
    fn work_is_what_is_published() {
        let gflop = |name: &str| Workload::by_name(name)[0].flops() as f64 / 1e9;
        for (name, want) in
            [("t-micro", 5.98), ("t-tiny", 65.8), ("f", 2.74), ("f-micro", 0.031), ("d", 52.1)]
        {
            assert!((gflop(name) / want - 1.0).abs() < 0.01, "{name}: {}", gflop(name));
        }
        let (graph, _) = Workload::D.forward_graph().unwrap();
        let layout = ParamLayout::of(&graph, MODEL, 1 << 30).unwrap();
        let plan = compile("d", &graph, &[&layout], &Caps::cpu(), &CompileOptions::default()).unwrap();
        let products = plan.steps.iter().filter(|s| ["conv2d", "matmul"].contains(&s.op.name()));
        assert_eq!(products.map(|s| s.cost.flops).sum::<u64>(), Workload::D.flops());
    }

    #[test]
    fn small_ones_run() {
        let mut p = Workload::FMicro.prepare(Box::new(CpuSession::<f32>::new())).unwrap();
        p.submit().unwrap();
        let id = p.plan_id();
        let rows = p.session().read(id, "probabilities").unwrap().f32();
        assert_eq!(rows.len(), 26 * 256);
        assert!(rows.chunks(256).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
        assert_eq!(p.session().allocated(), p.planned_bytes);
    }
}
