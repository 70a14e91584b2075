//! Once a frame: what the engine found is taken over, textures follow, and what changed is asked for.

use std::sync::Arc;

use beit::data::{MaskKind, Picture};
use egui::{ColorImage, Context, TextureHandle, TextureId, TextureOptions};
use egui_wgpu::Renderer;

use super::{Beit, drawn_mask};
use crate::news::{Command, Layer, Wish};

impl Beit {
    /// Takes over what the engine found and asks for what changed. Every widget calls it; the first call of a frame
    /// does the work. Hosts need it only if they show no widget in a frame.
    pub fn update(&mut self, context: &Context) {
        if self.frame == Some(context.cumulative_frame_nr()) {
            return;
        }
        self.frame = Some(context.cumulative_frame_nr());
        self.board.attend(context);
        self.news = self.board.read();
        if let Some(renderer) = self.renderer.clone() {
            self.register(&mut renderer.write());
        }
        if let Some((name, picture)) = self.board.take_opened() {
            self.set_picture(picture, name);
        }
        if let Some(grid) = self.grid()
            && self.mask.len() != grid.0 * grid.1
        {
            self.mask = drawn_mask(grid, MaskKind::Blockwise, 0.4, self.seed);
            (self.chosen, self.asked) = (None, false);
        }
        self.follow_picture(context);
        self.follow_wants();
        #[cfg(target_arch = "wasm32")]
        if let Some((name, bytes)) = self.board.take_download() {
            download(&name, &bytes);
        }
        self.ask();
        if std::mem::take(&mut self.atlas_wanted) != self.atlas_told {
            self.atlas_told = !self.atlas_told;
            self.order(Command::WantAtlas(self.atlas_told));
        }
    }

    /// Lets the textures of the networks' pictures follow, for hosts with a renderer of their own: once a frame, before
    /// the widgets. Hosts on eframe need not call it.
    pub fn register(&mut self, renderer: &mut Renderer) {
        let (Some(device), true) = (&self.device, self.shown_generation != self.news.canvas_generation)
        else {
            return;
        };
        for (canvas, id) in self.news.canvases.iter().zip(&mut self.textures) {
            let Some(canvas) = canvas else { continue };
            let filter = wgpu::FilterMode::Nearest;
            match id {
                Some(id) => {
                    renderer.update_egui_texture_from_wgpu_texture(device, &canvas.view, filter, *id);
                }
                None => *id = Some(renderer.register_native_texture(device, &canvas.view, filter)),
            }
        }
        self.shown_generation = self.news.canvas_generation;
    }

    /// The texture of a layer and its size, if it shows what the news say.
    pub(crate) fn texture(&self, layer: Layer) -> Option<TextureId> {
        self.textures[layer as usize].filter(|_| self.shown_generation == self.news.canvas_generation)
    }
    /// The picture as the transformer takes it.
    pub(crate) fn original(&self) -> Option<TextureId> {
        self.original.as_ref().map(|(_, texture)| texture.id())
    }

    /// Keeps the texture of the original in step with picture and model.
    fn follow_picture(&mut self, context: &Context) {
        let (Some(picture), Some(model)) = (&self.picture, &self.news.model) else { return };
        let size = model.image;
        let same = |(kept, texture): &(Arc<Picture>, TextureHandle)| {
            Arc::ptr_eq(kept, picture) && texture.size() == [size.1, size.0]
        };
        if self.original.as_ref().is_some_and(same) {
            return;
        }
        let crop = picture.centred(size);
        let view = beit::data::resize(picture, crop, size.1, size.0, beit::data::Filter::Bicubic);
        let image = ColorImage::from_rgb([view.width, view.height], &view.rgb);
        let texture = context.load_texture("beit original", image, TextureOptions::NEAREST);
        self.original = Some((picture.clone(), texture));
    }

    /// What the widgets of the last frame want: more than before is asked for; less, only where looks go on by themselves.
    fn follow_wants(&mut self) {
        let more = self.wants_more();
        let (wants, before) = (std::mem::take(&mut self.wants), self.asked_for);
        if more || wants != before && self.news.training.is_some() {
            self.asked = false;
        }
        self.asked_for = wants;
    }

    /// Asks for a reconstruction if picture or mask changed.
    fn ask(&mut self) {
        let Some(picture) = self.picture.clone().filter(|_| !self.asked && self.mask.contains(&true)) else {
            return;
        };
        self.request += 1;
        self.asked = true;
        let mask: Arc<[bool]> = self.mask.clone().into();
        let (rounds, sampling) = (self.asked_for.rounds.unwrap_or(1), self.asked_for.sampling);
        self.order(Command::Look(Wish { request: self.request, picture, mask, rounds, sampling }));
    }
}

#[cfg(target_arch = "wasm32")]
#[wasm_bindgen::prelude::wasm_bindgen(module = "/src/host/download.js")]
extern "C" {
    /// Gives a file to the visitor.
    fn download(name: &str, bytes: &[u8]);
}
