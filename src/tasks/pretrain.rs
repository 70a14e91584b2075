//! Masked image modelling as a training task: inputs of a step, evaluation, token statistics.

use super::token_statistics::TokenStatistics;
use crate::data::MimBatch;
use crate::error::Result;
use crate::graph::{Graph, ParamLayout};
use crate::models::mim::{self, MimBatchShape, MimOptions};
use crate::models::{TokenizerModel, VitConfig};
use crate::ops::{Caps, Hyper, Precision};
use crate::optim::{Cosine, Decay, Rates, Schedule};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session, Ticket};
use crate::train::{StepOptions, StepPlans, Stepper};
use serde::{Deserialize, Serialize};

/// Store of the transformer's parameters.
pub const MODEL: &str = "model";

/// Recipe of masked pre-training (beit-spec §5.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PretrainRecipe {
    /// Updates.
    pub steps: u64,
    /// Images per update.
    pub batch: usize,
    /// Micro-batches that an update is split into.
    pub accumulate: usize,
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
    /// Peak learning rate.
    pub lr: f64,
    /// Last learning rate.
    pub min_lr: f64,
    /// Updates over which the learning rate rises.
    pub warmup: u64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of AdamW's moments.
    pub betas: (f64, f64),
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// Of activations and matrix products on a GPU.
    #[serde(default)]
    pub precision: Precision,
}

impl PretrainRecipe {
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
            ema: 0.0,
        }
    }
    /// Images per micro-batch.
    pub fn micro_batch(&self) -> usize {
        self.batch / self.accumulate
    }
}

/// Networks and mask size, which fix the shapes of a step.
#[derive(Debug, Clone)]
pub struct MimModel {
    /// The transformer.
    pub vit: VitConfig,
    /// The frozen tokenizer.
    pub tokenizer: TokenizerModel,
    /// Most masked patches of one image.
    pub mask_slots: usize,
}

impl MimModel {
    fn shape(&self, images: usize) -> MimBatchShape {
        MimBatchShape { images, masked: images * self.mask_slots }
    }
    /// Compiles a training step.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plans(&self, recipe: &PretrainRecipe, tokenizer: &ParamLayout, caps: &Caps) -> Result<StepPlans> {
        let mut g = Graph::new();
        let options = MimOptions { recompute: recipe.recompute, train: true, ..MimOptions::default() };
        let shape = self.shape(recipe.micro_batch());
        let loss = mim::pretraining(&mut g, &self.vit, &self.tokenizer, shape, options)?;
        let options = StepOptions {
            ema: false,
            accumulate: recipe.accumulate,
            decay: Decay::Official,
            rates: Rates::Equal,
        };
        StepPlans::new("pretraining step", g, loss, MODEL, &[tokenizer], caps, options)
    }
    /// Compiles a training step on ids that the host writes (input `ids`): no tokenizer in the plan.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plans_on_ids(&self, recipe: &PretrainRecipe, caps: &Caps) -> Result<StepPlans> {
        let mut g = Graph::new();
        let options = MimOptions { recompute: recipe.recompute, train: true, ..MimOptions::default() };
        let (shape, grid) = (self.shape(recipe.micro_batch()), self.vit.grid());
        let ids = g.input_words("ids", &[shape.images, grid.0, grid.1])?;
        let loss = mim::on_tokens(&mut g, &self.vit, ids, shape, options)?.loss;
        let options = StepOptions {
            ema: false,
            accumulate: recipe.accumulate,
            decay: Decay::Official,
            rates: Rates::Equal,
        };
        StepPlans::new("pretraining step on cached ids", g, loss, MODEL, &[], caps, options)
    }
    /// Compiles an evaluation of `images` pictures on ids that the host writes, with predictions.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn eval_plan_on_ids(&self, images: usize, model: &ParamLayout, caps: &Caps) -> Result<Plan> {
        let mut g = Graph::new();
        let options = MimOptions { predictions: true, ..MimOptions::default() };
        let grid = self.vit.grid();
        let ids = g.input_words("ids", &[images, grid.0, grid.1])?;
        mim::on_tokens(&mut g, &self.vit, ids, self.shape(images), options)?;
        compile("evaluation on given ids", &g, &[model], caps, &CompileOptions::default())
    }
    /// Compiles an evaluation of `images` pictures, with predictions.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn eval_plan(
        &self,
        images: usize,
        model: &ParamLayout,
        tokenizer: &ParamLayout,
        caps: &Caps,
    ) -> Result<Plan> {
        let mut g = Graph::new();
        let options = MimOptions { predictions: true, ..MimOptions::default() };
        mim::pretraining(&mut g, &self.vit, &self.tokenizer, self.shape(images), options)?;
        compile("pretraining evaluation", &g, &[model, tokenizer], caps, &CompileOptions::default())
    }
}

