//! The class behind the JavaScript API: a device, the loaded networks, a training if there is one.

use std::sync::Arc;

use beit::data::{
    ImageLimits, MaskKind, MaskSpec, Normalization, Picture, Source, SyntheticSource, decode, generate,
};
use beit::gpu::{Arrivals, Gpu, GpuSession};
use beit::graph::PageKind;
use beit::rng::{Key, Stream};
use beit::session::{Data, HostData, PlanId, Session};
use beit::tasks::atlas::Atlas;
use beit::tasks::reconstruct::{AttentionMaps, Reconstruction, Sampling, ViewedModels, Viewer};
use beit::train::{State, page_bytes};
use beit::{Error, Result};
use js_sys::{Float32Array, Object, Reflect, Uint8Array};
use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::answer::{Answer, picture_object};
use crate::fault::{Thrown, thrown};
use crate::inspect;
use crate::models::{Files, Weights};
use crate::pictures::{Dropped, of_rgba, reduced};
use crate::training::{Kind, Settings, Training};
use crate::waiting::{finish, take};

/// Built-in scenes for training.
const SCENES: usize = 10_000;
/// Side of a built-in training scene in pixels.
const SCENE_SIDE: usize = 64;
/// Tokens decoded at once.
const AT_ONCE: usize = 8;

enum Holder {
    Viewing(Box<dyn Session>),
    Training(Box<Training>),
}

/// Networks on the device.
struct Loaded {
    holder: Holder,
    arrivals: Arrivals,
    viewer: Viewer,
    inspect: PlanId,
    atlas: Atlas,
    attention: Option<AttentionMaps>,
}

impl Loaded {
    fn new(mut holder: Holder, arrivals: Arrivals, weights: &Weights) -> Result<Loaded> {
        let pages = match &holder {
            Holder::Training(t) if t.settings.kind == Kind::Tokenizer => PageKind::Ema,
            _ => PageKind::Param,
        };
        let session = holder.session();
        let models = ViewedModels {
            vit: &weights.vit,
            layout: &weights.model,
            normalization: Normalization::HALF,
            tokenizer: &weights.dvae,
            tokenizer_layout: &weights.tokenizer,
            tokenizer_pages: pages,
        };
        let viewer = Viewer::load(session, &models)?;
        let caps = session.caps();
        let inspect = session.load(Arc::new(inspect::plan(weights, &caps)?))?;
        let atlas = Atlas::load(session, &weights.dvae, &weights.tokenizer, pages, AT_ONCE)?;
        Ok(Loaded { holder, arrivals, viewer, inspect, atlas, attention: None })
    }
    fn viewing(gpu: &Gpu, weights: &Weights) -> Result<Loaded> {
        let session = GpuSession::new(gpu.clone());
        let arrivals = session.arrivals();
        let mut session: Box<dyn Session> = Box::new(session);
        weights.put(session.as_mut(), beit::tasks::pretrain::MODEL)?;
        weights.put(session.as_mut(), beit::models::mim::TOKENIZER)?;
        Loaded::new(Holder::Viewing(session), arrivals, weights)
    }
}

impl Holder {
    fn session(&mut self) -> &mut dyn Session {
        match self {
            Holder::Viewing(session) => session.as_mut(),
            Holder::Training(training) => training.stepper.session.as_mut(),
        }
    }
}

/// A BEiT on a device.
#[wasm_bindgen]
pub struct Engine {
    gpu: Gpu,
    weights: Option<Weights>,
    loaded: Option<Loaded>,
    dropped: Dropped,
    use_dropped: bool,
    /// A training whose device was lost: settings, updates done, everything they changed.
    kept: Option<(Settings, (u64, State))>,
}

