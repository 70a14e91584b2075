//! The networks on the host's device: looks, the codebook's atlas, training, a share of work at a time. Nothing here waits.
//!
//! [`Engine::advance`] is called over and over: by a thread of its own on the desktop, by the window's frames in a
//! browser. Results go to the [`Board`]; pixels go to textures on the device.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use beit::data::source::{Album, reduced};
use beit::data::{ImageLimits, Picture, Source, SyntheticSource, decode};
use beit::gpu::{Gpu, GpuSession, Standing};
use beit::graph::PageKind;
use beit::models::mim::TOKENIZER;
use beit::session::Session;
use beit::tasks::atlas::Atlas;
use beit::tasks::pretrain::MODEL;
use beit::tasks::reconstruct::{LookJob, Looked, Score, Viewer};
use beit::train::{LiveSettings, LiveTraining, Pair, page_bytes};
use beit::{Error, Result};

use crate::built_in;
use crate::news::{Board, Command, Layer, ModelFacts, Point, Seen, TrainOn, TrainingNews, Wish};
use crate::pace::Pace;
use crate::painter::{Canvas, Painter, Squares};

/// Built-in scenes for training, and their side in pixels.
const SCENES: usize = 10_000;
const SCENE_SIDE: usize = 64;
/// Side in pixels of the built-in scenes that are looked at.
const SHOWN_SIDE: usize = 256;
/// Pictures are looked at with at most this side.
const LONGEST: usize = 512;
/// Guesses listed for a patch.
const TOP: usize = 8;
/// Seconds between two looks at the networks while they are trained, and between two drawings of the codebook.
const LOOK_EVERY: f64 = 0.5;
const ATLAS_EVERY: f64 = 4.0;
/// Ids that are decoded at once.
const AT_ONCE: usize = 32;

enum Holder {
    Viewing(Box<dyn Session>),
    Training(Box<LiveTraining>),
}

impl Holder {
    fn session(&mut self) -> &mut dyn Session {
        match self {
            Holder::Viewing(session) => session.as_mut(),
            Holder::Training(training) => training.stepper.session.as_mut(),
        }
    }
}

/// Networks on the device and what is drawn of them.
struct Loaded {
    holder: Holder,
    viewer: Viewer,
    atlas: Atlas,
    canvases: [Canvas; 3],
}

/// A look under way.
enum Looking {
    Networks(Wish, Box<LookJob>),
    /// The pixels are being decoded and drawn; the flag is set when that was submitted.
    Drawing(Arc<Seen>, Arc<AtomicBool>),
}

/// See the module text.
pub(crate) struct Engine {
    gpu: Gpu,
    painter: Painter,
    board: Arc<Board>,
    pair: Option<Pair>,
    name: String,
    loaded: Option<Loaded>,
    wish: Option<Wish>,
    looking: Option<Looking>,
    looked_at: f64,
    look_again: bool,
    want_atlas: bool,
    /// Ids drawn, and the flag of the batch under way.
    atlas_drawn: usize,
    atlas_batch: Option<Arc<AtomicBool>>,
    atlas_at: f64,
    album: Album,
    paused: bool,
    curve: Arc<Vec<Point>>,
    stepped_at: f64,
    pace: Pace,
}

impl Engine {
    pub(crate) fn new(gpu: Gpu, board: Arc<Board>) -> Engine {
        Engine {
            painter: Painter::new(&gpu),
            pace: Pace::new(gpu.is_software()),
            gpu,
            board,
            pair: None,
            name: String::new(),
            loaded: None,
            wish: None,
            looking: None,
            looked_at: 0.0,
            look_again: false,
            want_atlas: false,
            atlas_drawn: 0,
            atlas_batch: None,
            atlas_at: 0.0,
            album: Album::default(),
            paused: false,
            curve: Arc::default(),
            stepped_at: 0.0,
        }
    }

    /// Goes on as far as it can without waiting; `true`: there is more, call again soon. `now` is in seconds.
    pub(crate) fn advance(&mut self, now: f64) -> bool {
        match self.try_advance(now) {
            Ok(busy) => busy,
            Err(e) => {
                self.failed(&e);
                false
            }
        }
    }

