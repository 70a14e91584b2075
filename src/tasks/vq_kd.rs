//! Training a VQ-KD tokenizer (beit-spec §3.7): plans, the start of the codebook, one step.

use super::tokenizer::TokenizerRecipe;
use crate::config::wrong;
use crate::data::TokenBatch;
use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::models::mim::TOKENIZER;
use crate::models::vq_kd::{self, DistillationGraph, Learning, TeacherConfig, VqKdConfig};
use crate::ops::{Caps, Following};
use crate::optim::{Decay, Rates};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session};
use crate::train::{StepOptions, StepPlans, Stepper};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Store of the teacher's parameters.
pub const TEACHER: &str = "teacher";
/// The codebook's parameter.
const CODES: &str = "quantize.embedding.weight";
/// Draws of the start of the codebook, apart from those of updates.
const START: u32 = u32::MAX;

/// What the training of a VQ-KD tokenizer has beside the recipe of all tokenizers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DistillationRecipe {
    /// The teacher: a run folder, a checkpoint folder or a weights file of any known library.
    pub teacher: String,
    /// Weight of the commitment loss.
    pub commitment: f64,
    /// Share of a code that an update keeps.
    pub codebook_keep: f64,
    /// Average number of cells of a batch below which a code starts anew at a random cell; 0 = never, as published.
    pub restart_below: f64,
    /// Rounds of k-means on the first batch.
    pub kmeans_rounds: usize,
    /// Decay rates of AdamW's moments.
    pub betas: (f64, f64),
}

impl Default for DistillationRecipe {
    /// The published values, without a teacher.
    fn default() -> Self {
        DistillationRecipe {
            teacher: String::new(),
            commitment: 1.0,
            codebook_keep: 0.99,
            restart_below: 0.0,
            kmeans_rounds: 10,
            betas: (0.9, 0.99),
        }
    }
}

impl DistillationRecipe {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first setting that cannot work, by its name.
    pub fn check(&self) -> Result<()> {
        let shares =
            [("codebook-keep", self.codebook_keep), ("betas", self.betas.0), ("betas", self.betas.1)];
        for (key, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(wrong(key, "0 or more and less than 1", share));
            }
        }
        for (key, value) in [("commitment", self.commitment), ("restart-below", self.restart_below)] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(wrong(key, "0 or a number above", value));
            }
        }
        Ok(())
    }
}

impl TokenizerRecipe {
    /// Turns the recipe of a preset's dVAE into one for a VQ-KD tokenizer.
    pub fn distill(&mut self, preset: &str) {
        let mut own = DistillationRecipe::default();
        // Published: 5e-5 falling to 1e-5 after a tenth of the updates, with batches of 512.
        (self.lr, self.min_lr) = (5e-5, 1e-5);
        if ["nano", "micro"].contains(&preset) {
            // In runs of minutes the encoder moves fast: codes must follow it, and none may be left behind.
            (self.lr, self.min_lr) = (2e-3, 1e-4);
            (own.codebook_keep, own.restart_below) = (0.9, 0.1);
        }
        if preset == "nano" {
            self.steps = 600;
        }
        (self.warmup, self.weight_decay, self.ema, self.straight_through) = (0.1, 1e-4, 0.0, false);
        self.distillation = Some(own);
    }
}

/// A frozen teacher in a session: its sizes and the layout of its store.
#[derive(Debug, Clone)]
pub struct TeacherPlan<'a> {
    /// Sizes.
    pub config: &'a TeacherConfig,
    /// Layout of the store [`TEACHER`].
    pub layout: &'a ParamLayout,
}

/// The teacher's features `[B,h,w,T]` of the input `teacher_view[B,H,W,3]`, prepared as the teacher wants it.
fn target(g: &mut Graph, teacher: &TeacherConfig, images: usize) -> Result<crate::graph::Var> {
    let side = teacher.vit.image;
    let view = g.input("teacher_view", &[images, side.0, side.1, 3])?;
    g.in_store(TEACHER, |g| vq_kd::teacher_features(g, teacher, view))
}

fn outputs(g: &mut Graph, d: &DistillationGraph) {
    for (name, v) in
        [("loss", d.loss), ("distance", d.distance), ("commitment", d.commitment), ("ids", d.ids)]
    {
        g.output(name, v);
    }
}

fn mapped(g: &mut Graph, cfg: &VqKdConfig, images: usize) -> Result<crate::graph::Var> {
    g.input("image", &[images, cfg.image.0, cfg.image.1, 3])
}

/// Compiles a training step.
///
/// # Errors
/// If the sizes do not fit.
pub fn plans(
    cfg: &VqKdConfig,
    teacher: &TeacherPlan<'_>,
    (recipe, own): (&TokenizerRecipe, &DistillationRecipe),
    caps: &Caps,
) -> Result<StepPlans> {
    let mut g = Graph::new();
    let target = target(&mut g, teacher.config, recipe.batch)?;
    let loss = g.in_store(TOKENIZER, |g| {
        let image = mapped(g, cfg, recipe.batch)?;
        let key = g.input_words("code_key", &[4])?;
        let following = Following { keep: own.codebook_keep as f32, restart: own.restart_below as f32 };
        let how = Learning { commitment: own.commitment as f32, following, key };
        let drawn = vq_kd::training(g, cfg, image, target, how)?;
        outputs(g, &drawn);
        Ok(drawn.loss)
    })?;
    let options = StepOptions { ema: true, accumulate: 1, decay: Decay::Official, rates: Rates::Equal };
    StepPlans::new("tokenizer distillation", g, loss, TOKENIZER, &[teacher.layout], caps, options)
}

