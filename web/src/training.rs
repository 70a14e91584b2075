//! Training in a tab: one update at a time, with a snapshot on the host from which a lost device is made good.

use std::collections::VecDeque;
use std::sync::Arc;

use beit::config::{RunConfig, preset};
use beit::data::{BadSamples, MimBatch, MimBatches, Samples, Source, TokenBatch, TokenBatches};
use beit::gpu::{Arrivals, Gpu, GpuSession};
use beit::graph::PageKind;
use beit::models::mim::TOKENIZER;
use beit::ops::{CONTROL_LEN, Caps};
use beit::session::{HostData, Session, Ticket};
use beit::tasks::tokenizer::Codebook;
use beit::tasks::{pretrain, tokenizer};
use beit::train::{State, StepPlans, Stepper};
use beit::{Error, Result};
use js_sys::Date;
use serde_json::{Value, json};

use crate::models::Weights;
use crate::waiting::take;

/// Updates between snapshots at most, and milliseconds: what a lost device can cost.
const SNAPSHOT_EVERY: u64 = 25;
const SNAPSHOT_AFTER: f64 = 10_000.0;
/// Updates whose ids are counted for codebook usage and chance.
const WINDOW: usize = 8;
/// Updates without a finite loss after which training stops.
const PATIENCE: u32 = 10;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The tokenizer.
    Tokenizer,
    /// The transformer, on the ids of the tokenizer.
    Model,
}

/// Settings of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub kind: Kind,
    /// From random numbers instead of the loaded weights.
    pub fresh: bool,
    /// Updates.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    pub seed: u64,
}

enum Batches {
    Tokens(TokenBatches, Option<TokenBatch>),
    Masked(Box<MimBatches>, Option<MimBatch>),
}

/// A training under way.
pub(crate) struct Training {
    pub stepper: Stepper,
    pub settings: Settings,
    config: RunConfig,
    batches: Batches,
    step: u64,
    recent: VecDeque<Vec<u32>>,
    hopeless: u32,
    /// Updates done and everything they changed.
    pub snapshot: (u64, State),
    /// When it was taken, in milliseconds.
    taken: f64,
}

/// The recipe of the nano preset for these networks and settings; schedules scale with the number of updates.
fn recipe(weights: &Weights, s: &Settings) -> Result<RunConfig> {
    let mut c = preset("nano")?;
    c.model = weights.vit.clone();
    c.tokenizer = weights.dvae.clone();
    c.seed = s.seed;
    let cells = c.model.patches();
    c.mask.num_mask_patches = (cells * 2 / 5).max(1);
    c.mask.min_block = (cells / 16).clamp(1, c.mask.num_mask_patches);
    (c.tokenizer_training.steps, c.training.steps) = (s.steps, s.steps);
    (c.tokenizer_training.batch, c.training.batch) = (s.batch, s.batch);
    c.training.warmup = (s.steps / 12).max(1);
    if !s.fresh {
        // Weights that were trained before are not shaken up again.
        c.training.lr *= 0.3;
        c.tokenizer_training.lr *= 0.3;
    }
    c.check()?;
    Ok(c)
}

/// What a training will run, before anything is allocated.
pub(crate) struct TrainingPlans {
    config: RunConfig,
    /// Forward and backward pass, update.
    pub steps: StepPlans,
}

impl TrainingPlans {
    /// Compiles the plans.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub(crate) fn new(weights: &Weights, settings: &Settings, caps: &Caps) -> Result<TrainingPlans> {
        let config = recipe(weights, settings)?;
        let steps = match settings.kind {
            Kind::Tokenizer => {
                tokenizer::plans(&config.tokenizer, config.token_side(), &config.tokenizer_training, caps)?
            }
            Kind::Model => config.mim().plans(&config.training, &weights.tokenizer, caps)?,
        };
        Ok(TrainingPlans { config, steps })
    }
}

