//! A window without a screen, on a device with egui's own default limits.
#![allow(dead_code)] // each test file uses its own part

use std::time::{Duration, Instant};

use beit_egui::beit::cpu::CpuSession;
use beit_egui::beit::data::{Source, SyntheticSource};
use beit_egui::beit::tasks::reconstruct::{Shown as Pictures, Viewer};
use beit_egui::egui::Ui;
use beit_egui::egui_wgpu::RenderState;
use beit_egui::{
    AttentionOverlay, Beit, CodebookAtlas, Compute, MaskEditor, ReconstructionView, Seen, TokenInspector,
    TrainingMonitor, View,
};
use egui_kittest::Harness;
use egui_kittest::wgpu::{WgpuTestRenderer, create_render_state, default_wgpu_setup};

/// Longest wait for something, on a software adapter of a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Which widget the window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Mask,
    Reconstruction,
    Tokens,
    Attention,
    Codebook,
    Training,
}

pub struct State {
    pub beit: Beit,
    pub show: Shown,
    /// What the reconstruction view shows; `None`: what its buttons say.
    pub layer: Option<View>,
}

impl State {
    /// Whether the token inspector has pictures to show.
    pub fn atlas_is_ready(&self) -> bool {
        self.beit.codebook_drawn() == self.beit.model().map_or(1, |m| m.vocab)
    }
    fn draw(&mut self, ui: &mut Ui) {
        let beit = &mut self.beit;
        match self.show {
            Shown::Mask => drop(MaskEditor::new(beit).show(ui)),
            Shown::Reconstruction => {
                let view = ReconstructionView::new(beit);
                match self.layer {
                    Some(layer) => view.layer(layer).show(ui),
                    None => view.show(ui),
                };
            }
            Shown::Tokens => drop(TokenInspector::new(beit).show(ui)),
            Shown::Attention => drop(AttentionOverlay::new(beit).show(ui)),
            Shown::Codebook => drop(CodebookAtlas::new(beit).show(ui)),
            Shown::Training => drop(TrainingMonitor::new(beit).show(ui)),
        }
    }
}

pub type Window = Harness<'static, State>;

/// A device as egui opens it by default; none without an adapter.
pub fn device() -> Option<RenderState> {
    if beit_egui::beit::gpu::list_adapters().is_empty() {
        eprintln!(
            "NO GPU ADAPTER: the egui widgets were not tested (sh setup.sh installs a software driver)"
        );
        return None;
    }
    Some(create_render_state(default_wgpu_setup(), beit_egui::egui_wgpu::RendererOptions::PREDICTABLE))
}

pub fn window(state: &RenderState, size: [f32; 2]) -> Window {
    window_on(state, size, Compute::Device)
}

/// The same with a choice of where the networks are computed.
pub fn window_on(state: &RenderState, size: [f32; 2], compute: Compute) -> Window {
    let (beit, render) = (Beit::on_with(Some(state), compute), state.clone());
    let state = State { beit, show: Shown::Mask, layer: None };
    Harness::builder()
        .with_size(size)
        .renderer(WgpuTestRenderer::from_render_state(render))
        .build_ui_state(|ui, state| state.draw(ui), state)
}

/// Frames until something holds.
pub fn settle(window: &mut Window, what: &str, holds: impl Fn(&State) -> bool) {
    let start = Instant::now();
    while !holds(window.state()) {
        assert!(
            start.elapsed() < PATIENCE,
            "no {what} after {PATIENCE:?}: {:?}",
            window.state().beit.error()
        );
        if let Some(e) = window.state().beit.error() {
            panic!("waiting for {what}: {e}");
        }
        std::thread::sleep(Duration::from_millis(10));
        window.step();
    }
}

/// The pictures of the same request from the f32 session on the CPU.
pub fn engine_pictures(seen: &Seen) -> Pictures {
    let pair = beit_egui::built_in_networks(1 << 27).expect("the built-in networks");
    let mut session = CpuSession::<f32>::new();
    let models = pair.viewed(beit_egui::beit::graph::PageKind::Param);
    let viewer =
        Viewer::open(&mut session, &models, &pair.model_pages, &pair.tokenizer_pages).expect("plans");
    let scene =
        SyntheticSource::new(0, u32::MAX as usize >> 1, 256).load(1_000_000).expect("the first scene");
    let request = viewer.request(&scene.picture, seen.mask.to_vec());
    assert_eq!(request.patch_view, *seen.picture, "the window looks at the first scene");
    viewer.look(&mut session, request).expect("a reconstruction").shown
}
