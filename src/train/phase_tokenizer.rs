//! The first phase of a run: a trained tokenizer, either loaded or trained here; what the training of both kinds shares.

use super::Stepper;
use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::{Event, Phase};
use super::files::{optimizer_file, pages_of, read_optimizer, state_limits, tensors_of};
use super::phase_vq_kd;
use super::pretraining::Pretraining;
use super::run::Run;
use super::sheets::tokenizer_sheet;
use super::state_json::StateJson;
use crate::config::RunConfig;
use crate::data::{Loader, LoaderOptions, Samples, TokenBatch, TokenBatches};
use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::interop::{self, ModelFile, Want};
use crate::io::checkpoint::{self, sha256_hex};
use crate::io::tensors::{pt_metadata, read_safetensors, write_safetensors};
use crate::models::mim::TOKENIZER;
use crate::models::{DvaeConfig, DvaeNetwork, TokenizerModel};
use crate::session::{HostData, PlanId, Session, Ticket};
use crate::tasks::codebook::{self, CodebookReport, Relaxing};
use crate::tasks::tokenizer::{self, Codebook};
use std::path::Path;
use std::sync::Arc;

/// File of the weights in a checkpoint.
pub const WEIGHTS: &str = "tokenizer.safetensors";
/// File of the sizes in a checkpoint.
pub const SIZES: &str = "tokenizer.json";

/// A trained tokenizer on the host.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Its sizes.
    pub config: TokenizerModel,
    /// Layout of its parameters.
    pub layout: ParamLayout,
    /// Its parameters.
    pub pages: Vec<Vec<f32>>,
}

impl Tokenizer {
    /// The layout of all parameters.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn layout(config: &TokenizerModel, page_bytes: u64) -> Result<ParamLayout> {
        let mut g = Graph::new();
        g.in_store(TOKENIZER, |g| config.whole(g))?;
        ParamLayout::of(&g, TOKENIZER, page_bytes)
    }
    /// The weights file, in the names of the official files.
    ///
    /// # Errors
    /// Never for a complete tokenizer.
    pub fn weights(&self) -> Result<Vec<u8>> {
        Ok(write_safetensors(&tensors_of(&self.layout, &self.pages), &pt_metadata()))
    }
    /// A hash of the weights.
    ///
    /// # Errors
    /// As [`Tokenizer::weights`].
    pub fn hash(&self) -> Result<String> {
        Ok(sha256_hex(&self.weights()?))
    }
    /// Reads weights and sizes.
    ///
    /// # Errors
    /// If the files do not fit each other.
    pub fn read(weights: &[u8], sizes: &[u8], page_bytes: u64) -> Result<Tokenizer> {
        let config: TokenizerModel = serde_json::from_slice(sizes)
            .map_err(|e| Error::checkpoint("not a tokenizer's sizes").at(SIZES).got(e.to_string()))?;
        config.check()?;
        let layout = Self::layout(&config, page_bytes)?;
        let tensors = read_safetensors(weights, &state_limits(&layout))?.tensors;
        let pages = pages_of(&layout, &tensors).map_err(|e| e.at(WEIGHTS))?;
        Ok(Tokenizer { config, layout, pages })
    }
    /// Loads a tokenizer from a run folder, a checkpoint folder, a weights file, or OpenAI's dVAE.
    ///
    /// # Errors
    /// If nothing there is a tokenizer.
    pub fn open(path: &Path, page_bytes: u64) -> Result<Tokenizer> {
        Self::of_model(&interop::open(path, Want::Tokenizer)?, page_bytes)
    }
    /// The tokenizer that a model file holds.
    ///
    /// # Errors
    /// If the file holds a transformer.
    pub fn of_model(model: &ModelFile, page_bytes: u64) -> Result<Tokenizer> {
        let config = model.tokenizer()?.clone();
        let layout = Self::layout(&config, page_bytes)?;
        let pages = pages_of(&layout, &model.tensors).map_err(|e| e.at(model.path.display().to_string()))?;
        Ok(Tokenizer { config, layout, pages })
    }
}

struct TokenizerWork {
    config: RunConfig,
    sizes: DvaeConfig,
    stepper: Stepper,
    health: Health,
    settled: Settled,
    plan_hash: String,
    fingerprint: String,
}

