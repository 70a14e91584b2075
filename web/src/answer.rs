//! JavaScript objects from Rust values.

use beit::data::Picture;
use beit::tasks::reconstruct::Reconstruction;
use js_sys::{Float32Array, JSON, Object, Reflect, Uint8ClampedArray, Uint32Array};
use wasm_bindgen::JsValue;

/// An object under construction.
pub(crate) struct Answer(Object);

impl Answer {
    pub(crate) fn new() -> Self {
        Answer(Object::new())
    }
    /// Adds any value.
    pub(crate) fn put(self, key: &str, value: impl Into<JsValue>) -> Self {
        // Setting a property of a plain object cannot fail.
        let _ = Reflect::set(&self.0, &key.into(), &value.into());
        self
    }
    pub(crate) fn reals(self, key: &str, values: &[f32]) -> Self {
        self.put(key, Float32Array::from(values))
    }
    pub(crate) fn words(self, key: &str, values: &[u32]) -> Self {
        self.put(key, Uint32Array::from(values))
    }
    /// Adds `{width, height, data}` with RGBA samples: what `ImageData` is made of.
    pub(crate) fn picture(self, key: &str, picture: &Picture) -> Self {
        self.put(key, picture_object(picture))
    }
    pub(crate) fn json(self, key: &str, value: &serde_json::Value) -> Self {
        let parsed = JSON::parse(&value.to_string()).unwrap_or(JsValue::NULL);
        self.put(key, parsed)
    }
    pub(crate) fn done(self) -> JsValue {
        self.0.into()
    }
}

/// `{width, height, data}` with RGBA samples.
pub(crate) fn picture_object(picture: &Picture) -> JsValue {
    let rgba: Vec<u8> = picture.rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    Answer::new()
        .put("width", picture.width as u32)
        .put("height", picture.height as u32)
        .put("data", Uint8ClampedArray::from(&rgba[..]))
        .done()
}

/// A reconstruction as a JavaScript object.
pub(crate) fn reconstruction_object(found: &Reconstruction, top: usize) -> JsValue {
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
