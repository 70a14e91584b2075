//! JavaScript objects from Rust values.

use beit::data::Picture;
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