    fn failed(&mut self, e: &Error) {
        let broken = self.gpu.check().is_err();
        (self.looking, self.atlas_batch, self.wish) = (None, None, None);
        // What is on the device may be half done; the weights on the host are whole.
        self.loaded = None;
        self.curve = Arc::default();
        if !broken && let Some(pair) = self.pair.clone() {
            let viewing = self.view(&pair);
            if viewing.is_err() {
                self.loaded = None;
            }
        }
        self.board.tell(|n| {
            (n.error, n.broken, n.training) = (Some(e.to_string()), broken, None);
            n.status.clear();
        });
    }

    /// Does what the widgets ask for.
    pub(crate) fn obey(&mut self, command: Command, now: f64) {
        if let Err(e) = self.try_obey(command, now) {
            self.board.tell(|n| {
                n.error = Some(e.to_string());
                n.status.clear();
            });
        }
    }

    fn try_obey(&mut self, command: Command, now: f64) -> Result<()> {
        match command {
            Command::Load(pair, name) => self.load(*pair, name),
            Command::BuiltIn => {
                self.say("loading the built-in model");
                let pair = built_in::pair(page_bytes(&self.gpu.caps()))?;
                self.load(pair, "built-in model".into())
            }
            Command::Open(path) => self.open(&path),
            Command::Look(wish) => {
                self.wish = Some(wish);
                Ok(())
            }
            Command::WantAtlas(want) => {
                self.want_atlas = want;
                Ok(())
            }
            Command::ShowFile(name, bytes) => self.show(name, &bytes),
            Command::ShowScene(index) => {
                let named = (format!("built-in scene {}", index + 1), Arc::new(scene(index)?));
                self.board.tell(|n| n.opened = Some(named));
                Ok(())
            }
            Command::ShowPath(path) => {
                let bytes = read(&path)?;
                self.show(file_name(&path), &bytes)
            }
            Command::AddFiles(files) => self.add(files.into_iter().map(Ok)),
            Command::AddPaths(paths) => self.add(paths.iter().map(|p| read(p))),
            Command::Train(settings, on) => self.train(settings, on, now),
            Command::Pause(paused) => {
                self.paused = paused;
                self.stepped_at = now;
                self.tell_training();
                Ok(())
            }
            Command::End(keep) => self.end(keep),
            Command::Save(dir) => self.save(&dir),
        }
    }