/// The index inputs of a micro-batch, computed from its mask.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskedInputs {
    /// Mask as words `[B,n]`.
    pub mask: Vec<u32>,
    /// Rows of the token sequence that are predicted `[M]`.
    pub rows: Vec<u32>,
    /// 1 + slot of each row of the token sequence, or 0, `[B·N]`.
    pub inverse: Vec<u32>,
    /// Positions in `[B·n]`, `[M]`.
    pub patches: Vec<u32>,
    /// Loss weights `[M]`; unused slots carry 0.
    pub weights: Vec<f32>,
    /// Predicted patches.
    pub count: usize,
}

impl MaskedInputs {
    /// Indexes the masked patches of `mask[B·n]` in image-major, row-major order into `slots` slots; each counts
    /// `1/total` in the loss (`total` is the count over all micro-batches of the update).
    pub fn new(mask: &[bool], patches_per_image: usize, slots: usize, total: usize) -> Self {
        Self::predicting(mask, mask, patches_per_image, slots, total)
    }
    /// The same where the patches of the loss, `predicted[B·n]`, are not those that `mask[B·n]` hides.
    pub fn predicting(
        mask: &[bool],
        predicted: &[bool],
        patches_per_image: usize,
        slots: usize,
        total: usize,
    ) -> Self {
        let tokens = patches_per_image + 1;
        let images = mask.len() / patches_per_image;
        let mut out = MaskedInputs {
            mask: mask.iter().map(|&m| u32::from(m)).collect(),
            rows: vec![0; slots],
            inverse: vec![0; images * tokens],
            patches: vec![0; slots],
            weights: vec![0.0; slots],
            count: 0,
        };
        for p in (0..predicted.len()).filter(|&p| predicted[p]).take(slots) {
            let row = p / patches_per_image * tokens + p % patches_per_image + 1;
            out.rows[out.count] = row as u32;
            out.patches[out.count] = p as u32;
            out.weights[out.count] = 1.0 / total.max(1) as f32;
            out.count += 1;
            out.inverse[row] = out.count as u32;
        }
        out
    }
    /// Writes the inputs to a plan.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn write(&self, session: &mut dyn Session, plan: PlanId) -> Result<()> {
        session.write(plan, "masked_patches", Data::U32(&self.patches))?;
        self.write_rows(session, plan)
    }
    /// The same to a plan that takes its targets from elsewhere than from ids.
    ///
    /// # Errors
    /// As [`Session::write`].
    pub fn write_rows(&self, session: &mut dyn Session, plan: PlanId) -> Result<()> {
        session.write(plan, "mask", Data::U32(&self.mask))?;
        session.write(plan, "masked_rows", Data::U32(&self.rows))?;
        session.write(plan, "masked_inverse", Data::U32(&self.inverse))?;
        session.write(plan, "weights", Data::F32(&self.weights))
    }
}

/// Which update of a run, and whether its numbers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Seed of every random draw.
    pub seed: u64,
    /// 0-based number of the update.
    pub i: u64,
    /// Start reading its numbers.
    pub report: bool,
}

/// Writes a batch and runs one update, split into micro-batches.
///
/// Returns the tickets of (`loss`, `accuracy`, and `ids` unless the batch brings them) of each micro-batch if `report` is
/// set.
///
/// # Errors
/// If the device refuses.
pub fn step(
    stepper: &mut Stepper,
    model: &MimModel,
    recipe: &PretrainRecipe,
    turn: Turn,
    batch: &MimBatch,
) -> Result<Vec<Ticket>> {
    let (n, view) = (model.vit.patches(), batch.token_view.len() / recipe.batch);
    let outputs = ["loss", "accuracy", "ids"];
    let known = if batch.ids.is_empty() { 3 } else { 2 };
    masked_step(stepper, model, recipe, turn, batch, &outputs[..known], &mut |stepper, images, masked| {
        stepper.write("masked_patches", Data::U32(&masked.patches))?;
        match batch.ids.is_empty() {
            true => {
                let views = &batch.token_view[images.start * view..images.end * view];
                stepper.write("token_view", Data::F32(views))
            }
            false => stepper.write("ids", Data::U32(&batch.ids[images.start * n..images.end * n])),
        }
    })
}

