//! Pictures and masks to look at: decoded files, built-in scenes, drawn masks.

use beit::data::{ImageLimits, MaskKind, MaskSpec, Source, SyntheticSource, decode, generate};
use beit::rng::{Key, Stream};
use beit::{Error, Result};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use crate::answer::picture_object;
use crate::engine::Engine;
use crate::fault::{Thrown, thrown};
use crate::loaded::nothing_loaded;
use crate::pictures::reduced;

#[wasm_bindgen]
impl Engine {
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
}