fn nothing_loaded() -> Error {
    Error::config("no model is loaded").hint("call load first")
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
    pub fn load(&mut self, model: &[u8], config: &[u8], tokenizer: &[u8], sizes: &[u8]) -> Thrown<JsValue> {
        let files = Files { model, config, tokenizer, sizes };
        let weights = Weights::read(&files, page_bytes(&self.gpu.caps())).map_err(thrown)?;
        let loaded = Loaded::viewing(&self.gpu, &weights).map_err(thrown)?;
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

    /// Decodes a picture file (PNG, JPEG, WebP, GIF, BMP) within the limits of a tab; no side stays above `longest`.
    pub fn decode(&self, bytes: &[u8], longest: u32) -> Thrown<JsValue> {
        let picture = decode(bytes, &ImageLimits::web()).map_err(thrown)?;
        Ok(picture_object(&reduced(&picture, longest as usize)))
    }

    /// Built-in scene `index` of `side` pixels. Scenes from 1,000,000 on are never trained on.
    pub fn scene(&self, index: u32, side: u32) -> Thrown<JsValue> {
        let side = (side as usize).clamp(8, 512);
        let source = SyntheticSource::new(0, u32::MAX as usize >> 1, side);
        Ok(picture_object(&source.load(index as usize).map_err(thrown)?.picture))
    }

    /// A mask `[rows·columns]` of 0 and 1: `kind` blockwise or random, `share` of the patches hidden.
    pub fn mask(&self, kind: &str, share: f64, seed: u32) -> Thrown<Uint8Array> {
        let mask = self.draw_mask(kind, share, seed).map_err(thrown)?;
        let bytes: Vec<u8> = mask.into_iter().map(u8::from).collect();
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// Hides patches of a picture, predicts them, decodes the prediction. See `Reconstruction` in `beit.d.ts`.
    #[allow(clippy::too_many_arguments)] // one flat call across the border; the wrapper takes an object
    pub async fn reconstruct(
        &mut self,
        width: u32,
        height: u32,
        rgba: Vec<u8>,
        mask: Vec<u8>,
        top: u32,
        rounds: u32,
        temperature: f32,
        seed: u32,
    ) -> Thrown<JsValue> {
        let picture = of_rgba(width as usize, height as usize, &rgba).map_err(thrown)?;
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded).map_err(thrown)?;
        let mut request = loaded.viewer.request(&picture, mask.iter().map(|&m| m != 0).collect());
        (request.top, request.rounds, request.attention) = (top as usize, rounds as usize, true);
        request.sampling = (temperature > 0.0).then_some(Sampling { temperature, seed: u64::from(seed) });
        let mut job = loaded.viewer.start(request).map_err(thrown)?;
        let arrivals = loaded.arrivals.clone();
        let found = finish(&arrivals, || job.advance(loaded.holder.session(), false)).await;
        let mut found = found.map_err(thrown)?;
        loaded.attention = found.attention.take();
        Ok(answer(&found, top as usize))
    }

    /// Attention from a patch in the last reconstruction, `[rows·columns]`: of block `layer` and `head`; head −1 is the
    /// mean of the heads, layer −1 the rollout over all blocks.
    pub fn attention(&self, layer: i32, head: i32, patch: u32) -> Thrown<Float32Array> {
        let maps = self.loaded.as_ref().and_then(|l| l.attention.as_ref());
        let maps =
            maps.ok_or_else(|| thrown(Error::config("no attention yet").hint("call reconstruct first")))?;
        let (tokens, patch) = (maps.tokens, patch as usize);
        if patch + 1 >= tokens || layer >= maps.layers as i32 || head >= maps.heads as i32 {
            return Err(thrown(Error::config("no such attention").expected(format!(
                "{} blocks, {} heads, {} patches",
                maps.layers,
                maps.heads,
                tokens - 1
            ))));
        }
        let values = match (usize::try_from(layer), usize::try_from(head)) {
            (Err(_), _) => maps.rollout_from(patch),
            (Ok(layer), Ok(head)) => maps.from_patch(layer, head, patch).to_vec(),
            (Ok(layer), Err(_)) => {
                let row = (patch + 1) * tokens;
                maps.mean_of_heads(layer)[row + 1..row + tokens].to_vec()
            }
        };
        Ok(Float32Array::from(&values[..]))
    }

    /// The tokenizer's ids of a picture `[rows·columns]`.
    pub async fn tokenize(&mut self, width: u32, height: u32, rgba: Vec<u8>) -> Thrown<js_sys::Uint32Array> {
        let picture = of_rgba(width as usize, height as usize, &rgba).map_err(thrown)?;
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded).map_err(thrown)?;
        let grid = loaded.viewer.grid();
        let request = loaded.viewer.request(&picture, vec![true; grid.0 * grid.1]);
        let mut job = loaded.viewer.start(request).map_err(thrown)?;
        let arrivals = loaded.arrivals.clone();
        let found = finish(&arrivals, || job.advance(loaded.holder.session(), false)).await;
        let found = found.map_err(thrown)?;
        let ids: Vec<u32> = found.patches.iter().map(|p| p.true_id).collect();
        Ok(js_sys::Uint32Array::from(&ids[..]))
    }

    /// Logits of all patches under a mask, `[rows·columns, vocab]`.
    pub async fn logits(
        &mut self,
        width: u32,
        height: u32,
        rgba: Vec<u8>,
        mask: Vec<u8>,
    ) -> Thrown<Float32Array> {
        let values = self.inspect(width, height, &rgba, &mask, "logits").await.map_err(thrown)?;
        let row = self.weights.as_ref().map_or(0, |w| w.vit.vocab);
        Ok(Float32Array::from(values.get(row..).unwrap_or(&[])))
    }

    /// Mean of the patch tokens after block `layer` (−1 = the last) of an unmasked picture, `[width]`.
    pub async fn features(
        &mut self,
        width: u32,
        height: u32,
        rgba: Vec<u8>,
        layer: i32,
    ) -> Thrown<Float32Array> {
        let (depth, d, n) = self
            .weights
            .as_ref()
            .map(|w| (w.vit.depth as i32, w.vit.width, w.vit.patches()))
            .ok_or_else(nothing_loaded)
            .map_err(thrown)?;
        let layer = if layer < 0 { depth - 1 } else { layer };
        if layer >= depth {
            let e = Error::config("no such block").expected(format!("below {depth}")).got(layer.to_string());
            return Err(thrown(e));
        }
        let name = format!("block.{layer}");
        let values = self.inspect(width, height, &rgba, &vec![0; n], &name).await.map_err(thrown)?;
        let mut mean = vec![0.0f32; d];
        for token in values.chunks_exact(d).skip(1) {
            mean.iter_mut().zip(token).for_each(|(m, v)| *m += v / n as f32);
        }
        Ok(Float32Array::from(&mean[..]))
    }

    /// Each id as a picture of one cell: decoded in the middle of a field in which all ids are equally likely.
    #[wasm_bindgen(js_name = tokenPictures)]
    pub async fn token_pictures(&mut self, ids: Vec<u32>) -> Thrown<js_sys::Array> {
        let pictures = self.decode_cells(&ids).await.map_err(thrown)?;
        Ok(pictures.iter().map(picture_object).collect())
    }

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
    pub fn start_training(
        &mut self,
        kind: &str,
        fresh: bool,
        own: bool,
        steps: u32,
        batch: u32,
        seed: u32,
    ) -> Thrown<()> {
        let kind = match kind {
            "tokenizer" => Kind::Tokenizer,
            "model" => Kind::Model,
            other => {
                let e = Error::config("nothing of this name can be trained");
                return Err(thrown(e.expected("tokenizer or model").got(other)));
            }
        };
        let (steps, batch, seed) = (u64::from(steps), batch as usize, u64::from(seed));
        self.use_dropped = own;
        self.begin(Settings { kind, fresh, steps, batch, seed }, None).map_err(thrown)
    }

    /// Runs one update and gives its figures. See `TrainingStep` in `beit.d.ts`.
    #[wasm_bindgen(js_name = trainStep)]
    pub async fn train_step(&mut self) -> Thrown<JsValue> {
        let (training, arrivals) = self.training().map_err(thrown)?;
        let figures = training.step(&arrivals).await.map_err(thrown)?;
        Ok(Answer::new().json("step", &figures).done())
    }

    /// Keeps what was trained and goes back to looking.
    #[wasm_bindgen(js_name = endTraining)]
    pub async fn end_training(&mut self) -> Thrown<()> {
        let weights = self.current().await.map_err(thrown)?;
        let loaded = Loaded::viewing(&self.gpu, &weights).map_err(thrown)?;
        (self.weights, self.loaded) = (Some(weights), Some(loaded));
        Ok(())
    }

    /// Drops what was trained and goes back to the weights from before.
    #[wasm_bindgen(js_name = dropTraining)]
    pub fn drop_training(&mut self) -> Thrown<()> {
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded).map_err(thrown)?;
        self.loaded = Some(Loaded::viewing(&self.gpu, weights).map_err(thrown)?);
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

    /// After a loss: opens a device again and puts everything back, a training as of its last snapshot. Gives the number
    /// of updates that the training stands at, or −1 if there is none.
    pub async fn recover(&mut self) -> Thrown<i32> {
        if let Some(Loaded { holder: Holder::Training(t), .. }) = self.loaded.take() {
            self.kept = Some((t.settings, t.snapshot));
        }
        self.gpu = Gpu::create_async(None).await.map_err(thrown)?;
        // Kept until it is back on a device: the next try may find one where this one did not.
        if let Some((settings, snapshot)) = self.kept.clone() {
            let step = snapshot.0 as i32;
            self.begin(settings, Some(snapshot)).map_err(thrown)?;
            self.kept = None;
            return Ok(step);
        }
        if let Some(weights) = &self.weights {
            self.loaded = Some(Loaded::viewing(&self.gpu, weights).map_err(thrown)?);
        }
        Ok(-1)
    }
}

