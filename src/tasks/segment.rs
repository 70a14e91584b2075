//! Fine-tuning for segmentation: recipe, plans, inputs of a step (beit-spec §7.5).

use crate::data::segment::SegmentBatch;
use crate::error::Result;
use crate::graph::{Graph, ParamLayout, Var};
use crate::models::VitConfig;
use crate::models::batch_norm::Statistics;
use crate::models::segmenter::{self, SegmentHead, SegmentLogits};
use crate::models::upernet::HeadMode;
use crate::models::vit::{VitInputs, backbone};
use crate::ops::{Caps, Hyper, Over, Precision, scale};
use crate::optim::{Decay, Rates};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, Ticket};
use crate::train::{StepOptions, StepPlans, Stepper};
use serde::{Deserialize, Serialize};

/// Store of the parameters.
pub const MODEL: &str = "model";

/// Recipe of fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentRecipe {
    /// Updates.
    pub steps: u64,
    /// Crops per update.
    pub batch: usize,
    /// Micro-batches that an update is split into; batch norm sees one at a time.
    pub accumulate: usize,
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
    /// Learning rate that the decay starts from.
    pub lr: f64,
    /// Updates over which the learning rate rises.
    pub warmup: u64,
    /// Share of the learning rate in the first update.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay rates of AdamW's moments.
    pub betas: (f64, f64),
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// Factor of the learning rate from one block to the one below it.
    pub layer_decay: f64,
    /// Divide the loss by all pixels, ignored ones included, as mmsegmentation does.
    pub over_all_pixels: bool,
    /// Of activations and matrix products on a GPU.
    #[serde(default)]
    pub precision: Precision,
}

impl SegmentRecipe {
    /// Learning rate at 0-based update `i`: linear decay to 0, and a linear rise in front of it (beit-spec §7.5).
    pub fn lr_at(&self, i: u64) -> f64 {
        let decayed = self.lr * (1.0 - i.min(self.steps) as f64 / self.steps.max(1) as f64);
        if i >= self.warmup {
            return decayed;
        }
        decayed * (1.0 - (1.0 - i as f64 / self.warmup as f64) * (1.0 - self.warmup_ratio))
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
    /// Crops per micro-batch.
    pub fn micro_batch(&self) -> usize {
        self.batch / self.accumulate
    }
}

/// A network for segmentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SegmentModel {
    /// The transformer.
    pub vit: VitConfig,
    /// The head.
    pub head: SegmentHead,
    /// Number of classes.
    pub classes: usize,
}