    fn say(&self, status: &str) {
        self.board.tell(|n| n.status = status.into());
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn open(&mut self, path: &Path) -> Result<()> {
        self.say("loading the model");
        let pair = Pair::open(path, None, page_bytes(&self.gpu.caps()))?;
        self.load(pair, path.display().to_string())
    }
    #[cfg(target_arch = "wasm32")]
    fn open(&mut self, path: &Path) -> Result<()> {
        Err(Error::config("a page cannot open folders").got(path.display().to_string()))
    }

    fn load(&mut self, pair: Pair, name: String) -> Result<()> {
        self.say("preparing kernels");
        self.view(&pair)?;
        (self.pair, self.name) = (Some(pair), name);
        self.curve = Arc::default();
        self.tell_model();
        Ok(())
    }

    /// Puts networks on the device for looking.
    fn view(&mut self, pair: &Pair) -> Result<()> {
        let mut session: Box<dyn Session> = Box::new(GpuSession::deferred(self.gpu.clone()));
        pair.put(session.as_mut(), MODEL)?;
        pair.put(session.as_mut(), TOKENIZER)?;
        self.hold(Holder::Viewing(session), pair)
    }

    /// Loads the plans of looking beside what a session holds.
    fn hold(&mut self, mut holder: Holder, pair: &Pair) -> Result<()> {
        let pages = match &holder {
            Holder::Training(t) => t.tokenizer_pages(),
            Holder::Viewing(_) => PageKind::Param,
        };
        let session = holder.session();
        let viewer = Viewer::load(session, &pair.viewed(pages))?;
        let atlas = Atlas::load(session, &pair.dvae, &pair.tokenizer, pages, AT_ONCE)?;
        let facts = facts(pair, self.name.clone());
        let (columns, rows) = atlas_grid(facts.vocab);
        let cell = pair.dvae.stride();
        let (h, w) = facts.token_image;
        let picture = [w as u32, h as u32];
        let canvases = [
            self.painter.canvas("beit reconstruction", picture),
            self.painter.canvas("beit ceiling", picture),
            self.painter.canvas("beit codebook", [(columns * cell) as u32, (rows * cell) as u32]),
        ];
        let shown = canvases.clone().map(Some);
        self.board.tell(|n| {
            (n.canvases, n.canvas_generation) = (shown, n.canvas_generation + 1);
            (n.atlas_ready, n.atlas_columns) = (0, columns);
            (n.seen, n.model) = (None, Some(Arc::new(facts)));
            n.status.clear();
        });
        (self.looking, self.atlas_drawn, self.atlas_batch) = (None, 0, None);
        (self.looked_at, self.atlas_at) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        self.loaded = Some(Loaded { holder, viewer, atlas, canvases });
        Ok(())
    }

    fn tell_model(&self) {
        let facts = self.pair.as_ref().map(|pair| Arc::new(facts(pair, self.name.clone())));
        self.board.tell(|n| (n.model, n.error, n.training) = (facts, None, None));
    }

    fn show(&mut self, name: String, bytes: &[u8]) -> Result<()> {
        let limits = if cfg!(target_arch = "wasm32") { ImageLimits::web() } else { ImageLimits::default() };
        let picture = decode(bytes, &limits).map_err(|e| e.at(name.clone()))?;
        let picture = Arc::new(reduced(&picture, LONGEST));
        self.board.tell(|n| (n.opened, n.error) = (Some((name, picture)), None));
        Ok(())
    }

    fn add(&mut self, files: impl Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
        let (mut bad, mut last) = (0, None);
        for bytes in files {
            let added = bytes.and_then(|b| decode(&b, &ImageLimits::web())).and_then(|p| self.album.add(&p));
            if let Err(e) = added {
                (bad, last) = (bad + 1, Some(e));
            }
        }
        let have = self.album.len();
        self.board.tell(|n| n.own_pictures = have);
        match last {
            Some(e) => Err(Error::data(format!("{bad} files could not be added")).got(e.to_string())),
            None => Ok(()),
        }
    }

    fn train(&mut self, settings: LiveSettings, on: TrainOn, now: f64) -> Result<()> {
        let pair = self.pair.clone().ok_or_else(nothing_loaded)?;
        let source: Arc<dyn Source> = match on {
            TrainOn::Scenes => Arc::new(SyntheticSource::new(0, SCENES, SCENE_SIDE)),
            TrainOn::Own => Arc::new(self.album.clone()),
        };
        self.say("preparing the training");
        let session = Box::new(GpuSession::deferred(self.gpu.clone()));
        let training = LiveTraining::start(session, &pair, settings, source, None)?;
        self.hold(Holder::Training(Box::new(training)), &pair)?;
        (self.paused, self.curve, self.stepped_at) = (false, Arc::default(), now);
        self.board.tell(|n| n.error = None);
        self.tell_training();
        Ok(())
    }

    fn end(&mut self, keep: bool) -> Result<()> {
        if let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded
            && let Some(pair) = &self.pair
        {
            let pair = if keep { t.trained(pair) } else { pair.clone() };
            self.view(&pair)?;
            self.pair = Some(pair);
        }
        self.tell_model();
        Ok(())
    }

    fn save(&mut self, dir: &Path) -> Result<()> {
        let mut pair = self.pair.clone().ok_or_else(nothing_loaded)?;
        if let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded {
            pair = t.trained(&pair);
        }
        let files = pair.files()?;
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (*n, b.as_slice())).collect();
        beit::io::atomic::write_folder(dir, &files)?;
        let note = format!("saved in {}", dir.display());
        self.board.tell(|n| (n.note, n.error) = (Some(note), None));
        Ok(())
    }