/// Looks at held-out pictures with the averaged weights.
pub(super) struct Health {
    plan: PlanId,
    /// Mapped views, batch by batch.
    views: Vec<Vec<f32>>,
}

/// Warns once of a collapsed codebook, when things have settled.
#[derive(Default)]
pub(super) struct Settled {
    warned: bool,
}

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 32;
/// Share of the updates after which a collapsed codebook is worth a warning.
const SETTLED: f64 = 0.4;

/// Loads or trains the tokenizer; nothing if the run was stopped before it was done.
///
/// # Errors
/// If the given one does not fit, or training fails.
pub fn run(run: &mut Run<'_>, job: &mut Pretraining) -> Result<Option<Tokenizer>> {
    let session = run.session()?;
    let page_bytes = super::page_bytes(&session.caps());
    let total = job.config.tokenizer_training.steps;
    let found = run.newest(Phase::TOKENIZER)?;
    if let Some(path) = &job.tokenizer {
        let tokenizer = Tokenizer::open(path, page_bytes)?;
        job.config.tokenizer = tokenizer.config.clone();
        run.tell(Event::Note(format!("tokenizer taken from {}", path.display())));
        if found.is_none() {
            keep(run, &tokenizer, total, &job.config)?;
        }
        return Ok(Some(tokenizer));
    }
    if let Some(f) = found.as_ref().filter(|f| f.step == total) {
        return Ok(Some(Tokenizer::read(&f.read(WEIGHTS)?, &f.read(SIZES)?, page_bytes)?));
    }
    let sizes = match job.config.tokenizer.clone() {
        TokenizerModel::Dvae(sizes) => sizes,
        TokenizerModel::VqKd(sizes) => return phase_vq_kd::run(run, job, &sizes, session),
    };
    let mut work = TokenizerWork::new(job, sizes, session)?;
    let (first, best) = match &found {
        Some(f) => work.resume(f)?,
        None => (0, None),
    };
    let mut loader = batches(run.workers, job, first)?;
    let mut drive = Drive::new(run, &mut work, first, best)?;
    if !drive.train(&mut loader, first)? {
        return Ok(None);
    }
    let pages = work.stepper.state()?.kind(PageKind::Ema).map(<[_]>::to_vec).unwrap_or_default();
    Ok(Some(Tokenizer { config: job.config.tokenizer.clone(), layout: work.stepper.layout.clone(), pages }))
}

/// Keeps a given tokenizer in the run folder as if it had been trained there: a resumed run must not depend on a flag.
fn keep(run: &mut Run<'_>, tokenizer: &Tokenizer, total: u64, config: &RunConfig) -> Result<()> {
    let mut json = StateJson::new(Phase::TOKENIZER, total, config);
    json.layout = tokenizer.layout.hash();
    let files = [
        (WEIGHTS.into(), tokenizer.weights()?),
        (SIZES.into(), sizes_json(&tokenizer.config)),
        ("state.json".into(), json.to_bytes()),
    ];
    run.save_checkpoint(Phase::TOKENIZER, total, &files, None).map(drop)
}

fn batches(workers: usize, job: &Pretraining, first: u64) -> Result<Loader<Result<TokenBatch>>> {
    let c = &job.config;
    let samples = Samples::shuffled(job.pictures.train.clone(), c.seed, job.pictures.bad.clone())?;
    let maker = TokenBatches::new(samples, c.tokenizer_training.batch, c.views(true))?;
    let options = LoaderOptions::new(workers, first, c.tokenizer_training.steps);
    Loader::new(options, Arc::new(move |i| maker.make(i)))
}

impl TokenizerWork {
    fn new(job: &Pretraining, sizes: DvaeConfig, session: Box<dyn Session>) -> Result<Self> {
        let c = job.config.clone();
        let caps = session.caps();
        let plans = tokenizer::plans(&sizes, c.token_side(), &c.tokenizer_training, &caps)?;
        let plan_hash = plans.micro.hash();
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(c.seed)?;
        let samples = Samples::in_order(job.pictures.val.clone(), c.seed, job.pictures.bad.clone())?;
        let images = c.val_images.min(job.pictures.val.len()).max(1);
        let batch = EVAL_BATCH.min(images);
        let maker = TokenBatches::new(samples, batch, c.views(false))?;
        let views =
            (0..(images / batch) as u64).map(|i| Ok(maker.make(i)?.token_view)).collect::<Result<_>>()?;
        let health = Health::new(&mut stepper, &c, views, batch)?;
        let fingerprint = job.pictures.train.fingerprint();
        let settled = Settled::default();
        Ok(TokenizerWork { config: c, sizes, stepper, health, settled, plan_hash, fingerprint })
    }

