//! What every trained store keeps in a checkpoint: weights in the names of the public libraries, optimiser, state.

use super::Stepper;
use super::events::{Event, Phase};
use super::files::{optimizer_file, pages_of, read_optimizer, state_limits, tensors_of};
use super::run::Run;
use super::state_json::StateJson;
use crate::config::SCRATCH;
use crate::error::Result;
use crate::graph::{PageKind, ParamLayout};
use crate::interop::{self, ModelFile, Resize, Want, adapt};
use crate::io::checkpoint::Found;
use crate::io::names::{from_transformers, to_transformers};
use crate::io::tensors::{Tensors, pt_metadata, read_safetensors, write_safetensors};
use crate::models::{RelPos, VitConfig};
use serde::Serialize;
use std::path::Path;

/// File of the weights that the public libraries know.
const MODEL: &str = "model.safetensors";
/// File of all other weights (heads of other methods), under this crate's names.
const HEADS: &str = "heads.safetensors";

/// Updates done, and the best evaluation so far: updates and score.
pub type Progress = (u64, Option<(u64, f64)>);

/// How one store is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Phase that trains it.
    pub phase: Phase,
    /// Hash of the plan of a step.
    pub plan: String,
    /// Fingerprint of the training pictures.
    pub data: String,
    /// The pages that are saved as the model: the parameters, or their average.
    pub weights: PageKind,
}

impl Kept {
    /// The files of a checkpoint: weights, optimiser, state.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn files(
        &self,
        stepper: &mut Stepper,
        (step, best): Progress,
        config: &impl Serialize,
    ) -> Result<Vec<(String, Vec<u8>)>> {
        let state = stepper.state()?;
        let layout = &stepper.layout;
        let (known, heads) = partition(tensors_of(layout, state.kind(self.weights).unwrap_or_default()));
        let mut json = StateJson::new(self.phase, step, config);
        (json.best, json.plan, json.layout) = (best, self.plan.clone(), layout.hash());
        json.data = self.data.clone();
        let mut files = vec![
            (MODEL.to_string(), write_safetensors(&to_transformers(known)?, &pt_metadata())),
            ("optimizer.safetensors".into(), optimizer_file(layout, &state, self.weights)),
            ("state.json".into(), json.to_bytes()),
        ];
        if !heads.is_empty() {
            files.push((HEADS.into(), write_safetensors(&heads, &pt_metadata())));
        }
        Ok(files)
    }

    /// Puts a checkpoint back.
    ///
    /// # Errors
    /// If it is of other sizes or other pictures.
    pub fn resume(&self, run: &mut Run<'_>, stepper: &mut Stepper, found: &Found) -> Result<Progress> {
        let state = StateJson::parse(&found.read("state.json")?, "state.json")?;
        let layout = stepper.layout.clone();
        state.check(&layout.hash(), &self.data)?;
        if state.plan != self.plan {
            run.tell(Event::Warning(
                "going on with another plan (device or version) than before: not bit for bit".into(),
            ));
        }
        let limits = state_limits(&layout);
        let mut saved = read_optimizer(&layout, &found.read("optimizer.safetensors")?, &limits)?;
        let mut weights = from_transformers(read_safetensors(&found.read(MODEL)?, &limits)?.tensors)?;
        if found.has(HEADS) {
            weights.extend(read_safetensors(&found.read(HEADS)?, &limits)?.tensors);
        }
        saved.pages.push((self.weights, pages_of(&layout, &weights)?));
        stepper.restore(&saved)?;
        Ok((state.step, state.best))
    }
}

/// Tensors that transformers has names for, and the others.
fn partition(tensors: Tensors) -> (Tensors, Tensors) {
    let known = |name: &String, tensor: &crate::io::tensors::Tensor| {
        to_transformers(Tensors::from([(name.clone(), tensor.clone())])).is_ok()
    };
    tensors.into_iter().partition(|(name, tensor)| known(name, tensor))
}

/// Starts from a model file: what it has replaces `pages`, position tables resampled; the rest stays. What was done
/// comes back in sentences.
///
/// # Errors
/// If the file's backbone does not fit.
pub fn start_from(
    model: &ModelFile,
    vit: &VitConfig,
    layout: &ParamLayout,
    pages: &mut [Vec<f32>],
    resize: Resize,
) -> Result<Vec<String>> {
    let wanted = layout.views.iter().map(|v| (v.name.clone(), v.shape.clone())).collect();
    let adapted = adapt(model, vit, &wanted, resize)?;
    for (name, tensor) in &adapted.tensors {
        let Some(v) = layout.view(name) else { continue };
        pages[v.page][v.offset..v.offset + v.elements()].copy_from_slice(tensor.as_f32()?);
    }
    Ok(adapted.steps)
}

/// Opens what the weights start from, unless that is nothing.
///
/// # Errors
/// If it is no transformer.
pub fn open_start(path: &str) -> Result<Option<ModelFile>> {
    match path {
        SCRATCH => Ok(None),
        _ => interop::open(Path::new(path), Want::Vit).map(Some),
    }
}

/// Sizes of a starting model on pictures of `image`, fine-tuned: a table in each block instead of a shared one.
pub fn fine_tuned(sizes: &VitConfig, image: (usize, usize), drop_path: f32) -> VitConfig {
    let rel_pos = match sizes.rel_pos {
        RelPos::None => RelPos::None,
        RelPos::Shared | RelPos::PerLayer | RelPos::Both => RelPos::PerLayer,
    };
    VitConfig { image, rel_pos, drop_path, ..sizes.clone() }
}

/// Tells a run what was done to the weights that it starts from.
pub fn tell_start(run: &mut Run<'_>, name: &str, model: &ModelFile, steps: Vec<String>) {
    let notes = model.notes.iter().cloned().chain(steps);
    notes.for_each(|text| run.tell(Event::Note(format!("{name}: {text}"))));
}