impl Engine {
    fn draw_mask(&self, kind: &str, share: f64, seed: u32) -> Result<Vec<bool>> {
        let (rows, columns) = self.weights.as_ref().ok_or_else(nothing_loaded)?.vit.grid();
        let cells = rows * columns;
        let target = ((cells as f64 * share).round() as usize).clamp(1, cells);
        let mut spec = MaskSpec::blockwise(rows, columns, target, (cells / 16).clamp(1, target));
        spec.kind = match kind {
            "blockwise" => MaskKind::Blockwise,
            "random" => MaskKind::Random,
            other => {
                return Err(Error::config("no such mask").expected("blockwise or random").got(other));
            }
        };
        spec.validate()?;
        Ok(generate(&spec, Key::new(u64::from(seed), Stream::Mask, 0)))
    }

    fn training(&mut self) -> Result<(&mut Training, Arrivals)> {
        match self.loaded.as_mut() {
            Some(Loaded { holder: Holder::Training(t), arrivals, .. }) => Ok((t, arrivals.clone())),
            _ => Err(Error::config("no training is under way").hint("call startTraining first")),
        }
    }

    fn begin(&mut self, settings: Settings, from: Option<(u64, State)>) -> Result<()> {
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded)?;
        let source: Arc<dyn Source> = if self.use_dropped {
            Arc::new(self.dropped.clone())
        } else {
            Arc::new(SyntheticSource::new(0, SCENES, SCENE_SIDE))
        };
        let (training, arrivals) = Training::start(&self.gpu, weights, settings, source, from)?;
        self.loaded = Some(Loaded::new(Holder::Training(Box::new(training)), arrivals, weights)?);
        Ok(())
    }

    /// The weights as they are on the device.
    async fn current(&mut self) -> Result<Weights> {
        let weights = self.weights.clone().ok_or_else(nothing_loaded)?;
        match self.training() {
            Ok((training, arrivals)) => training.weights(&arrivals, &weights).await,
            Err(_) => Ok(weights),
        }
    }

    async fn inspect(
        &mut self,
        width: u32,
        height: u32,
        rgba: &[u8],
        mask: &[u8],
        output: &str,
    ) -> Result<Vec<f32>> {
        let picture = of_rgba(width as usize, height as usize, rgba)?;
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded)?;
        let view = loaded.viewer.request(&picture, vec![]).patch_view;
        let mut image = Vec::with_capacity(view.rgb.len());
        beit::data::normalize::push_normalized(&mut image, &view, Normalization::HALF);
        let words: Vec<u32> = mask.iter().map(|&m| u32::from(m != 0)).collect();
        let (plan, arrivals) = (loaded.inspect, loaded.arrivals.clone());
        let session = loaded.holder.session();
        session.write(plan, "image", Data::F32(&image))?;
        session.write(plan, "mask", Data::U32(&words))?;
        session.run(plan)?;
        let ticket = session.fetch(plan, &[output])?;
        let mut read = take(session, &arrivals, ticket).await?;
        Ok(read.pop().map(HostData::f32).unwrap_or_default())
    }

    async fn decode_cells(&mut self, ids: &[u32]) -> Result<Vec<Picture>> {
        let vocab = self.weights.as_ref().ok_or_else(nothing_loaded)?.dvae.vocab as u32;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab) {
            return Err(Error::data("no such token").expected(format!("below {vocab}")).got(id.to_string()));
        }
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded)?;
        let mut job = loaded.atlas.start(ids);
        let arrivals = loaded.arrivals.clone();
        finish(&arrivals, || job.advance(loaded.holder.session(), false)).await
    }
}

