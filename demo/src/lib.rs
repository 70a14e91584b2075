//! BEiT inside egui: widgets that show masked image modelling at work, on the host's wgpu device.
//!
//! ```no_run
//! # fn ui(ui: &mut beit_egui::egui::Ui, beit: &mut beit_egui::Beit) {
//! use beit_egui::{MaskEditor, ReconstructionView};
//! MaskEditor::new(beit).show(ui);
//! ReconstructionView::new(beit).show(ui);
//! # }
//! ```
//!
//! [`Beit`] is owned by the host: `Beit::on(cc.wgpu_render_state.as_ref())` in an eframe program, [`Beit::from_wgpu`] and
//! [`Beit::register`] with plain wgpu. The networks run on the host's device and queue; their pictures are textures that
//! never leave the device. egui's default device suffices; [`device_descriptor`] asks for what makes it faster.
//!
//! The types of `egui`, `egui_wgpu` and `wgpu` in this interface are those of the re-exported versions.

pub use beit;
pub use egui;
pub use egui_wgpu;
pub use egui_wgpu::wgpu;

#[cfg(feature = "app")]
pub mod app;
mod built_in;
mod engine;
mod field;
mod host;
mod news;
mod pace;
mod painter;
mod widgets;

pub use built_in::pair as built_in_networks;
pub use host::{Beit, Compute};
pub use news::{ModelFacts, Point, Seen, TrainOn, TrainingNews};
pub use widgets::{
    AttentionOverlay, CodebookAtlas, MaskEditor, ReconstructionView, TokenInspector, TrainingMonitor, View,
};

/// The optional features of an adapter that make the networks faster; none is needed.
pub fn required_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    beit::gpu::useful_features(adapter)
}

/// The limits that let the networks use what an adapter has; egui's own default limits suffice for small networks.
pub fn required_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    adapter.limits()
}

/// A device for a host that wants speed: what [`required_features`] and [`required_limits`] say.
pub fn device_descriptor(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
    wgpu::DeviceDescriptor {
        label: Some("egui and beit"),
        required_features: required_features(adapter),
        required_limits: required_limits(adapter),
        ..Default::default()
    }
}
