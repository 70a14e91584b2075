//! The connection between a window and the networks: owned by the host program, shared by all widgets.

mod frame;
#[cfg(target_arch = "wasm32")]
mod tasks;
#[cfg(not(target_arch = "wasm32"))]
mod thread;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};

use beit::data::{MaskKind, MaskSpec, Picture, generate};
use beit::gpu::Gpu;
use beit::rng::{Key, Stream};
use beit::tasks::reconstruct::Sampling;
use beit::train::{LiveSettings, Pair};
use egui::epaint::mutex::RwLock;
use egui::{TextureHandle, TextureId};
use egui_wgpu::{RenderState, Renderer};

use crate::engine::Engine;
use crate::news::{Board, Command, Layer, ModelFacts, News, Seen, TrainOn, TrainingNews};

/// Where the networks are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    /// On the host's device, unless it is a software adapter and there are threads: then on the processor without it.
    /// A software adapter holds up the window's frames while it computes, and takes several times as long.
    #[default]
    Auto,
    /// On the host's device.
    Device,
    /// On the processor, on a thread; in a browser, in tasks of the page.
    Processor,
}

/// What the widgets of a frame ask the networks for beyond the most probable tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Wants {
    /// Rounds of iterative decoding.
    rounds: Option<usize>,
    sampling: Option<Sampling>,
}

/// Networks on the host's device, the picture that is looked at, and what the widgets share: mask and chosen patch.
///
/// All work happens on a thread of its own (in a browser: in tasks between the frames), on the host's device and queue, in
/// submits of a few milliseconds. No call waits for the device, no global handler of it is set, and it is never
/// destroyed. Dropping this ends the work.
pub struct Beit {
    board: Arc<Board>,
    commands: Sender<Command>,
    news: News,
    /// Why nothing can be computed at all.
    unusable: Option<String>,
    device: Option<wgpu::Device>,
    renderer: Option<Arc<RwLock<Renderer>>>,
    textures: [Option<TextureId>; Layer::COUNT],
    shown_generation: u64,
    frame: Option<u64>,
    picture: Option<Arc<Picture>>,
    picture_name: String,
    original: Option<(Arc<Picture>, TextureHandle)>,
    mask: Vec<bool>,
    request: u64,
    asked: bool,
    /// The patch that inspector and attention are about.
    pub(crate) chosen: Option<usize>,
    /// A widget showed the codebook in this frame.
    atlas_wanted: bool,
    atlas_told: bool,
    /// What this frame's widgets want, and what was asked for last.
    wants: Wants,
    asked_for: Wants,
    computes_on: String,
    seed: u64,
}

impl Beit {
    /// On the device of an eframe window, with the built-in model. Without a render state (eframe on glow) or without
    /// compute shaders every widget says so instead of working.
    pub fn on(state: Option<&RenderState>) -> Beit {
        Beit::on_with(state, Compute::Auto)
    }

    /// As [`Beit::on`], with a choice of where the networks are computed.
    pub fn on_with(state: Option<&RenderState>, compute: Compute) -> Beit {
        let Some(state) = state else {
            return Beit::unusable("this window is not drawn with wgpu, so there is no device to compute on");
        };
        let mut beit = Beit::from_wgpu_with(&state.adapter, &state.device, &state.queue, compute);
        beit.renderer = Some(state.renderer.clone());
        beit
    }