    fn tell_training(&self) {
        let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded else { return };
        let (settings, curve, paused, done) = (t.settings, self.curve.clone(), self.paused, t.done());
        self.board.tell(|n| n.training = Some(TrainingNews { settings, curve, paused, done }));
    }

    fn try_advance(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        let session = loaded.holder.session();
        let mut busy = false;
        if let Some(gpu) = session.as_gpu() {
            let standing = gpu.advance(self.pace.work())?;
            self.pace.note(standing, now);
            busy = standing != Standing::Idle;
        }
        busy |= self.look(now)?;
        busy |= self.step(now)?;
        busy |= self.draw_atlas(now)?;
        Ok(busy)
    }

    /// Advances the look under way, or starts the one that is asked for.
    fn look(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        match self.looking.take() {
            Some(Looking::Networks(wish, mut job)) => {
                self.looking = Some(match job.advance(loaded.holder.session(), false)? {
                    None => Looking::Networks(wish, job),
                    Some(found) => loaded.draw(&self.painter, &wish, &job, found)?,
                });
                Ok(true)
            }
            Some(Looking::Drawing(seen, drawn)) => {
                if drawn.load(Ordering::Acquire) {
                    self.board.tell(|n| n.seen = Some(seen));
                } else {
                    self.looking = Some(Looking::Drawing(seen, drawn));
                }
                Ok(true)
            }
            None => {
                let training = matches!(loaded.holder, Holder::Training(_)) && !self.paused;
                let due = training && now - self.looked_at >= LOOK_EVERY;
                let fresh = self.board.read().seen.map(|s| s.request);
                let Some(wish) =
                    self.wish.clone().filter(|w| due || self.look_again || fresh != Some(w.request))
                else {
                    return Ok(false);
                };
                (self.looked_at, self.look_again) = (now, false);
                let mut request = loaded.viewer.request(&wish.picture, wish.mask.to_vec());
                (request.top, request.attention) = (TOP, wish.attention);
                // A mask of another grid is on its way out: the widgets make a new one for the new networks.
                if wish.mask.len() != loaded.viewer.grid().0 * loaded.viewer.grid().1 {
                    self.wish = None;
                    return Ok(false);
                }
                let job = loaded.viewer.start_look(request)?;
                self.looking = Some(Looking::Networks(wish, Box::new(job)));
                Ok(true)
            }
        }
    }

    /// Advances the training, if there is one that should go on.
    fn step(&mut self, now: f64) -> Result<bool> {
        let Some(Loaded { holder: Holder::Training(training), .. }) = &mut self.loaded else {
            return Ok(false);
        };
        let resting = !training.under_way() && (self.paused || training.done());
        if resting {
            return Ok(false);
        }
        if let Some(figures) = training.advance()? {
            let took = (now - self.stepped_at).max(1e-3);
            self.stepped_at = now;
            Arc::make_mut(&mut self.curve).push(Point { figures, rate: figures.batch as f64 / took });
            // One more look at what came out.
            self.look_again |= training.done();
            self.tell_training();
        }
        Ok(true)
    }

    /// Draws the next ids of the codebook, if somebody looks at it.
    fn draw_atlas(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        let vocab = loaded.viewer.vit().vocab;
        if let Some(drawn) = &self.atlas_batch {
            if !drawn.load(Ordering::Acquire) {
                return Ok(true);
            }
            self.atlas_batch = None;
            let ready = self.atlas_drawn;
            self.board.tell(|n| n.atlas_ready = n.atlas_ready.max(ready));
        }
        let training = matches!(loaded.holder, Holder::Training(_)) && !self.paused;
        if self.atlas_drawn >= vocab && training && now - self.atlas_at >= ATLAS_EVERY {
            self.atlas_drawn = 0;
        }
        if !self.want_atlas || self.atlas_drawn >= vocab {
            return Ok(false);
        }
        let first = self.atlas_drawn;
        let end = vocab.min(first + loaded.atlas.batch());
        self.atlas_batch = Some(loaded.draw_tokens(&self.painter, first..end)?);
        (self.atlas_drawn, self.atlas_at) = (end, now);
        Ok(true)
    }
}

