//! Classification as a training task: inputs of a step, initial values, evaluation (beit-spec §6).

use super::pretrain::MODEL;
use super::ranking::Ranking;
use crate::data::ClassBatch;
use crate::error::Result;
use crate::graph::{Graph, Init, PageKind, ParamLayout};
use crate::models::VitConfig;
use crate::models::classifier::{self, HeadSpec};
use crate::ops::{Caps, Hyper, Precision};
use crate::optim::{Cosine, Decay, Rates, Schedule};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session, Ticket};
use crate::train::{StepOptions, StepPlans, Stepper};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Recipe of fine-tuning (beit-spec §6.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClassifyRecipe {
    /// Updates.
    pub steps: u64,
    /// Images per update.
    pub batch: usize,
    /// Micro-batches that an update is split into.
    pub accumulate: usize,
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
    /// Peak learning rate of the head.
    pub lr: f64,
    /// Last learning rate of the head.
    pub min_lr: f64,
    /// Updates over which the learning rate rises.
    pub warmup: u64,
    /// Factor on the learning rate from one block to the one below it; 1 = the same for all.
    pub layer_decay: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of AdamW's moments.
    pub betas: (f64, f64),
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// Coefficient of the moving average of the weights, which is then what is measured and saved; 0 = none.
    pub ema: f64,
    /// Of activations and matrix products on a GPU.
    #[serde(default)]
    pub precision: Precision,
}

impl ClassifyRecipe {
    /// Learning rate at 0-based update `i`.
    pub fn lr_at(&self, i: u64) -> f64 {
        Cosine { peak: self.lr, min: self.min_lr, warmup: self.warmup, total: self.steps }.at(i)
    }
    /// Hyper-parameters of update `i`.
    pub fn hyper(&self, i: u64) -> Hyper {
        Hyper {
            lr: self.lr_at(i),
            weight_decay: self.weight_decay,
            betas: self.betas,
            eps: 1e-8,
            clip: self.clip,
            loss_scale: 1.0,
            // The average follows quickly at first, so that short runs do not end near the start.
            ema: self.ema.min((1.0 + i as f64) / (10.0 + i as f64)),
        }
    }
    /// Images per micro-batch.
    pub fn micro_batch(&self) -> usize {
        self.batch / self.accumulate
    }
    /// The pages that hold what is measured and saved.
    pub fn measured(&self) -> PageKind {
        if self.ema > 0.0 { PageKind::Ema } else { PageKind::Param }
    }
}

/// A classifier's network.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// The transformer.
    pub vit: VitConfig,
    /// Its head.
    pub head: HeadSpec,
}

impl Classifier {
    /// Compiles a training step.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plans(&self, recipe: &ClassifyRecipe, caps: &Caps) -> Result<StepPlans> {
        let mut g = Graph::new();
        let images = recipe.micro_batch();
        let out = classifier::classification(&mut g, &self.vit, self.head, images, true, recipe.recompute)?;
        let loss = classifier::loss(&mut g, out.logits)?;
        let options = StepOptions {
            ema: recipe.ema > 0.0,
            accumulate: recipe.accumulate,
            decay: Decay::Official,
            rates: Rates::Layers { decay: recipe.layer_decay, depth: self.vit.depth },
        };
        StepPlans::new("classification step", g, loss, MODEL, &[], caps, options)
    }
    /// Compiles the forward pass of `images` pictures: output `logits`.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn eval_plan(
        &self,
        images: usize,
        layout: &ParamLayout,
        caps: &Caps,
        from: PageKind,
    ) -> Result<Plan> {
        let mut g = Graph::new();
        classifier::classification(&mut g, &self.vit, self.head, images, false, false)?;
        let options = CompileOptions {
            read_from: BTreeMap::from([(MODEL.to_string(), from)]),
            ..CompileOptions::default()
        };
        compile("classification", &g, &[layout], caps, &options)
    }
    /// The layout of its parameters.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn layout(&self, page_bytes: u64) -> Result<ParamLayout> {
        let mut g = Graph::new();
        classifier::classification(&mut g, &self.vit, self.head, 1, false, false)?;
        ParamLayout::of(&g, MODEL, page_bytes)
    }
}

/// Initial values of a network that is trained on labels from scratch (beit-spec §2.8): as for pre-training, but
/// matrices are practically not cut off, and the patch projection is uniform in ±1/√fan-in.
pub fn initial(layout: &ParamLayout, seed: u64) -> Vec<Vec<f32>> {
    let mut pages: Vec<Vec<f32>> = layout.pages.iter().map(|&n| vec![0.0; n]).collect();
    let patch = layout.view("patch_embed.proj.weight").map(|v| v.shape[1..].iter().product::<usize>());
    let bound = 1.0 / (patch.unwrap_or(1) as f32).sqrt();
    for v in &layout.views {
        let values = if v.name.starts_with("patch_embed.proj.") {
            uniform(seed, &v.name, v.elements(), bound)
        } else {
            let init = match v.init {
                Init::TruncatedNormal { std, scale, .. } => Init::TruncatedNormal { std, bound: 2.0, scale },
                other => other,
            };
            init.values(seed, &v.name, v.elements())
        };
        pages[v.page][v.offset..v.offset + values.len()].copy_from_slice(&values);
    }
    pages
}