    /// On plain wgpu handles, with the built-in model; call [`Beit::register`] once a frame before the widgets.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: &wgpu::Device, queue: &wgpu::Queue) -> Beit {
        Beit::from_wgpu_with(adapter, device, queue, Compute::Auto)
    }

    /// As [`Beit::from_wgpu`], with a choice of where the networks are computed.
    pub fn from_wgpu_with(
        adapter: &wgpu::Adapter,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        compute: Compute,
    ) -> Beit {
        let flags = adapter.get_downlevel_capabilities().flags;
        if !flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS) {
            let name = adapter.get_info().name;
            return Beit::unusable(&format!("{name} has no compute shaders here (a WebGL window has none)"));
        }
        match Gpu::from_wgpu(adapter, device.clone(), queue.clone()) {
            Ok(gpu) => Beit::with_gpu(gpu, device.clone(), compute),
            Err(e) => Beit::unusable(&e.to_string()),
        }
    }

    fn unusable(why: &str) -> Beit {
        let mut beit = Beit::bare(channel().0, None);
        beit.unusable = Some(why.to_string());
        beit
    }

    fn bare(commands: Sender<Command>, device: Option<wgpu::Device>) -> Beit {
        Beit {
            board: Arc::default(),
            commands,
            news: News::default(),
            unusable: None,
            device,
            renderer: None,
            textures: [None; Layer::COUNT],
            shown_generation: 0,
            frame: None,
            picture: None,
            picture_name: String::new(),
            original: None,
            mask: vec![],
            request: 0,
            asked: false,
            chosen: None,
            atlas_wanted: false,
            atlas_told: false,
            wants: Wants::default(),
            asked_for: Wants::default(),
            computes_on: String::new(),
            seed: 0,
        }
    }

    fn with_gpu(gpu: Gpu, device: wgpu::Device, compute: Compute) -> Beit {
        let (commands, orders) = channel();
        let mut beit = Beit::bare(commands, Some(device));
        let on_processor = match compute {
            Compute::Auto => gpu.is_software() && !cfg!(target_arch = "wasm32"),
            Compute::Device => false,
            Compute::Processor => true,
        };
        let name = gpu.info().name.clone();
        beit.computes_on = match (on_processor, gpu.is_software()) {
            (true, true) => format!("computed on the processor ({name} is a software adapter)"),
            (true, false) => "computed on the processor".into(),
            (false, true) if name.is_empty() => "computed by a software adapter".into(),
            (false, true) => format!("computed by a software adapter: {name}"),
            (false, false) => name,
        };
        #[cfg(not(target_arch = "wasm32"))]
        {
            let board = beit.board.clone();
            let work = move || thread::work(Engine::new(gpu, on_processor, board.clone()), &board, &orders);
            let thread = std::thread::Builder::new().name("beit".into()).spawn(work);
            if let Err(e) = thread {
                beit.unusable = Some(format!("no thread could be started: {e}"));
            }
        }
        #[cfg(target_arch = "wasm32")]
        tasks::start(Engine::new(gpu, on_processor, beit.board.clone()), orders);
        beit.show_scene(0);
        beit.order(Command::BuiltIn);
        beit
    }

    pub(crate) fn order(&self, command: Command) {
        // The other end is gone only if there is no device; the widgets say so.
        let _ = self.commands.send(command);
    }

    /// Loads networks that the host holds.
    pub fn load(&mut self, pair: Pair, name: &str) {
        self.order(Command::Load(Box::new(pair), name.to_string()));
    }
    /// Opens a run folder, a checkpoint folder or a weights file.
    pub fn open(&mut self, path: impl Into<PathBuf>) {
        self.order(Command::Open(path.into()));
    }
    /// Goes back to the built-in model.
    pub fn load_built_in(&mut self) {
        self.order(Command::BuiltIn);
    }

    /// Looks at a picture of any size; the centre of it in the model's aspect is taken.
    pub fn show_picture(&mut self, picture: Picture, name: &str) {
        self.set_picture(Arc::new(picture), name.to_string());
    }
    /// Looks at a built-in scene that no model was trained on.
    pub fn show_scene(&mut self, index: usize) {
        self.order(Command::ShowScene(index));
    }
    /// Decodes a picture file (PNG, JPEG, WebP, GIF, BMP) and looks at it.
    pub fn show_file(&mut self, name: &str, bytes: Vec<u8>) {
        self.order(Command::ShowFile(name.to_string(), bytes));
    }
    /// Reads a picture file and looks at it.
    pub fn show_path(&mut self, path: impl Into<PathBuf>) {
        self.order(Command::ShowPath(path.into()));
    }
    /// Adds picture files to those that may be trained on.
    pub fn add_pictures(&mut self, files: Vec<Vec<u8>>) {
        self.order(Command::AddFiles(files));
    }
    /// The same for files on disk.
    pub fn add_paths(&mut self, paths: Vec<PathBuf>) {
        self.order(Command::AddPaths(paths));
    }
    /// Pictures that may be trained on beside the built-in scenes.
    pub fn own_pictures(&self) -> usize {
        self.news.own_pictures
    }

    /// Starts a training; looking goes on beside it.
    pub fn train(&mut self, settings: LiveSettings, on: TrainOn) {
        self.order(Command::Train(settings, on));
    }
    /// Lets a training stand still or go on.
    pub fn pause(&mut self, paused: bool) {
        self.order(Command::Pause(paused));
    }
    /// Ends a training; `keep` what was learned up to its last copy (every 25 updates), or go back to before.
    pub fn end_training(&mut self, keep: bool) {
        self.order(Command::End(keep));
    }
    /// Writes the networks as a checkpoint folder that `beit` and transformers read; the folder must not exist yet.
    pub fn save(&mut self, dir: impl Into<PathBuf>) {
        self.order(Command::Save(dir.into()));
    }

    /// Writes what is looked at as a sheet of pictures (PNG): the original, what the model saw, predictions, maps. A page
    /// gives it to the visitor as a download of that name.
    pub fn save_picture(&mut self, path: impl Into<PathBuf>) {
        let (title, from) = (self.picture_name.clone(), self.chosen_patch());
        self.order(Command::SavePicture(path.into(), title, from));
    }

    /// Where the networks are computed, in words.
    pub fn computes_on(&self) -> &str {
        &self.computes_on
    }
    /// The loaded networks.
    pub fn model(&self) -> Option<&ModelFacts> {
        self.news.model.as_deref()
    }
    /// What the networks make of the picture under the mask, as of the last answer.
    pub fn seen(&self) -> Option<&Seen> {
        self.news.seen.as_deref()
    }
    /// The training under way.
    pub fn training(&self) -> Option<&TrainingNews> {
        self.news.training.as_ref()
    }
    /// What went wrong last.
    pub fn error(&self) -> Option<&str> {
        self.unusable.as_deref().or(self.news.error.as_deref())
    }
    /// Why nothing can be computed here at all.
    pub fn cannot_work(&self) -> Option<&str> {
        self.unusable.as_deref().or(self.news.error.as_deref().filter(|_| self.news.broken))
    }
    /// What goes on, for a status line; empty if nothing is being prepared.
    pub fn status(&self) -> &str {
        &self.news.status
    }
    /// What was done and is worth saying, such as where something was saved.
    pub fn note(&self) -> Option<&str> {
        self.news.note.as_deref()
    }
    /// Name of the picture that is looked at.
    pub fn picture_name(&self) -> &str {
        &self.picture_name
    }
    /// Hidden patches, row-major; empty until a model is loaded.
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }
    /// The patch that inspector and attention are about.
    pub fn chosen_patch(&self) -> Option<usize> {
        self.chosen.filter(|&p| p < self.mask.len())
    }
    /// Chooses the patch that inspector and attention are about.
    pub fn choose_patch(&mut self, patch: Option<usize>) {
        self.chosen = patch;
    }
    /// Rows and columns of the patch grid, once a model is loaded.
    pub fn grid(&self) -> Option<(usize, usize)> {
        self.model().map(|m| m.grid)
    }

    /// Hides these patches, row-major; ignored if there are not as many as the grid has.
    pub fn set_mask(&mut self, mask: Vec<bool>) {
        if mask.len() == self.mask.len() && mask != self.mask {
            self.mask = mask;
            self.asked = false;
        }
    }
    /// Hides a share of the patches in blocks, as in pre-training, or one by one; another choice at every call.
    pub fn draw_mask(&mut self, kind: MaskKind, share: f64) {
        self.seed += 1;
        if let Some(grid) = self.grid() {
            self.mask = drawn_mask(grid, kind, share, self.seed);
            self.asked = false;
        }
    }

    /// Ids of the codebook whose pictures are drawn; they are drawn once a widget asks for them.
    pub fn codebook_drawn(&self) -> usize {
        self.news.atlas_ready
    }
    /// Drawn ids and columns of the atlas.
    pub(crate) fn atlas(&self) -> (usize, usize) {
        (self.news.atlas_ready, self.news.atlas_columns)
    }
    pub(crate) fn want_atlas(&mut self) {
        self.atlas_wanted = true;
    }
    /// A widget of this frame shows iterative decoding in so many rounds.
    pub(crate) fn want_rounds(&mut self, rounds: usize) {
        self.wants.rounds = Some(rounds);
    }
    /// Whether this frame's widgets want what was not asked for yet; the next frame does that.
    pub(crate) fn wants_more(&self) -> bool {
        let (wants, before) = (&self.wants, &self.asked_for);
        wants.rounds.is_some() && wants.rounds != before.rounds
            || wants.sampling.is_some() && wants.sampling != before.sampling
    }
    /// A widget of this frame shows tokens drawn at a temperature.
    pub(crate) fn want_sampling(&mut self, sampling: Sampling) {
        self.wants.sampling = Some(sampling);
    }

    /// Reads dropped files, which a browser gives only later: the first is looked at, all may be trained on.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn read_dropped(&self, files: Vec<egui::DroppedFileHandle>) {
        let (orders, board) = (self.commands.clone(), self.board.clone());
        wasm_bindgen_futures::spawn_local(async move {
            let mut all = vec![];
            for file in &files {
                match file.bytes_async().await {
                    Ok(bytes) => all.push(bytes),
                    Err(e) => board.tell(|n| n.error = Some(format!("a dropped file cannot be read: {e}"))),
                }
            }
            if let (Some(first), Some(file)) = (all.first(), files.first()) {
                let name = file.path().display().to_string();
                let _ = orders.send(Command::ShowFile(name, first.clone()));
            }
            let _ = orders.send(Command::AddFiles(all));
            board.tell(|_| {});
        });
    }

    fn set_picture(&mut self, picture: Arc<Picture>, name: String) {
        (self.picture, self.picture_name, self.asked) = (Some(picture), name, false);
    }
}

impl Drop for Beit {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::Relaxed);
        if let Some(renderer) = &self.renderer {
            let mut renderer = renderer.write();
            self.textures.iter().flatten().for_each(|id| renderer.free_texture(id));
        }
    }
}

/// A mask with a share of the patches hidden, one at least.
pub(crate) fn drawn_mask(
    (rows, columns): (usize, usize),
    kind: MaskKind,
    share: f64,
    seed: u64,
) -> Vec<bool> {
    let cells = rows * columns;
    let target = ((cells as f64 * share).round() as usize).clamp(1, cells);
    let blocks = MaskSpec::blockwise(rows, columns, target, (cells / 16).clamp(1, target));
    generate(&MaskSpec { kind, ..blocks }, Key::new(seed, Stream::Mask, 0))
}