/// Compiles the losses of `images` held-out pictures on a kind of pages.
///
/// # Errors
/// If the sizes do not fit.
pub fn eval_plan(
    cfg: &VqKdConfig,
    teacher: &TeacherPlan<'_>,
    images: usize,
    layout: &ParamLayout,
    caps: &Caps,
    weights: PageKind,
) -> Result<Plan> {
    let mut g = Graph::new();
    let target = target(&mut g, teacher.config, images)?;
    g.in_store(TOKENIZER, |g| {
        let image = mapped(g, cfg, images)?;
        let drawn = vq_kd::distillation(g, cfg, image, target, 1.0)?;
        outputs(g, &drawn);
        Ok(())
    })?;
    let read_from = BTreeMap::from([(TOKENIZER.to_string(), weights)]);
    let options = CompileOptions { read_from, ..CompileOptions::default() };
    compile("held-out distillation", &g, &[layout, teacher.layout], caps, &options)
}

/// Writes a batch and runs one update.
///
/// # Errors
/// If the device refuses.
pub fn step(
    stepper: &mut Stepper,
    (recipe, own): (&TokenizerRecipe, &DistillationRecipe),
    seed: u64,
    i: u64,
    batch: &TokenBatch,
) -> Result<()> {
    stepper.write("image", Data::F32(&batch.token_view))?;
    stepper.write("teacher_view", Data::F32(&batch.patch_view))?;
    stepper.write("code_key", Data::U32(&Key::new(seed, Stream::Codes, i as u32).0))?;
    let hyper = crate::ops::Hyper { betas: own.betas, ..recipe.hyper(i) };
    stepper.run_batch(Some(&hyper))
}

/// The parameters `pages` with the codebook in place for the first update: cells of a batch of views as codes, then rounds of
/// cosine k-means. Works on a session of its own, which is given away.
///
/// # Errors
/// If the device refuses.
pub fn start_codebook(
    mut session: Box<dyn Session>,
    (layout, mut pages): (&ParamLayout, Vec<Vec<f32>>),
    cfg: &VqKdConfig,
    (rounds, seed): (usize, u64),
    views: &[f32],
) -> Result<Vec<Vec<f32>>> {
    let images = views.len() / (3 * cfg.image.0 * cfg.image.1);
    let caps = session.caps();
    session.add_store(layout, &[PageKind::Param])?;
    write_all(session.as_mut(), &pages)?;
    let plan = session.load(Arc::new(vectors_plan(cfg, images, layout, &caps)?))?;
    session.write(plan, "image", Data::F32(views))?;
    session.run(plan)?;
    let vectors = session.read(plan, "vectors")?.f32();
    let key = Key::new(seed, Stream::Codes, START);
    if let Some(view) = layout.view(CODES) {
        let codes = &mut pages[view.page][view.offset..view.offset + view.elements()];
        let chosen = first_codes(key, vectors.len() / cfg.code, cfg.vocab);
        for (code, row) in codes.chunks_exact_mut(cfg.code).zip(chosen) {
            code.copy_from_slice(&vectors[row * cfg.code..][..cfg.code]);
        }
    }
    write_all(session.as_mut(), &pages)?;
    let plan = k_means_plan(cfg, vectors.len() / cfg.code, layout, &caps)?;
    let plan = session.load(Arc::new(plan))?;
    run_k_means(session.as_mut(), plan, rounds, key, &vectors)?;
    (0..pages.len()).map(|page| session.read_page(TOKENIZER, PageKind::Param, page)).collect()
}

fn write_all(session: &mut dyn Session, pages: &[Vec<f32>]) -> Result<()> {
    let mut all = pages.iter().enumerate();
    all.try_for_each(|(page, values)| session.write_page(TOKENIZER, PageKind::Param, page, values))
}

fn run_k_means(
    session: &mut dyn Session,
    plan: PlanId,
    rounds: usize,
    key: Key,
    vectors: &[f32],
) -> Result<()> {
    session.write(plan, "vectors", Data::F32(vectors))?;
    session.write(plan, "code_key", Data::U32(&key.0))?;
    (0..rounds).try_for_each(|_| session.run(plan))
}

fn vectors_plan(cfg: &VqKdConfig, images: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let image = mapped(g, cfg, images)?;
        let vectors = vq_kd::vectors(g, cfg, image)?;
        g.output("vectors", vectors);
        Ok(())
    })?;
    compile("vectors of the first batch", &g, &[layout], caps, &CompileOptions::default())
}

fn k_means_plan(cfg: &VqKdConfig, rows: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let vectors = g.input("vectors", &[rows, cfg.code])?;
        let key = g.input_words("code_key", &[4])?;
        vq_kd::k_means_round(g, cfg, vectors, key)
    })?;
    compile("round of k-means", &g, &[layout], caps, &CompileOptions::default())
}

/// Rows that become the first codes: different ones if there are enough, else with repetitions.
fn first_codes(key: Key, rows: usize, codes: usize) -> Vec<usize> {
    if rows < codes {
        let mut draws = key.draws();
        return (0..codes).map(|_| draws.below(rows)).collect();
    }
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by_key(|&row| (key.words(row as u32)[0], row));
    order.truncate(codes);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_codes_differ_where_there_are_enough_rows() {
        let key = Key::new(3, Stream::Codes, START);
        let many: std::collections::BTreeSet<usize> = first_codes(key, 100, 40).into_iter().collect();
        assert!(many.len() == 40 && many.iter().all(|&r| r < 100));
        let few = first_codes(key, 3, 40);
        assert!(few.len() == 40 && few.iter().all(|&r| r < 3));
    }
}