/// Writes what the images of a micro-batch are to be predicted as.
pub type WriteTargets<'a> = dyn FnMut(&mut Stepper, std::ops::Range<usize>, &MaskedInputs) -> Result<()> + 'a;

/// One update of masked prediction, whatever is predicted; the tickets of `outputs` of each micro-batch.
///
/// # Errors
/// If the device refuses.
pub fn masked_step(
    stepper: &mut Stepper,
    model: &MimModel,
    recipe: &PretrainRecipe,
    turn: Turn,
    batch: &MimBatch,
    outputs: &[&str],
    targets: &mut WriteTargets<'_>,
) -> Result<Vec<Ticket>> {
    let (micro, n) = (recipe.micro_batch(), model.vit.patches());
    let total = batch.predicted.iter().filter(|&&m| m).count();
    let image = batch.patch_view.len() / recipe.batch;
    let mut tickets = Vec::new();
    for m in 0..recipe.accumulate {
        let images = m * micro..(m + 1) * micro;
        let part = images.start * n..images.end * n;
        let (mask, predicted) = (&batch.mask[part.clone()], &batch.predicted[part]);
        let masked = MaskedInputs::predicting(mask, predicted, n, micro * model.mask_slots, total);
        stepper.write("image", Data::F32(&batch.patch_view[images.start * image..images.end * image]))?;
        targets(stepper, images, &masked)?;
        let plan = stepper.micro();
        masked.write_rows(stepper.session.as_mut(), plan)?;
        if model.vit.drop_path > 0.0 {
            let key = Key::new(turn.seed, Stream::DropPath, turn.i as u32).child(m as u32);
            stepper.write("drop_key", Data::U32(&key.0))?;
        }
        let last = m + 1 == recipe.accumulate;
        stepper.run_batch(last.then(|| recipe.hyper(turn.i)).as_ref())?;
        if turn.report {
            tickets.push(stepper.session.fetch(plan, outputs)?);
        }
    }
    Ok(tickets)
}

/// Averages over held-out pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EvalResult {
    /// Mean masked-token loss in nats.
    pub loss: f64,
    /// Share of masked tokens predicted exactly.
    pub accuracy: f64,
    /// Masked tokens.
    pub tokens: usize,
}

/// Evaluates batches; every masked token counts the same. Token ids go to `statistics`.
///
/// # Errors
/// If the device refuses.
pub fn evaluate(
    session: &mut dyn Session,
    plan: PlanId,
    model: &MimModel,
    batches: &[MimBatch],
    statistics: &mut TokenStatistics,
) -> Result<EvalResult> {
    let mut sum = EvalResult::default();
    for batch in batches {
        let images = batch.samples.len();
        let total = batch.predicted.iter().filter(|&&m| m).count();
        let slots = images * model.mask_slots;
        let masked =
            MaskedInputs::predicting(&batch.mask, &batch.predicted, model.vit.patches(), slots, total);
        session.write(plan, "image", Data::F32(&batch.patch_view))?;
        session.write(plan, "token_view", Data::F32(&batch.token_view))?;
        masked.write(session, plan)?;
        session.run(plan)?;
        let ticket = session.fetch(plan, &["loss", "accuracy", "ids"])?;
        let mut read = session.take(ticket, true)?.unwrap_or_default().into_iter();
        let mut number =
            || f64::from(read.next().map(|d| d.f32()).and_then(|v| v.first().copied()).unwrap_or(f32::NAN));
        let (loss, accuracy) = (number(), number());
        sum.loss += loss * masked.count as f64;
        sum.accuracy += accuracy * masked.count as f64;
        sum.tokens += masked.count;
        statistics.add(&read.next().map(|d| d.u32()).unwrap_or_default());
    }
    let n = sum.tokens.max(1) as f64;
    Ok(EvalResult { loss: sum.loss / n, accuracy: sum.accuracy / n, tokens: sum.tokens })
}
