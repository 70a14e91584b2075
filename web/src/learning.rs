//! The calls of a training: pictures to train on, start, updates, keeping or dropping the result, files.

use std::sync::Arc;

use beit::data::{Source, SyntheticSource};
use beit::gpu::Arrivals;
use beit::train::{LivePlans, LiveSettings, State, Trained};
use beit::{Error, Result};
use js_sys::{Object, Reflect, Uint8Array};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::answer::Answer;
use crate::engine::Engine;
use crate::fault::{Thrown, thrown};
use crate::loaded::{Holder, Loaded, nothing_loaded, viewer_plans};
use crate::models::Weights;
use crate::pictures::of_rgba;
use crate::training::Training;

/// Built-in scenes for training.
const SCENES: usize = 10_000;
/// Side of a built-in training scene in pixels.
const SCENE_SIDE: usize = 64;

#[wasm_bindgen]
impl Engine {
    /// Adds a training picture and returns how many there are.
    #[wasm_bindgen(js_name = addPicture)]
    pub fn add_picture(&mut self, width: u32, height: u32, rgba: Vec<u8>) -> Thrown<u32> {
        let picture = of_rgba(width as usize, height as usize, &rgba).map_err(thrown)?;
        Ok(self.dropped.add(&picture).map_err(thrown)? as u32)
    }

    /// Forgets the training pictures.
    #[wasm_bindgen(js_name = clearPictures)]
    pub fn clear_pictures(&mut self) {
        self.dropped.clear();
    }

    /// Starts training: `kind` is `tokenizer` or `model`, `fresh` from random numbers, `own` on the added pictures.
    #[wasm_bindgen(js_name = startTraining)]
    pub async fn start_training(
        &mut self,
        kind: &str,
        fresh: bool,
        own: bool,
        steps: u32,
        batch: u32,
        seed: u32,
    ) -> Thrown<()> {
        let kind = match kind {
            "tokenizer" => Trained::Tokenizer,
            "model" => Trained::Model,
            other => {
                let e = Error::config("nothing of this name can be trained");
                return Err(thrown(e.expected("tokenizer or model").got(other)));
            }
        };
        let (steps, batch, seed) = (u64::from(steps), batch as usize, u64::from(seed));
        self.use_dropped = own;
        self.begin(LiveSettings { kind, fresh, steps, batch, seed }, None).await.map_err(thrown)
    }

    /// Runs one update and gives its figures. See `TrainingStep` in `beit.d.ts`.
    #[wasm_bindgen(js_name = trainStep)]
    pub async fn train_step(&mut self) -> Thrown<JsValue> {
        let (training, arrivals) = self.training().map_err(thrown)?;
        let figures = training.step(&arrivals).await.map_err(thrown)?;
        Ok(Answer::new().json("step", &json!(figures)).done())
    }

    /// Copies the training to the host now, which is what a loss of the device leaves of it. Gives the updates done.
    pub async fn snapshot(&mut self) -> Thrown<u32> {
        let (training, arrivals) = self.training().map_err(thrown)?;
        training.copy(&arrivals).await.map_err(thrown)?;
        Ok(training.live.snapshot.0 as u32)
    }

    /// Keeps what was trained and goes back to looking.
    #[wasm_bindgen(js_name = endTraining)]
    pub async fn end_training(&mut self) -> Thrown<()> {
        let weights = self.current().await.map_err(thrown)?;
        let loaded = Loaded::viewing(&self.gpu, &weights).await.map_err(thrown)?;
        (self.weights, self.loaded) = (Some(weights), Some(loaded));
        Ok(())
    }

    /// Drops what was trained and goes back to the weights from before.
    #[wasm_bindgen(js_name = dropTraining)]
    pub async fn drop_training(&mut self) -> Thrown<()> {
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded).map_err(thrown)?;
        self.loaded = Some(Loaded::viewing(&self.gpu, weights).await.map_err(thrown)?);
        Ok(())
    }

    /// The files of a checkpoint folder with the weights as they are now: `{name: Uint8Array}`.
    pub async fn export(&mut self) -> Thrown<Object> {
        let weights = self.current().await.map_err(thrown)?;
        let out = Object::new();
        for (name, bytes) in weights.files().map_err(thrown)? {
            Reflect::set(&out, &name.into(), &Uint8Array::from(&bytes[..]))?;
        }
        Ok(out)
    }
}

impl Engine {
    fn training(&mut self) -> Result<(&mut Training, Arrivals)> {
        match self.loaded.as_mut() {
            Some(Loaded { holder: Holder::Training(t), arrivals, .. }) => Ok((t, arrivals.clone())),
            _ => Err(Error::config("no training is under way").hint("call startTraining first")),
        }
    }

    pub(crate) async fn begin(&mut self, settings: LiveSettings, from: Option<(u64, State)>) -> Result<()> {
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded)?;
        let source: Arc<dyn Source> = if self.use_dropped {
            Arc::new(self.dropped.clone())
        } else {
            Arc::new(SyntheticSource::new(0, SCENES, SCENE_SIDE))
        };
        let caps = self.gpu.caps();
        let plans = LivePlans::new(weights, &settings, &caps)?;
        let looks = viewer_plans(weights, Some(settings.kind), &caps)?;
        let all = [&plans.steps.micro, &plans.steps.update, &looks.forward, &looks.encode, &looks.decode];
        self.gpu.compile_ahead(&all).await?;
        let (training, arrivals) = Training::start(&self.gpu, weights, settings, plans, source, from)?;
        self.loaded = Some(Loaded::new(Holder::Training(Box::new(training)), arrivals, weights, looks)?);
        Ok(())
    }

    /// The weights as they are on the device.
    async fn current(&mut self) -> Result<Weights> {
        let weights = self.weights.clone().ok_or_else(nothing_loaded)?;
        match self.training() {
            Ok((training, arrivals)) => {
                training.copy(&arrivals).await?;
                Ok(training.live.trained(&weights))
            }
            Err(_) => Ok(weights),
        }
    }
}
