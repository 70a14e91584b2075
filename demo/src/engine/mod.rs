//! The networks on the host's device: looks, the codebook's atlas, training, a share of work at a time. Nothing here waits.
//!
//! [`Engine::advance`] is called over and over: by a thread of its own on the desktop, by tasks of the page in a
//! browser. Results go to the [`Board`]; pixels go to textures on the device.

mod ahead;
mod codebook;
mod drawer;
mod looking;
mod orders;
mod saving;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use beit::cpu::CpuSession;
use beit::data::source::Album;
use beit::gpu::{Gpu, GpuSession, Standing};
use beit::graph::PageKind;
use beit::models::mim::TOKENIZER;
use beit::ops::Caps;
use beit::session::Session;
use beit::tasks::atlas::Atlas;
use beit::tasks::pretrain::MODEL;
use beit::tasks::reconstruct::{Viewer, ViewerPlans};
use beit::train::{LiveTraining, Pair, Trained};
use beit::{Error, Result};

use crate::news::{Board, Layer, ModelFacts, Point, TrainingNews, Wish};
use crate::pace::Pace;
use crate::painter::Canvas;
#[cfg(target_arch = "wasm32")]
use ahead::Ahead;
use codebook::atlas_grid;
use drawer::Drawer;
use looking::Looking;

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
    canvases: [Canvas; Layer::COUNT],
}

/// See the module text.
pub(crate) struct Engine {
    gpu: Gpu,
    /// The networks are computed on the processor; the device only draws.
    on_processor: bool,
    drawer: Drawer,
    board: Arc<Board>,
    pair: Option<Pair>,
    name: String,
    /// What goes on once its kernels are compiled.
    #[cfg(target_arch = "wasm32")]
    ahead: Option<Ahead>,
    loaded: Option<Loaded>,
    wish: Option<Wish>,
    looking: Option<Looking>,
    save: Option<saving::Order>,
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
    pub(crate) fn new(gpu: Gpu, on_processor: bool, board: Arc<Board>) -> Engine {
        Engine {
            drawer: Drawer::new(&gpu),
            on_processor,
            pace: Pace::new(gpu.is_software()),
            gpu,
            board,
            pair: None,
            name: String::new(),
            #[cfg(target_arch = "wasm32")]
            ahead: None,
            loaded: None,
            wish: None,
            looking: None,
            save: None,
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
        (self.looking, self.atlas_batch, self.wish, self.save) = (None, None, None, None);
        // What is on the device may be half done; the weights on the host are whole.
        self.loaded = None;
        self.curve = Arc::default();
        if !broken && let Some(pair) = self.pair.clone() {
            let viewing = self.plans(&pair, None).and_then(|plans| self.view(&pair, plans));
            if viewing.is_err() {
                self.loaded = None;
            }
        }
        self.board.tell(|n| {
            (n.error, n.broken, n.training) = (Some(e.to_string()), broken, None);
            n.status.clear();
        });
    }

    /// What plans must be compiled with.
    fn caps(&self) -> Caps {
        if self.on_processor { Caps::cpu() } else { self.gpu.caps() }
    }
    /// An empty session where the networks are computed.
    fn session(&self) -> Box<dyn Session> {
        if self.on_processor {
            Box::new(CpuSession::<f32>::new())
        } else {
            Box::new(GpuSession::deferred(self.gpu.clone()))
        }
    }

    /// The plans of looking at networks, beside a training of one of them or alone.
    fn plans(&self, pair: &Pair, trained: Option<Trained>) -> Result<ViewerPlans> {
        let pages = trained.map_or(PageKind::Param, Trained::tokenizer_pages);
        ViewerPlans::new(&pair.viewed(pages), &self.caps())
    }

    /// Puts networks on the device for looking.
    fn view(&mut self, pair: &Pair, plans: ViewerPlans) -> Result<()> {
        let mut session = self.session();
        pair.put(session.as_mut(), MODEL)?;
        pair.put(session.as_mut(), TOKENIZER)?;
        self.hold(Holder::Viewing(session), pair, plans)
    }

    /// Loads the plans of looking beside what a session holds.
    fn hold(&mut self, mut holder: Holder, pair: &Pair, plans: ViewerPlans) -> Result<()> {
        let pages = match &holder {
            Holder::Training(t) => t.settings.kind.tokenizer_pages(),
            Holder::Viewing(_) => PageKind::Param,
        };
        let session = holder.session();
        let viewer = Viewer::of_plans(session, &pair.viewed(pages), plans)?;
        let atlas = Atlas::load(session, &pair.dvae, &pair.tokenizer, pages, AT_ONCE)?;
        let facts = facts(pair, self.name.clone());
        let (columns, rows) = atlas_grid(facts.vocab);
        let cell = pair.dvae.stride();
        let (h, w) = facts.token_image;
        let picture = [w as u32, h as u32];
        let atlas_size = [(columns * cell) as u32, (rows * cell) as u32];
        let painter = &self.drawer.painter;
        let canvases = [
            painter.canvas("beit reconstruction", picture),
            painter.canvas("beit ceiling", picture),
            painter.canvas("beit in rounds", picture),
            painter.canvas("beit sampled", picture),
            painter.canvas("beit codebook", atlas_size),
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

    fn tell_training(&self) {
        let Some(Loaded { holder: Holder::Training(t), .. }) = &self.loaded else { return };
        let (settings, curve, paused, done) = (t.settings, self.curve.clone(), self.paused, t.done());
        self.board.tell(|n| n.training = Some(TrainingNews { settings, curve, paused, done }));
    }

    fn try_advance(&mut self, now: f64) -> Result<bool> {
        self.after_kernels(now)?;
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
