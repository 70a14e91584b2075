//! What the engine tells the widgets, and what they ask of it.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use beit::data::Picture;
use beit::tasks::reconstruct::{AttentionMaps, PatchReport, Sampling, Score};
use beit::train::{LiveFigures, LiveSettings, Pair};
use egui::Context;

use crate::painter::Canvas;

/// Sizes of the loaded networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFacts {
    /// Where they come from, for people.
    pub name: String,
    /// Height and width of the picture in pixels.
    pub image: (usize, usize),
    /// Rows and columns of the patch grid.
    pub grid: (usize, usize),
    /// Height and width of the tokenizer's picture in pixels.
    pub token_image: (usize, usize),
    /// Vocabulary V.
    pub vocab: usize,
    /// Blocks of the transformer.
    pub depth: usize,
    /// Heads of a block.
    pub heads: usize,
    /// Width of the transformer.
    pub width: usize,
    /// Parameters of the transformer and of the tokenizer.
    pub parameters: (usize, usize),
}

/// What the networks make of the picture under the mask. Its pixels are on the device.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Number of the request that it answers.
    pub request: u64,
    /// The picture as the transformer takes it.
    pub picture: Arc<Picture>,
    /// Hidden patches `[n]`, row-major.
    pub mask: Arc<[bool]>,
    /// Every patch, row-major.
    pub patches: Vec<PatchReport>,
    /// How well hidden patches are predicted.
    pub score: Score,
    /// Attention maps.
    pub attention: Option<AttentionMaps>,
    /// Rounds of iterative decoding; 1: none was asked for.
    pub rounds: usize,
    /// How tokens were drawn, if that was asked for.
    pub sampling: Option<Sampling>,
}

/// A training as the widgets see it.
#[derive(Debug, Clone)]
pub struct TrainingNews {
    /// Its settings.
    pub settings: LiveSettings,
    /// Figures of its updates so far.
    pub curve: Arc<Vec<Point>>,
    /// Whether it stands still on request.
    pub paused: bool,
    /// Whether all updates were done.
    pub done: bool,
}

/// Figures of one update with the time it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Figures.
    pub figures: LiveFigures,
    /// Pictures per second since the update before.
    pub rate: f64,
}

/// Pictures that are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainOn {
    /// Built-in scenes.
    Scenes,
    /// Pictures given to [`crate::Beit::add_pictures`].
    Own,
}

/// State of the engine.
#[derive(Debug, Clone, Default)]
pub(crate) struct News {
    pub model: Option<Arc<ModelFacts>>,
    pub seen: Option<Arc<Seen>>,
    pub training: Option<TrainingNews>,
    /// What goes on, for the status line.
    pub status: String,
    /// What went wrong last.
    pub error: Option<String>,
    /// The device is of no further use.
    pub broken: bool,
    /// Where pictures are drawn, by [`Layer`].
    pub canvases: [Option<Canvas>; Layer::COUNT],
    /// Counts up when a canvas is another texture than before.
    pub canvas_generation: u64,
    /// Ids of the codebook that are drawn.
    pub atlas_ready: usize,
    /// Columns of the atlas.
    pub atlas_columns: usize,
    /// Pictures of the user for training.
    pub own_pictures: usize,
    /// A picture that was decoded, with its name: the widgets take it over.
    pub opened: Option<(String, Arc<Picture>)>,
    /// Something that was saved or is worth saying.
    pub note: Option<String>,
    /// A file for the visitor of a page: its name and its bytes; the window takes it over.
    pub download: Option<(String, Vec<u8>)>,
}

/// Which canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Filled = 0,
    Ceiling = 1,
    Iterated = 2,
    Sampled = 3,
    Atlas = 4,
}

impl Layer {
    pub const COUNT: usize = 5;
}

/// A reconstruction that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub request: u64,
    pub picture: Arc<Picture>,
    pub mask: Arc<[bool]>,
    pub rounds: usize,
    pub sampling: Option<Sampling>,
}

/// What the widgets ask for.
pub(crate) enum Command {
    Load(Box<Pair>, String),
    BuiltIn,
    Open(PathBuf),
    Look(Wish),
    /// Whether somebody looks at the codebook.
    WantAtlas(bool),
    /// Decodes a picture file and shows it; the name and the bytes.
    ShowFile(String, Vec<u8>),
    /// Adds picture files to those that may be trained on.
    AddFiles(Vec<Vec<u8>>),
    /// Shows a built-in scene.
    ShowScene(usize),
    ShowPath(PathBuf),
    AddPaths(Vec<PathBuf>),
    Train(LiveSettings, TrainOn),
    Pause(bool),
    /// Ends the training; whether what was learned is kept.
    End(bool),
    /// Writes the networks as a checkpoint folder.
    Save(PathBuf),
    /// Writes what is looked at as a sheet of pictures (PNG); the patch whose attention is shown on it.
    SavePicture(PathBuf, String, Option<usize>),
}

/// Shared by the engine and the widgets.
#[derive(Default)]
pub(crate) struct Board {
    news: Mutex<News>,
    context: Mutex<Option<Context>>,
    pub stop: AtomicBool,
}

impl Board {
    pub(crate) fn read(&self) -> News {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Changes the news and wakes the window.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake();
    }
    /// Takes over what is given only once.
    pub(crate) fn take_opened(&self) -> Option<(String, Arc<Picture>)> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).opened.take()
    }
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn take_download(&self) -> Option<(String, Vec<u8>)> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).download.take()
    }
    pub(crate) fn attend(&self, context: &Context) {
        let mut kept = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = Some(context.clone());
        }
    }
    fn wake(&self) {
        if let Some(context) = &*self.context.lock().unwrap_or_else(PoisonError::into_inner) {
            context.request_repaint();
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
