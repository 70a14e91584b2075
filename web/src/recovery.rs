//! After a loss of the device.

use beit::gpu::Gpu;
use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::fault::{Thrown, thrown};
use crate::loaded::{Holder, Loaded};

#[wasm_bindgen]
impl Engine {
    /// After a loss: opens a device again and puts everything back, a training as of its last snapshot. Gives the number
    /// of updates that the training stands at, or −1 if there is none.
    pub async fn recover(&mut self) -> Thrown<i32> {
        if let Some(Loaded { holder: Holder::Training(t), .. }) = self.loaded.take() {
            self.kept = Some((t.live.settings, t.live.snapshot));
        }
        self.gpu = Gpu::create_async(None).await.map_err(thrown)?;
        // Kept until it is back on a device: the next try may find one where this one did not.
        if let Some((settings, snapshot)) = self.kept.clone() {
            let step = snapshot.0 as i32;
            self.begin(settings, Some(snapshot)).await.map_err(thrown)?;
            self.kept = None;
            return Ok(step);
        }
        if let Some(weights) = &self.weights {
            self.loaded = Some(Loaded::viewing(&self.gpu, weights).await.map_err(thrown)?);
        }
        Ok(-1)
    }
}