    fn resume(&mut self, found: &checkpoint::Found) -> Result<(u64, Option<(u64, f64)>)> {
        let state = StateJson::parse(&found.read("state.json")?, "state.json")?;
        restore(&mut self.stepper, found, &state, &self.fingerprint)?;
        Ok((state.step, state.best))
    }
}

impl Health {
    /// Loads the plan for batches of `batch` pictures.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn new(stepper: &mut Stepper, c: &RunConfig, views: Vec<Vec<f32>>, batch: usize) -> Result<Self> {
        let (layout, caps) = (&stepper.layout, stepper.session.caps());
        let plan = codebook::plan(&c.tokenizer, layout, c.token_side(), batch, &caps, PageKind::Ema)?;
        Ok(Health { plan: stepper.session.load(Arc::new(plan))?, views })
    }

    /// Measures, and draws the last batch; the score is the error of the pictures.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn evaluate(&self, stepper: &mut Stepper, c: &RunConfig, step: u64, tau: f64) -> Result<Evaluation> {
        let session = stepper.session.as_mut();
        let views = self.views.iter().map(|view| Ok(view.clone()));
        let relaxing = Relaxing { tau, seed: c.seed };
        let r = codebook::measure(session, self.plan, &c.tokenizer, c.token_side(), relaxing, views)?;
        let sheet = match c.tokenizer.draws() {
            true => {
                let decoded = session.read(self.plan, "decoded")?.f32();
                let view = self.views.last().map(Vec::as_slice).unwrap_or_default();
                Some(tokenizer_sheet(view, &decoded, c.token_side(), step, &c.tokenizer)?.to_png()?)
            }
            false => None,
        };
        Ok(Evaluation { score: r.mae.unwrap_or(f64::NAN), metrics: health_figures(&r), sheet })
    }
}

impl Settled {
    /// The first collapse of a batch that is seen once things have settled.
    pub fn warning(
        &mut self,
        i: u64,
        steps: u64,
        perplexity: f64,
        vocab: usize,
        kl: Option<f64>,
    ) -> Option<String> {
        if self.warned || i as f64 <= SETTLED * steps as f64 {
            return None;
        }
        let message = codebook::collapse(perplexity, vocab, kl);
        self.warned = message.is_some();
        message
    }
}

/// Puts the state of a checkpoint back.
///
/// # Errors
/// If it belongs to other parameters or pictures, or is damaged.
pub(super) fn restore(
    stepper: &mut Stepper,
    found: &checkpoint::Found,
    state: &StateJson,
    fingerprint: &str,
) -> Result<()> {
    let layout = stepper.layout.clone();
    state.check(&layout.hash(), fingerprint)?;
    let limits = state_limits(&layout);
    let mut saved = read_optimizer(&layout, &found.read("optimizer.safetensors")?, &limits)?;
    let ema = read_safetensors(&found.read(WEIGHTS)?, &limits)?.tensors;
    saved.pages.push((PageKind::Ema, pages_of(&layout, &ema)?));
    stepper.restore(&saved)
}

/// The files of a checkpoint: averaged weights, sizes, everything else that training changes, and `json`, whose hash of
/// the layout is filled in.
///
/// # Errors
/// If the device refuses.
pub(super) fn checkpoint_files(
    stepper: &mut Stepper,
    config: &TokenizerModel,
    json: StateJson,
) -> Result<Vec<(String, Vec<u8>)>> {
    let state = stepper.state()?;
    let layout = stepper.layout.clone();
    let pages = state.kind(PageKind::Ema).map(<[_]>::to_vec).unwrap_or_default();
    let tokenizer = Tokenizer { config: config.clone(), layout: layout.clone(), pages };
    let json = StateJson { layout: layout.hash(), ..json };
    Ok(vec![
        (WEIGHTS.into(), tokenizer.weights()?),
        (SIZES.into(), sizes_json(&tokenizer.config)),
        ("optimizer.safetensors".into(), optimizer_file(&layout, &state, PageKind::Ema)),
        ("state.json".into(), json.to_bytes()),
    ])
}

