//! Looking at a model: reconstructions, attention, ids, logits, features, tokens as pictures.

use beit::data::{Normalization, Picture, normalize::push_normalized};
use beit::session::{Data, HostData};
use beit::tasks::reconstruct::Sampling;
use beit::{Error, Result};
use js_sys::{Array, Float32Array, Uint32Array};
use wasm_bindgen::prelude::*;

use crate::answer::{picture_object, reconstruction_object};
use crate::engine::Engine;
use crate::fault::{Thrown, thrown};
use crate::loaded::nothing_loaded;
use crate::pictures::of_rgba;
use crate::waiting::{finish, take};

#[wasm_bindgen]
impl Engine {
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
        Ok(reconstruction_object(&found, top as usize))
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
    pub async fn tokenize(&mut self, width: u32, height: u32, rgba: Vec<u8>) -> Thrown<Uint32Array> {
        let picture = of_rgba(width as usize, height as usize, &rgba).map_err(thrown)?;
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded).map_err(thrown)?;
        let grid = loaded.viewer.grid();
        let request = loaded.viewer.request(&picture, vec![true; grid.0 * grid.1]);
        let mut job = loaded.viewer.start(request).map_err(thrown)?;
        let arrivals = loaded.arrivals.clone();
        let found = finish(&arrivals, || job.advance(loaded.holder.session(), false)).await;
        let found = found.map_err(thrown)?;
        let ids: Vec<u32> = found.patches.iter().map(|p| p.true_id).collect();
        Ok(Uint32Array::from(&ids[..]))
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
    pub async fn token_pictures(&mut self, ids: Vec<u32>) -> Thrown<Array> {
        let pictures = self.decode_cells(&ids).await.map_err(thrown)?;
        Ok(pictures.iter().map(picture_object).collect())
    }
}

impl Engine {
    async fn inspect(
        &mut self,
        width: u32,
        height: u32,
        rgba: &[u8],
        mask: &[u8],
        output: &str,
    ) -> Result<Vec<f32>> {
        let picture = of_rgba(width as usize, height as usize, rgba)?;
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded)?;
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded)?;
        let plan = loaded.inspection(&self.gpu, weights).await?;
        let view = loaded.viewer.request(&picture, vec![]).patch_view;
        let mut image = Vec::with_capacity(view.rgb.len());
        push_normalized(&mut image, &view, Normalization::HALF);
        let words: Vec<u32> = mask.iter().map(|&m| u32::from(m != 0)).collect();
        let arrivals = loaded.arrivals.clone();
        let session = loaded.holder.session();
        session.write(plan, "image", Data::F32(&image))?;
        session.write(plan, "mask", Data::U32(&words))?;
        session.run(plan)?;
        let ticket = session.fetch(plan, &[output])?;
        let mut read = take(session, &arrivals, ticket).await?;
        Ok(read.pop().map(HostData::f32).unwrap_or_default())
    }

    async fn decode_cells(&mut self, ids: &[u32]) -> Result<Vec<Picture>> {
        let weights = self.weights.as_ref().ok_or_else(nothing_loaded)?;
        let vocab = weights.dvae.vocab() as u32;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab) {
            return Err(Error::data("no such token").expected(format!("below {vocab}")).got(id.to_string()));
        }
        let loaded = self.loaded.as_mut().ok_or_else(nothing_loaded)?;
        let mut job = loaded.atlas(&self.gpu, weights).await?.start(ids);
        let arrivals = loaded.arrivals.clone();
        finish(&arrivals, || job.advance(loaded.holder.session(), false)).await
    }
}