impl Training {
    /// Loads everything on a new session and puts the starting point in place: `from`, or else the settings' own.
    ///
    /// # Errors
    /// If the settings cannot work or the device refuses.
    pub(crate) fn start(
        gpu: &Gpu,
        weights: &Weights,
        settings: Settings,
        plans: TrainingPlans,
        source: Arc<dyn Source>,
        from: Option<(u64, State)>,
    ) -> Result<(Training, Arrivals)> {
        let TrainingPlans { config, steps } = plans;
        let bad = Arc::new(BadSamples::new(1.0));
        let samples = Samples::shuffled(source, settings.seed, bad)?.with_cache(64 << 20);
        let session = GpuSession::new(gpu.clone());
        let arrivals = session.arrivals();
        let mut session: Box<dyn Session> = Box::new(session);
        let views = config.views(true);
        let batches = match settings.kind {
            Kind::Tokenizer => {
                weights.put(session.as_mut(), pretrain::MODEL)?;
                Batches::Tokens(TokenBatches::new(samples, settings.batch, views)?, None)
            }
            Kind::Model => {
                weights.put(session.as_mut(), TOKENIZER)?;
                let batches = MimBatches::new(samples, settings.batch, views, config.mask_spec())?;
                Batches::Masked(Box::new(batches), None)
            }
        };
        let mut stepper = Stepper::new(session, steps)?;
        let snapshot = from.unwrap_or_else(|| (0, Self::first_state(weights, &settings, &stepper)));
        stepper.restore(&snapshot.1)?;
        let (recent, step) = (VecDeque::new(), snapshot.0);
        let (hopeless, taken) = (0, Date::now());
        let t = Training { stepper, settings, config, batches, step, recent, hopeless, snapshot, taken };
        Ok((t, arrivals))
    }

    fn first_state(weights: &Weights, settings: &Settings, stepper: &Stepper) -> State {
        let mut state = State::initial(&stepper.layout, stepper.kinds(), settings.seed);
        let loaded = match settings.kind {
            Kind::Tokenizer => &weights.tokenizer_pages,
            Kind::Model => &weights.model_pages,
        };
        for (kind, pages) in &mut state.pages {
            if !settings.fresh && matches!(kind, PageKind::Param | PageKind::Ema) {
                pages.clone_from(loaded);
            }
        }
        state
    }

    /// Whether all updates were done.
    pub(crate) fn done(&self) -> bool {
        self.step >= self.settings.steps
    }