impl SegmentModel {
    fn draw(
        &self,
        g: &mut Graph,
        image: Var,
        statistics: Statistics,
        recompute: bool,
    ) -> Result<SegmentLogits> {
        let drop_key = match statistics {
            Statistics::Batch => Some(g.input_words("drop_key", &[4])?),
            Statistics::Running | Statistics::BatchOnly => None,
        };
        let trunk = backbone(g, &self.vit, VitInputs { image, mask: None, drop_key }, recompute)?;
        segmenter::head(g, &self.vit, &self.head, &trunk, self.classes, HeadMode { statistics, drop_key })
    }
    /// Whether anything is dropped at random while training.
    fn draws(&self) -> bool {
        let dropout = match &self.head {
            SegmentHead::Upernet(c) => c.dropout,
            SegmentHead::SetrPup(c) => c.dropout,
        };
        dropout > 0.0 || (self.vit.drop_path > 0.0 && self.vit.depth > 1)
    }
    fn image(&self, g: &mut Graph, images: usize) -> Result<Var> {
        g.input("image", &[images, self.vit.image.0, self.vit.image.1, 3])
    }
    /// The parameters and running statistics.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn graph(&self) -> Result<Graph> {
        let mut g = Graph::new();
        let image = self.image(&mut g, 1)?;
        self.draw(&mut g, image, Statistics::Running, false)?;
        Ok(g)
    }
    /// Compiles a training step. Outputs: `loss`, `loss_main`, `accuracy`.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plans(&self, recipe: &SegmentRecipe, caps: &Caps) -> Result<StepPlans> {
        let mut g = Graph::new();
        let images = recipe.micro_batch();
        let image = self.image(&mut g, images)?;
        let labels = g.input_words("labels", &[images, self.vit.image.0, self.vit.image.1])?;
        let logits = self.draw(&mut g, image, Statistics::Batch, recipe.recompute)?;
        let over = if recipe.over_all_pixels { Over::All } else { Over::Counted };
        let loss = segmenter::loss(&mut g, logits, labels, over)?;
        g.output("loss", loss.total);
        g.output("loss_main", loss.main.loss);
        g.output("accuracy", loss.main.accuracy);
        // Gradients of the micro-batches are added up.
        let share = scale(&mut g, loss.total, 1.0 / recipe.accumulate as f32)?;
        let options = StepOptions {
            ema: false,
            accumulate: recipe.accumulate,
            decay: Decay::Official,
            rates: Rates::Layers { decay: recipe.layer_decay, depth: self.vit.depth },
        };
        StepPlans::new("segmentation step", g, share, MODEL, &[], caps, options)
    }
    /// Compiles the prediction of `images` windows: `image [images,H,W,3]` to `logits [images,h,w,classes]`.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn predict_plan(&self, images: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
        let mut g = Graph::new();
        let image = self.image(&mut g, images)?;
        let logits = self.draw(&mut g, image, Statistics::Running, false)?;
        g.output("logits", logits.main);
        compile("segmentation", &g, &[layout], caps, &CompileOptions::default())
    }
}

/// Writes a batch and runs one update, split into micro-batches.
///
/// Returns the tickets of (`loss`, `loss_main`, `accuracy`) of each micro-batch if `report` is set.
///
/// # Errors
/// If the device refuses.
pub fn step(
    stepper: &mut Stepper,
    model: &SegmentModel,
    recipe: &SegmentRecipe,
    seed: u64,
    i: u64,
    batch: &SegmentBatch,
    report: bool,
) -> Result<Vec<Ticket>> {
    let micro = recipe.micro_batch();
    let (image, map) = (batch.image.len() / recipe.batch, batch.labels.len() / recipe.batch);
    let mut tickets = Vec::new();
    for m in 0..recipe.accumulate {
        let range = m * micro..(m + 1) * micro;
        stepper.write("image", Data::F32(&batch.image[range.start * image..range.end * image]))?;
        stepper.write("labels", Data::U32(&batch.labels[range.start * map..range.end * map]))?;
        if model.draws() {
            let key = Key::new(seed, Stream::DropPath, i as u32).child(m as u32);
            stepper.write("drop_key", Data::U32(&key.0))?;
        }
        let last = m + 1 == recipe.accumulate;
        stepper.run_batch(last.then(|| recipe.hyper(i)).as_ref())?;
        if report {
            let plan = stepper.micro();
            tickets.push(stepper.session.fetch(plan, &["loss", "loss_main", "accuracy"])?);
        }
    }
    Ok(tickets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::segment_preset;

    /// beit-spec §7.5: base·(1 − i/K), in the warm-up times 1 − (1 − i/W)(1 − 10⁻⁶).
    #[test]
    fn learning_rates() {
        let r = SegmentRecipe {
            steps: 160_000,
            lr: 7e-4,
            warmup: 1500,
            ..segment_preset("base").unwrap().training
        };
        for (i, want) in [
            (0, 7e-10),
            (750, 7e-4 * (1.0 - 750.0 / 160_000.0) * 0.5000005),
            (80_000, 3.5e-4),
            (160_000, 0.0),
        ] {
            assert!((r.lr_at(i) - want).abs() < 1e-12, "{i}: {} not {want}", r.lr_at(i));
        }
    }
}