/// A reconstruction as a JavaScript object.
fn answer(found: &Reconstruction, top: usize) -> JsValue {
    let s = &found.shown;
    let mut pictures = Answer::new()
        .picture("original", &s.original)
        .picture("corrupted", &s.corrupted)
        .picture("reconstructed", &s.reconstructed)
        .picture("tokensOnly", &s.tokens_only)
        .picture("ceiling", &s.ceiling);
    for (key, picture) in [("sampled", &s.sampled), ("iterated", &s.iterated)] {
        if let Some(picture) = picture {
            pictures = pictures.picture(key, picture);
        }
    }
    let p = &found.patches;
    let words = |f: &dyn Fn(usize) -> u32| (0..p.len()).map(f).collect::<Vec<u32>>();
    let reals = |f: &dyn Fn(usize) -> f32| (0..p.len()).map(f).collect::<Vec<f32>>();
    let guess = |i: usize, k: usize| p[i].top.get(k).copied();
    let k = top.min(p.first().map_or(0, |r| r.top.len()));
    let top_ids: Vec<u32> = (0..p.len() * k).map(|j| guess(j / k, j % k).map_or(0, |g| g.id)).collect();
    let top_probabilities: Vec<f32> =
        (0..p.len() * k).map(|j| guess(j / k, j % k).map_or(0.0, |g| g.probability)).collect();
    let figures = serde_json::to_value(found.figures).unwrap_or_default();
    Answer::new()
        .put("rows", found.grid.0 as u32)
        .put("columns", found.grid.1 as u32)
        .put("vocab", found.vocab as u32)
        .put("top", k as u32)
        .words("mask", &words(&|i| u32::from(p[i].masked)))
        .words("trueIds", &words(&|i| p[i].true_id))
        .words("rank", &words(&|i| p[i].rank as u32))
        .words("round", &words(&|i| p[i].round.unwrap_or(0) as u32))
        .reals("trueProbability", &reals(&|i| p[i].true_probability))
        .reals("confidence", &reals(&|i| p[i].confidence()))
        .reals("entropy", &reals(&|i| p[i].entropy))
        .words("topIds", &top_ids)
        .reals("topProbabilities", &top_probabilities)
        .json("figures", &figures)
        .put("pictures", pictures.done())
        .done()
}
