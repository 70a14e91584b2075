//! Training that somebody watches, in a window or a tab: one update at a time, nothing waits, and a copy on the host
//! now and then from which a lost device is made good.

mod settings;
pub use settings::{LiveFigures, LivePlans, LiveSettings, Trained};

use super::{Pair, State, Stepper};
use crate::config::RunConfig;
use crate::data::{BadSamples, MimBatch, MimBatches, Samples, Source, TokenBatch, TokenBatches};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::PageKind;
use crate::models::TokenizerNetwork;
use crate::models::mim::TOKENIZER;
use crate::session::{HostData, Session, Ticket};
use crate::tasks::tokenizer::Codebook;
use crate::tasks::{pretrain, tokenizer};
use std::collections::VecDeque;
use std::sync::Arc;

/// Updates between copies on the host.
const SNAPSHOT_EVERY: u64 = 25;
/// Updates whose ids are counted for codebook usage and chance.
const WINDOW: usize = 8;
/// Updates without a finite loss after which training stops.
const PATIENCE: u32 = 10;
/// Bytes of decoded pictures that are kept.
const CACHE: usize = 64 << 20;

enum Batches {
    Tokens(TokenBatches, Option<TokenBatch>),
    Masked(Box<MimBatches>, Option<MimBatch>),
}

/// What the training waits for.
enum Stage {
    Between,
    Update { tickets: Vec<Ticket>, read: Vec<Vec<HostData>> },
    Copying { figures: LiveFigures },
}

/// Pages on their way to the host.
#[derive(Default)]
struct Copying {
    tickets: Vec<(PageKind, Ticket)>,
    read: Vec<(PageKind, Vec<f32>)>,
}

/// A training under way.
pub struct LiveTraining {
    /// The networks on their session; a viewer may be loaded beside.
    pub stepper: Stepper,
    /// Its settings.
    pub settings: LiveSettings,
    /// Updates done and everything they changed, as of the last copy.
    pub snapshot: (u64, State),
    config: RunConfig,
    batches: Batches,
    step: u64,
    recent: VecDeque<Vec<u32>>,
    hopeless: u32,
    stage: Stage,
    copying: Option<Copying>,
}