fn uniform(seed: u64, name: &str, n: usize, bound: f32) -> Vec<f32> {
    let word = name.bytes().fold(1u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    let key = Key::new(seed, Stream::Init, word);
    (0..n as u32).map(|i| bound * (2.0 * key.uniform(i) - 1.0)).collect()
}

/// Writes a batch and runs one update, split into micro-batches.
///
/// Returns the tickets of (`loss`, `accuracy`) of each micro-batch if `report` is set.
///
/// # Errors
/// If the device refuses.
pub fn step(
    stepper: &mut Stepper,
    vit: &VitConfig,
    recipe: &ClassifyRecipe,
    seed: u64,
    i: u64,
    batch: &ClassBatch,
    report: bool,
) -> Result<Vec<Ticket>> {
    let micro = recipe.micro_batch();
    let (image, targets) = (batch.image.len() / recipe.batch, batch.targets.len() / recipe.batch);
    let weights = vec![1.0 / recipe.batch as f32; micro];
    let mut tickets = Vec::new();
    for m in 0..recipe.accumulate {
        let (first, last) = (m * micro, (m + 1) * micro);
        stepper.write("image", Data::F32(&batch.image[first * image..last * image]))?;
        stepper.write("targets", Data::F32(&batch.targets[first * targets..last * targets]))?;
        stepper.write("weights", Data::F32(&weights))?;
        if vit.drop_path > 0.0 {
            let key = Key::new(seed, Stream::DropPath, i as u32).child(m as u32);
            stepper.write("drop_key", Data::U32(&key.0))?;
        }
        let last = m + 1 == recipe.accumulate;
        stepper.run_batch(last.then(|| recipe.hyper(i)).as_ref())?;
        if report {
            let plan = stepper.micro();
            tickets.push(stepper.session.fetch(plan, &["loss", "accuracy"])?);
        }
    }
    Ok(tickets)
}

/// Logits `[B,C]` of a batch of normalised pictures.
///
/// # Errors
/// If the device refuses.
pub fn logits(session: &mut dyn Session, plan: PlanId, image: &[f32]) -> Result<Vec<f32>> {
    session.write(plan, "image", Data::F32(image))?;
    session.run(plan)?;
    Ok(session.read(plan, "logits")?.f32())
}

/// Counts the first `pictures` of a batch of evaluation crops; those that replace an unreadable one are left out.
///
/// # Errors
/// If the device refuses.
pub fn measure(
    session: &mut dyn Session,
    plan: PlanId,
    batch: &ClassBatch,
    expected: std::ops::Range<usize>,
    ranking: &mut Ranking,
) -> Result<()> {
    let all = logits(session, plan, &batch.image)?;
    let classes = all.len() / batch.labels.len().max(1);
    for ((slot, index), want) in batch.samples.iter().enumerate().zip(expected) {
        if *index == want {
            ranking.add(&all[slot * classes..][..classes], batch.labels[slot]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;
    use crate::models::RelPos;
    use crate::ops::Pool;

    fn parameters(name: &str, side: usize, paper: bool, classes: usize) -> usize {
        let mut vit = preset(name).unwrap().model;
        vit.image = (side, side);
        vit.rel_pos = if paper { RelPos::None } else { RelPos::PerLayer };
        if paper {
            (vit.abs_pos, vit.layer_scale) = (true, 0.0);
        }
        let head = HeadSpec { pool: Pool::MeanPatches, classes, init_scale: 0.001 };
        Classifier { vit, head }.layout(1 << 30).unwrap().parameters()
    }

    /// The exact counts of beit-spec §2.9.
    #[test]
    fn published_parameter_counts() {
        assert_eq!(parameters("base", 224, false, 1000), 86_530_984);
        assert_eq!(parameters("base", 384, false, 1000), 86_744_104);
        assert_eq!(parameters("large", 224, false, 1000), 304_430_568);
        assert_eq!(parameters("base", 224, true, 1000), 86_558_440);
        assert_eq!(parameters("small", 224, false, 21_841), 30_056_113);
    }

    #[test]
    fn initial_values_follow_the_scheme() {
        let mut vit = preset("nano").unwrap().model;
        vit.rel_pos = RelPos::PerLayer;
        let head = HeadSpec { pool: Pool::MeanPatches, classes: 10, init_scale: 0.001 };
        let layout = Classifier { vit, head }.layout(1 << 30).unwrap();
        let pages = initial(&layout, 3);
        let values = |name: &str| {
            let v = layout.view(name).unwrap();
            pages[v.page][v.offset..v.offset + v.elements()].to_vec()
        };
        let std = |v: &[f32]| (v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32).sqrt();
        assert!((std(&values("blocks.0.mlp.fc1.weight")) / 0.02 - 1.0).abs() < 0.02);
        let fc2 = std(&values("blocks.1.mlp.fc2.weight"));
        assert!((fc2 / 0.01 - 1.0).abs() < 0.03, "divided by the root of 2·2: {fc2}");
        assert!((std(&values("head.weight")) / 2e-5 - 1.0).abs() < 0.1);
        let bound = 1.0 / 48f32.sqrt();
        let patch = values("patch_embed.proj.weight");
        assert!(patch.iter().all(|v| v.abs() <= bound) && patch.iter().any(|v| v.abs() > 0.95 * bound));
        assert!(values("patch_embed.proj.bias").iter().any(|v| *v != 0.0));
    }
}