    /// Runs one update and gives its figures.
    ///
    /// # Errors
    /// If the device was lost, or the loss is not a number again and again.
    pub(crate) async fn step(&mut self, arrivals: &Arrivals) -> Result<Value> {
        if self.done() {
            return Err(Error::config("this training is done")
                .at("steps")
                .got(self.settings.steps.to_string()));
        }
        let tickets = self.submit()?;
        self.prepare()?;
        let mut read = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            read.push(take(self.stepper.session.as_mut(), arrivals, ticket).await?);
        }
        self.step += 1;
        let figures = self.figures(read)?;
        let due = self.step >= self.snapshot.0 + SNAPSHOT_EVERY || Date::now() >= self.taken + SNAPSHOT_AFTER;
        if due || self.done() {
            self.take_snapshot(arrivals).await?;
        }
        Ok(figures)
    }

    fn submit(&mut self) -> Result<Vec<Ticket>> {
        let (i, c, seed) = (self.step, &self.config, self.settings.seed);
        match &mut self.batches {
            Batches::Tokens(batches, ready) => {
                let batch = ready.take().map_or_else(|| batches.make(i), Ok)?;
                tokenizer::step(&mut self.stepper, &c.tokenizer, &c.tokenizer_training, seed, i, &batch)?;
                let micro = self.stepper.micro();
                Ok(vec![self.stepper.session.fetch(micro, &["loss", "nll", "kl", "ids"])?])
            }
            Batches::Masked(batches, ready) => {
                let batch = ready.take().map_or_else(|| batches.make(i), Ok)?;
                let turn = pretrain::Turn { seed, i, report: true };
                pretrain::step(&mut self.stepper, &c.mim(), &c.training, turn, &batch)
            }
        }
    }

    /// Makes the next batch while the device works.
    fn prepare(&mut self) -> Result<()> {
        let next = self.step + 1;
        if next < self.settings.steps {
            match &mut self.batches {
                Batches::Tokens(batches, ready) => *ready = Some(batches.make(next)?),
                Batches::Masked(batches, ready) => *ready = Some(batches.make(next)?),
            }
        }
        Ok(())
    }

    /// `loss` in nats, `accuracy` and `chance` (transformer), `nll` and `kl` (tokenizer), `perplexity` and `used` ids.
    fn figures(&mut self, read: Vec<Vec<HostData>>) -> Result<Value> {
        let (mut reals, mut ids) = (Vec::new(), Vec::new());
        for data in read.into_iter().flatten() {
            match data {
                HostData::F32(v) => reals.push(v.first().copied().unwrap_or(f32::NAN)),
                HostData::U32(v) => ids.extend(v),
            }
        }
        let loss = reals.first().copied().unwrap_or(f32::NAN);
        self.hopeless = if loss.is_finite() { 0 } else { self.hopeless + 1 };
        if self.hopeless >= PATIENCE {
            return Err(Error::new(beit::ErrorKind::Diverged, "the loss is not a number any more")
                .at(format!("update {}", self.step))
                .hint("reset, and train with smaller steps or other pictures"));
        }
        self.recent.push_back(ids);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let mut codebook = Codebook::new(self.config.tokenizer.vocab);
        self.recent.iter().for_each(|ids| codebook.add(ids));
        let mut figures = json!({
            "step": self.step, "steps": self.settings.steps, "batch": self.settings.batch, "loss": loss,
            "perplexity": codebook.perplexity(), "used": codebook.used(), "vocab": self.config.tokenizer.vocab,
        });
        match (self.settings.kind, &reals[..]) {
            (Kind::Tokenizer, [_, nll, kl]) => {
                figures["nll"] = json!(nll);
                figures["kl"] = json!(kl);
            }
            (Kind::Model, [_, accuracy]) => {
                figures["accuracy"] = json!(accuracy);
                figures["chance"] = json!(codebook.commonest());
            }
            _ => {}
        }
        Ok(figures)
    }

    /// Copies everything to the host, for [`Training::start`] on another device.
    ///
    /// # Errors
    /// If the device was lost.
    pub(crate) async fn take_snapshot(&mut self, arrivals: &Arrivals) -> Result<()> {
        self.snapshot = (self.step, self.capture(arrivals).await?);
        self.taken = Date::now();
        Ok(())
    }

    /// Copies everything that training changes to the host.
    async fn capture(&mut self, arrivals: &Arrivals) -> Result<State> {
        let mut pages = Vec::new();
        let kinds: Vec<PageKind> =
            self.stepper.kinds().iter().copied().filter(|&k| k != PageKind::Grad).collect();
        let store = self.stepper.layout.store.clone();
        for kind in kinds {
            let count = if kind == PageKind::Control { 1 } else { self.stepper.layout.pages.len() };
            let mut all = Vec::with_capacity(count);
            for page in 0..count {
                let ticket = self.stepper.session.fetch_page(&store, kind, page)?;
                let mut read = take(self.stepper.session.as_mut(), arrivals, ticket).await?;
                all.push(read.pop().map(HostData::f32).unwrap_or_default());
            }
            pages.push((kind, all));
        }
        debug_assert!(pages.iter().all(|(k, p)| *k != PageKind::Control || p[0].len() == CONTROL_LEN));
        Ok(State { pages })
    }

    /// Takes a snapshot now and gives the weights that it holds.
    ///
    /// # Errors
    /// If the device was lost.
    pub(crate) async fn weights(&mut self, arrivals: &Arrivals, loaded: &Weights) -> Result<Weights> {
        self.take_snapshot(arrivals).await?;
        Ok(self.snapshot_weights(loaded))
    }

    /// The weights of the last snapshot; of a tokenizer its moving average.
    pub(crate) fn snapshot_weights(&self, loaded: &Weights) -> Weights {
        let mut weights = loaded.clone();
        let pages = |kind| self.snapshot.1.kind(kind).map(<[Vec<f32>]>::to_vec);
        match self.settings.kind {
            Kind::Tokenizer => weights.tokenizer_pages = pages(PageKind::Ema).unwrap_or_default(),
            Kind::Model => weights.model_pages = pages(PageKind::Param).unwrap_or_default(),
        }
        weights
    }
}