impl LiveTraining {
    /// Loads everything on a fresh session and puts the starting point in place: `from`, or else the settings' own.
    /// `plans` are those of the same networks and settings.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn start(
        mut session: Box<dyn Session>,
        pair: &Pair,
        settings: LiveSettings,
        plans: LivePlans,
        source: Arc<dyn Source>,
        from: Option<(u64, State)>,
    ) -> Result<LiveTraining> {
        let LivePlans { config, steps } = plans;
        let bad = Arc::new(BadSamples::new(1.0));
        let samples = Samples::shuffled(source, settings.seed, bad)?.with_cache(CACHE);
        let views = config.views(true);
        let batches = match settings.kind {
            Trained::Tokenizer => {
                pair.put(session.as_mut(), pretrain::MODEL)?;
                Batches::Tokens(TokenBatches::new(samples, settings.batch, views)?, None)
            }
            Trained::Model => {
                pair.put(session.as_mut(), TOKENIZER)?;
                let batches = MimBatches::new(samples, settings.batch, views, config.mask_spec())?;
                Batches::Masked(Box::new(batches), None)
            }
        };
        let mut stepper = Stepper::new(session, steps)?;
        let snapshot = from.unwrap_or_else(|| (0, first_state(pair, &settings, &stepper)));
        stepper.restore(&snapshot.1)?;
        let (recent, step, stage) = (VecDeque::new(), snapshot.0, Stage::Between);
        let (hopeless, copying) = (0, None);
        Ok(LiveTraining {
            stepper,
            settings,
            snapshot,
            config,
            batches,
            step,
            recent,
            hopeless,
            stage,
            copying,
        })
    }

    /// Whether all updates were done.
    pub fn done(&self) -> bool {
        self.step >= self.settings.steps
    }
    /// Updates done.
    pub fn step(&self) -> u64 {
        self.step
    }
    /// Whether an update or a copy is on the device, so that another call of [`LiveTraining::advance`] is due.
    pub fn under_way(&self) -> bool {
        !matches!(self.stage, Stage::Between) || self.copying.is_some()
    }

    /// Goes on as far as it can without waiting. `None`: call again; otherwise an update was done.
    ///
    /// # Errors
    /// If all updates were done, the device was lost, or the loss is not a number again and again.
    pub fn advance(&mut self) -> Result<Option<LiveFigures>> {
        match std::mem::replace(&mut self.stage, Stage::Between) {
            Stage::Between if self.done() => {
                Err(Error::config("this training is done").at("steps").got(self.settings.steps.to_string()))
            }
            Stage::Between => {
                let tickets = self.submit()?;
                self.prepare()?;
                self.stage = Stage::Update { tickets, read: vec![] };
                Ok(None)
            }
            Stage::Update { tickets, mut read } => {
                while let Some(&ticket) = tickets.get(read.len()) {
                    let Some(data) = self.stepper.session.take(ticket, false)? else {
                        self.stage = Stage::Update { tickets, read };
                        return Ok(None);
                    };
                    read.push(data);
                }
                self.step += 1;
                let figures = self.figures(read)?;
                let due = self.step % SNAPSHOT_EVERY == 0 || self.done();
                if due { self.copied(figures) } else { Ok(Some(figures)) }
            }
            Stage::Copying { figures } => self.copied(figures),
        }
    }

    fn copied(&mut self, figures: LiveFigures) -> Result<Option<LiveFigures>> {
        let copied = self.copy()?;
        if !copied {
            self.stage = Stage::Copying { figures };
        }
        Ok(copied.then_some(figures))
    }

    /// Copies everything that training changes to [`LiveTraining::snapshot`], as far as it can without waiting; `true`
    /// when that is done. Between updates only.
    ///
    /// # Errors
    /// If the device was lost, or an update is under way: the copy would hold half of it.
    pub fn copy(&mut self) -> Result<bool> {
        if matches!(self.stage, Stage::Update { .. }) {
            return Err(Error::config("a copy in the middle of an update").at("LiveTraining::copy"));
        }
        let mut copying = match self.copying.take() {
            Some(copying) => copying,
            None => self.begin_copy()?,
        };
        while let Some(&(kind, ticket)) = copying.tickets.get(copying.read.len()) {
            let Some(mut data) = self.stepper.session.take(ticket, false)? else {
                self.copying = Some(copying);
                return Ok(false);
            };
            copying.read.push((kind, data.pop().map(HostData::f32).unwrap_or_default()));
        }
        let mut pages: Vec<(PageKind, Vec<Vec<f32>>)> = Vec::new();
        for (kind, page) in copying.read {
            match pages.last_mut() {
                Some((last, all)) if *last == kind => all.push(page),
                _ => pages.push((kind, vec![page])),
            }
        }
        self.snapshot = (self.step, State { pages });
        Ok(true)
    }

    fn begin_copy(&mut self) -> Result<Copying> {
        let (layout, mut copying) = (self.stepper.layout.clone(), Copying::default());
        let kinds: Vec<PageKind> = self.stepper.kinds().to_vec();
        for kind in kinds.into_iter().filter(|&k| k != PageKind::Grad) {
            let count = if kind == PageKind::Control { 1 } else { layout.pages.len() };
            for page in 0..count {
                let ticket = self.stepper.session.fetch_page(&layout.store, kind, page)?;
                copying.tickets.push((kind, ticket));
            }
        }
        Ok(copying)
    }

    /// The networks with what was learned up to the last copy; of a tokenizer its moving average.
    pub fn trained(&self, loaded: &Pair) -> Pair {
        let mut pair = loaded.clone();
        let pages = |kind| self.snapshot.1.kind(kind).map(<[Vec<f32>]>::to_vec);
        match self.settings.kind {
            Trained::Tokenizer => pair.tokenizer_pages = pages(PageKind::Ema).unwrap_or_default(),
            Trained::Model => pair.model_pages = pages(PageKind::Param).unwrap_or_default(),
        }
        pair
    }

    fn submit(&mut self) -> Result<Vec<Ticket>> {
        let (i, c, seed) = (self.step, &self.config, self.settings.seed);
        match &mut self.batches {
            Batches::Tokens(batches, ready) => {
                let batch = ready.take().map_or_else(|| batches.make(i), Ok)?;
                tokenizer::step(
                    &mut self.stepper,
                    c.tokenizer.dvae()?,
                    &c.tokenizer_training,
                    seed,
                    i,
                    &batch,
                )?;
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

    fn figures(&mut self, read: Vec<Vec<HostData>>) -> Result<LiveFigures> {
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
            return Err(Error::new(ErrorKind::Diverged, "the loss is not a number any more")
                .at(format!("update {}", self.step))
                .hint("reset, and train with smaller steps or other pictures"));
        }
        self.recent.push_back(ids);
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        let mut codebook = Codebook::new(self.config.tokenizer.vocab());
        self.recent.iter().for_each(|ids| codebook.add(ids));
        let (distortion, kl, accuracy, chance) = match (self.settings.kind, &reals[..]) {
            (Trained::Tokenizer, [_, distortion, kl]) => (Some(*distortion), Some(*kl), None, None),
            (Trained::Model, [_, accuracy, ..]) => (None, None, Some(*accuracy), Some(codebook.commonest())),
            _ => (None, None, None, None),
        };
        let squared = self.config.tokenizer.network() == TokenizerNetwork::Custom;
        Ok(LiveFigures {
            step: self.step,
            steps: self.settings.steps,
            batch: self.settings.batch,
            loss,
            perplexity: codebook.perplexity(),
            used: codebook.used(),
            vocab: self.config.tokenizer.vocab(),
            accuracy,
            chance,
            nll: distortion.filter(|_| !squared),
            mse: distortion.filter(|_| squared),
            kl,
        })
    }
}

fn first_state(pair: &Pair, settings: &LiveSettings, stepper: &Stepper) -> State {
    let mut state = State::initial(&stepper.layout, stepper.kinds(), settings.seed);
    let loaded = match settings.kind {
        Trained::Tokenizer => &pair.tokenizer_pages,
        Trained::Model => &pair.model_pages,
    };
    for (kind, pages) in &mut state.pages {
        if !settings.fresh && matches!(kind, PageKind::Param | PageKind::Ema) {
            pages.clone_from(loaded);
        }
    }
    state
}