impl Loaded {
    /// Decodes what was found and draws it; it counts as seen when that was submitted.
    fn draw(&mut self, painter: &Painter, wish: &Wish, job: &LookJob, found: Looked) -> Result<Looking> {
        let filled: Vec<u32> = (found.patches.iter().zip(&found.true_ids))
            .map(|(p, &id)| if p.masked { p.predicted() } else { id })
            .collect();
        let (plan, output) = self.viewer.decoded();
        let drawn = Arc::new(AtomicBool::new(false));
        for (ids, layer) in [(&filled, Layer::Filled), (&found.true_ids, Layer::Ceiling)] {
            self.viewer.run_decode(self.holder.session(), ids)?;
            let gpu = self.holder.session().as_gpu().ok_or_else(no_gpu)?;
            let drawing = painter.picture(&gpu.output(plan, output)?, &self.canvases[layer as usize]);
            gpu.draw(drawing);
        }
        let done = drawn.clone();
        if let Some(gpu) = self.holder.session().as_gpu() {
            gpu.draw(Box::new(move |_| done.store(true, Ordering::Release)));
        }
        let seen = Seen {
            request: wish.request,
            picture: Arc::new(job.request().patch_view.clone()),
            mask: wish.mask.clone(),
            score: Score::of(&found.patches),
            patches: found.patches,
            attention: found.attention,
        };
        Ok(Looking::Drawing(Arc::new(seen), drawn))
    }

    /// Decodes ids of the codebook and draws them into the atlas.
    fn draw_tokens(&mut self, painter: &Painter, ids: std::ops::Range<usize>) -> Result<Arc<AtomicBool>> {
        let list: Vec<u32> = ids.clone().map(|id| id as u32).collect();
        let session = self.holder.session();
        self.atlas.run(session, &list)?;
        let gpu = session.as_gpu().ok_or_else(no_gpu)?;
        let (plan, output) = self.atlas.decoded();
        let (first, side, _) = self.atlas.cell();
        let squares = Squares {
            first: first as u32,
            side: side as u32,
            columns: atlas_grid(self.viewer.vit().vocab).0 as u32,
            start: ids.start as u32,
            count: ids.len() as u32,
        };
        let canvas = &self.canvases[Layer::Atlas as usize];
        let drawing = painter.squares(&gpu.output(plan, output)?, canvas, squares);
        let drawn = Arc::new(AtomicBool::new(false));
        let done = drawn.clone();
        gpu.draw(Box::new(move |encoder| {
            drawing(encoder);
            done.store(true, Ordering::Release);
        }));
        Ok(drawn)
    }
}

/// Columns and rows of the atlas of a codebook.
pub(crate) fn atlas_grid(vocab: usize) -> (usize, usize) {
    let columns = (1..).find(|c| c * c >= vocab).unwrap_or(1);
    (columns, vocab.div_ceil(columns))
}

fn facts(pair: &Pair, name: String) -> ModelFacts {
    ModelFacts {
        name,
        image: pair.vit.image,
        grid: pair.vit.grid(),
        token_image: beit::tasks::reconstruct::token_side(&pair.vit, &pair.dvae),
        vocab: pair.vit.vocab,
        depth: pair.vit.depth,
        heads: pair.vit.heads,
        width: pair.vit.width,
        parameters: (pair.model.parameters(), pair.tokenizer.parameters()),
    }
}

fn nothing_loaded() -> Error {
    Error::config("no model is loaded").hint("open a run folder, or use the built-in model")
}

fn no_gpu() -> Error {
    Error::device("a session that draws must run on the window's device")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io("cannot read the picture", path, &e))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

/// A picture of the built-in scenes; scenes from a million on are never trained on.
fn scene(index: usize) -> Result<Picture> {
    Ok(SyntheticSource::new(0, u32::MAX as usize >> 1, SHOWN_SIDE).load(1_000_000 + index)?.picture)
}