/// What a reported step reads first: three losses and the ids, whose perplexity of `vocab` comes with them.
pub(super) fn losses_and_perplexity(read: Vec<Vec<HostData>>, vocab: usize) -> ([f64; 3], f64) {
    let mut first = read.into_iter().next().unwrap_or_default().into_iter();
    let losses = [(); 3].map(|()| {
        f64::from(first.next().map(HostData::f32).and_then(|v| v.first().copied()).unwrap_or(f32::NAN))
    });
    let mut batch = Codebook::new(vocab);
    batch.add(&first.next().map(HostData::u32).unwrap_or_default());
    (losses, batch.perplexity())
}

impl Work for TokenizerWork {
    type Batch = TokenBatch;
    fn phase(&self) -> Phase {
        Phase::TOKENIZER
    }
    fn total(&self) -> u64 {
        self.config.tokenizer_training.steps
    }
    fn images(&self) -> usize {
        self.config.tokenizer_training.batch
    }
    fn session(&mut self) -> &mut dyn Session {
        self.stepper.session.as_mut()
    }
    fn step(&mut self, i: u64, batch: &TokenBatch, report: bool) -> Result<Vec<Ticket>> {
        let c = &self.config;
        tokenizer::step(&mut self.stepper, &self.sizes, &c.tokenizer_training, c.seed, i, batch)?;
        if !report {
            return Ok(vec![]);
        }
        let micro = self.stepper.micro();
        let numbers = self.stepper.session.fetch(micro, &["loss", "nll", "kl", "ids"])?;
        Ok(vec![numbers, self.stepper.fetch_control()?])
    }
    fn numbers(&mut self, i: u64, read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        let ([loss, nll, kl], perplexity) = losses_and_perplexity(read, self.sizes.vocab);
        let r = &self.config.tokenizer_training;
        let numbers = vec![
            ("loss", loss),
            (if self.sizes.network == DvaeNetwork::Openai { "nll" } else { "mse" }, nll),
            ("kl", kl),
            ("perplexity", perplexity),
            ("lr", r.lr_at(i)),
            ("temperature", r.tau_at(i)),
            ("kl_weight", r.beta_at(i)),
        ];
        (numbers, self.settled.warning(i, r.steps, perplexity, self.sizes.vocab, Some(kl)))
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let tau = self.config.tokenizer_training.tau_at(step);
        self.health.evaluate(&mut self.stepper, &self.config, step, tau)
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut json = StateJson::new(Phase::TOKENIZER, step, &self.config);
        (json.best, json.plan) = (best, self.plan_hash.clone());
        json.data = self.fingerprint.clone();
        checkpoint_files(&mut self.stepper, &self.config.tokenizer, json)
    }
}

/// The health of the codebook on held-out pictures, by the names that metrics have.
fn health_figures(r: &CodebookReport) -> Numbers {
    let mut figures: Vec<(&'static str, Option<f64>)> = vec![
        ("val_mae", r.mae),
        ("val_relaxed_mae", r.relaxed.as_ref().map(|q| q.relaxed_mae)),
        ("val_hard_gap", r.hard_gap()),
        ("val_flat_mae", Some(r.flat_mae)),
        ("val_flat_picture_mae", Some(r.flat_picture_mae)),
        ("val_entropy", Some(r.entropy)),
        ("val_perplexity", Some(r.perplexity)),
        ("val_kl", r.relaxed.as_ref().map(|q| q.kl)),
        ("val_max_probability", r.relaxed.as_ref().map(|q| q.max_probability)),
        ("val_code_cosine", r.code_cosine),
    ];
    figures.extend([("codes_used", Some(r.used as f64)), ("codes_dead", Some(r.dead as f64))]);
    figures.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The sizes file.
pub(super) fn sizes_json(config: &TokenizerModel) -> Vec<u8> {
    serde_json::to_vec_pretty(config).unwrap_or_default()
}
