//! The window: looking at a picture, training live, the codebook. Made of the widgets and nothing else.

mod chrome;
mod theme;
mod views;

use std::path::PathBuf;

use egui::{CentralPanel, Context, Frame, Margin, Panel, ScrollArea, Ui};

use crate::{Beit, Compute};

/// What the middle of the window shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tab {
    /// A picture, its mask, what the model makes of it.
    #[default]
    Look,
    /// A training to watch.
    Train,
    /// What the tokens decode to.
    Codebook,
}

/// What the window starts with.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// A run folder, a checkpoint folder or a weights file; without one the built-in model.
    pub model: Option<PathBuf>,
    /// A picture to look at; without one a built-in scene.
    pub picture: Option<PathBuf>,
    /// Where the networks are computed.
    pub compute: Compute,
}

/// The whole window.
pub struct App {
    beit: Beit,
    tab: Tab,
    scene: usize,
    /// The look is in place.
    dressed: bool,
}

impl App {
    /// The window's contents on an eframe window.
    pub fn new(cc: &eframe::CreationContext<'_>, start: Start) -> App {
        let compute = start.compute;
        App::with(Beit::on_with(cc.wgpu_render_state.as_ref(), compute), start)
    }

    /// The window's contents on any egui context.
    pub fn with(mut beit: Beit, start: Start) -> App {
        if let Some(model) = start.model {
            beit.open(model);
        }
        if let Some(picture) = start.picture {
            beit.show_path(picture);
        }
        App { beit, tab: Tab::default(), scene: 0, dressed: false }
    }

    /// The networks and the picture behind the window.
    pub fn beit(&mut self) -> &mut Beit {
        &mut self.beit
    }

    /// Draws the window.
    pub fn show(&mut self, ui: &mut Ui) {
        if !std::mem::replace(&mut self.dressed, true) {
            theme::apply(ui.ctx());
        }
        self.beit.update(ui.ctx());
        self.take_dropped(ui.ctx());
        let bar = Frame::new().fill(ui.visuals().window_fill).inner_margin(Margin::symmetric(16, 8));
        Panel::top("head").frame(bar).show(ui, |ui| chrome::head(self, ui));
        let bar = Frame::new().fill(ui.visuals().window_fill).inner_margin(Margin::symmetric(16, 6));
        Panel::bottom("status").frame(bar).show(ui, |ui| chrome::status(self, ui));
        let middle = Frame::new().fill(ui.visuals().panel_fill).inner_margin(Margin::same(14));
        CentralPanel::default().frame(middle).show(ui, |ui| {
            ScrollArea::vertical().auto_shrink([false, false]).show(ui, |ui| match self.tab {
                Tab::Look => views::look(self, ui),
                Tab::Train => views::train(self, ui),
                Tab::Codebook => views::codebook(self, ui),
            });
        });
        chrome::drop_hint(ui);
    }

    /// A dropped picture is looked at; several become pictures to train on as well.
    fn take_dropped(&mut self, context: &Context) {
        let dropped = context.input(|i| i.raw.dropped_files.clone());
        if dropped.is_empty() {
            return;
        }
        #[cfg(target_arch = "wasm32")]
        self.beit.read_dropped(dropped);
        #[cfg(not(target_arch = "wasm32"))]
        self.open_dropped(dropped.iter().map(|f| f.path().to_path_buf()).collect());
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn open_dropped(&mut self, paths: Vec<PathBuf>) {
        let weights = |p: &&PathBuf| p.is_dir() || p.extension().is_some_and(|e| e == "safetensors");
        if let Some(model) = paths.iter().find(weights) {
            self.beit.open(model.clone());
        } else if let Some(first) = paths.first() {
            self.beit.show_path(first.clone());
            self.beit.add_paths(paths);
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        self.show(ui);
    }
}
