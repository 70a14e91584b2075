//! Pixels as the target of masked pre-training: plans, targets, evaluation.

use super::pretrain::{MODEL, MaskedInputs, MimModel, PretrainRecipe, Turn, masked_step};
use crate::data::MimBatch;
use crate::error::Result;
use crate::graph::{Graph, ParamLayout};
use crate::models::VitConfig;
use crate::models::mim::{MimBatchShape, MimOptions};
use crate::models::pixels::{on_pixels, patch_numbers};
use crate::ops::Caps;
use crate::optim::{Decay, Rates};
use crate::plan::{CompileOptions, Plan, compile};
use crate::session::{Data, PlanId, Session, Ticket};
use crate::train::{StepOptions, StepPlans, Stepper};

fn shape(model: &MimModel, images: usize) -> MimBatchShape {
    MimBatchShape { images, masked: images * model.mask_slots }
}

/// Compiles a training step.
///
/// # Errors
/// If the sizes do not fit.
pub fn plans(model: &MimModel, recipe: &PretrainRecipe, caps: &Caps) -> Result<StepPlans> {
    let mut g = Graph::new();
    let options = MimOptions { recompute: recipe.recompute, train: true, ..MimOptions::default() };
    let loss = on_pixels(&mut g, &model.vit, shape(model, recipe.micro_batch()), options)?;
    let options = StepOptions {
        ema: false,
        accumulate: recipe.accumulate,
        decay: Decay::Official,
        rates: Rates::Equal,
    };
    StepPlans::new("pixel regression step", g, loss, MODEL, &[], caps, options)
}

/// Compiles an evaluation of `images` pictures, with predictions.
///
/// # Errors
/// If the sizes do not fit.
pub fn eval_plan(model: &MimModel, images: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
    let mut g = Graph::new();
    let options = MimOptions { predictions: true, ..MimOptions::default() };
    on_pixels(&mut g, &model.vit, shape(model, images), options)?;
    compile("pixel regression evaluation", &g, &[layout], caps, &CompileOptions::default())
}

/// Writes a batch and runs one update; the tickets of `loss` of each micro-batch.
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
    let image = batch.patch_view.len() / recipe.batch;
    masked_step(stepper, model, recipe, turn, batch, &["loss"], &mut |stepper, images, masked| {
        let view = &batch.patch_view[images.start * image..images.end * image];
        stepper.write("targets", Data::F32(&targets(&model.vit, view, masked)))
    })
}

/// Runs the evaluation of one batch.
///
/// # Errors
/// If the device refuses.
pub fn evaluate(
    session: &mut dyn Session,
    plan: PlanId,
    model: &MimModel,
    batch: &MimBatch,
    masked: &MaskedInputs,
) -> Result<()> {
    session.write(plan, "image", Data::F32(&batch.patch_view))?;
    session.write(plan, "targets", Data::F32(&targets(&model.vit, &batch.patch_view, masked)))?;
    masked.write_rows(session, plan)?;
    session.run(plan)
}

/// The pixels `[M, P,P,3]` of the predicted patches of `view[B,H,W,3]`; unused slots hold zeros.
pub fn targets(vit: &VitConfig, view: &[f32], masked: &MaskedInputs) -> Vec<f32> {
    let (p, (rows, columns), n) = (vit.patch, vit.grid(), patch_numbers(vit));
    let width = 3 * vit.image.1;
    let mut out = vec![0.0; masked.patches.len() * n];
    for (slot, &patch) in out.chunks_mut(n).zip(&masked.patches).take(masked.count) {
        let (image, cell) = (patch as usize / (rows * columns), patch as usize % (rows * columns));
        let top = image * rows * p + cell / columns * p;
        for (y, row) in slot.chunks_mut(3 * p).enumerate() {
            row.copy_from_slice(&view[(top + y) * width + cell % columns * 3 * p..][..3 * p]);
        }
    }
    out
}

/// Puts patches `[M, P,P,3]` in their places in `view[B,H,W,3]`.
pub fn place(vit: &VitConfig, view: &mut [f32], patches: &[f32], masked: &MaskedInputs) {
    let (p, (rows, columns), n) = (vit.patch, vit.grid(), patch_numbers(vit));
    let width = 3 * vit.image.1;
    for (slot, &patch) in patches.chunks(n).zip(&masked.patches).take(masked.count) {
        let (image, cell) = (patch as usize / (rows * columns), patch as usize % (rows * columns));
        let top = image * rows * p + cell / columns * p;
        for (y, row) in slot.chunks(3 * p).enumerate() {
            view[(top + y) * width + cell % columns * 3 * p..][..3 * p].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;

    #[test]
    fn patches_are_taken_and_put_back() {
        let vit = VitConfig { image: (8, 12), patch: 4, ..preset("nano").unwrap().model };
        let view: Vec<f32> = (0..2 * 8 * 12 * 3).map(|i| i as f32).collect();
        let mask: Vec<bool> = (0..12).map(|p| [1, 5, 6].contains(&p)).collect();
        let masked = MaskedInputs::new(&mask, 6, 5, 3);
        let patches = targets(&vit, &view, &masked);
        // patch 1 of the first picture begins at row 0, column 4
        assert_eq!(patches[..3], [12.0, 13.0, 14.0]);
        assert_eq!(patches[12], (12 * 3 + 12) as f32);
        // patch 6 is the first one of the second picture
        assert_eq!(patches[2 * 48], (8 * 12 * 3) as f32);
        assert_eq!(patches[3 * 48..], [0.0; 2 * 48]);
        let mut blank = vec![-1.0; view.len()];
        place(&vit, &mut blank, &patches, &masked);
        assert_eq!(blank.iter().filter(|v| **v >= 0.0).count(), 3 * 48);
        assert!(blank.iter().zip(&view).all(|(b, v)| *b < 0.0 || b == v));
    }
}
