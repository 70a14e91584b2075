//! The class behind the JavaScript API: a device, the loaded networks, a training if there is one.

use beit::gpu::Gpu;
use beit::train::{LiveSettings, State, page_bytes};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::answer::Answer;
use crate::fault::{Thrown, thrown};
use crate::loaded::{Loaded, nothing_loaded};
use crate::models::{Files, Weights};
use crate::pictures::Dropped;

/// A BEiT on a device.
#[wasm_bindgen]
pub struct Engine {
    pub(crate) gpu: Gpu,
    pub(crate) weights: Option<Weights>,
    pub(crate) loaded: Option<Loaded>,
    pub(crate) dropped: Dropped,
    pub(crate) use_dropped: bool,
    /// A training whose device was lost: settings, updates done, everything they changed.
    pub(crate) kept: Option<(LiveSettings, (u64, State))>,
}

#[wasm_bindgen]
impl Engine {
    /// Opens the browser's best adapter.
    pub async fn open() -> Thrown<Engine> {
        let gpu = Gpu::create_async(None).await.map_err(thrown)?;
        let dropped = Dropped::default();
        Ok(Engine { gpu, weights: None, loaded: None, dropped, use_dropped: false, kept: None })
    }

    /// The adapter: `{name, class, software, maxBinding, maxBuffer}`.
    pub fn device(&self) -> JsValue {
        let (info, caps) = (self.gpu.info(), self.gpu.caps());
        Answer::new()
            .put("name", info.name.as_str())
            .put("class", info.class)
            .put("software", info.software)
            .put("maxBinding", caps.max_binding as f64)
            .put("maxBuffer", caps.max_buffer as f64)
            .done()
    }

    /// Loads both networks from the files of a checkpoint folder and ends a training.
    pub async fn load(
        &mut self,
        model: Vec<u8>,
        config: Vec<u8>,
        tokenizer: Vec<u8>,
        sizes: Vec<u8>,
    ) -> Thrown<JsValue> {
        let files = Files { model: &model, config: &config, tokenizer: &tokenizer, sizes: &sizes };
        let weights = Weights::read(&files, page_bytes(&self.gpu.caps())).map_err(thrown)?;
        let loaded = Loaded::viewing(&self.gpu, &weights).await.map_err(thrown)?;
        (self.weights, self.loaded) = (Some(weights), Some(loaded));
        self.model()
    }

    /// What is loaded: sizes and numbers of parameters.
    pub fn model(&self) -> Thrown<JsValue> {
        let w = self.weights.as_ref().ok_or_else(nothing_loaded).map_err(thrown)?;
        let (rows, columns) = w.vit.grid();
        let model = json!({
            "image": w.vit.image.0, "patch": w.vit.patch, "rows": rows, "columns": columns,
            "width": w.vit.width, "depth": w.vit.depth, "heads": w.vit.heads, "vocab": w.vit.vocab,
            "cell": w.dvae.stride(), "parameters": w.model.parameters(),
            "tokenizerParameters": w.tokenizer.parameters(),
        });
        Ok(Answer::new().json("model", &model).done())
    }
}
