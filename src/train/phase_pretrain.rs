//! The second phase of a run: masked pre-training on the frozen tokenizer's ids.

use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::{Event, Phase};
use super::files::{optimizer_file, pages_of, read_optimizer, state_limits, tensors_of};
use super::phase_tokenizer::{SIZES, Tokenizer, WEIGHTS, sizes_json};
use super::pretraining::{Pretraining, model_files};
use super::run::Run;
use super::sheets::{ReconstructionInputs, reconstruction_sheet};
use super::state_json::StateJson;
use super::{Stepper, page_bytes, token_cache};
use crate::config::RunConfig;
use crate::data::{Loader, LoaderOptions, MimBatch, MimBatches, Samples, TokenBatches};
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::io::checkpoint;
use crate::io::names::{from_transformers, to_transformers};
use crate::io::tensors::{pt_metadata, read_safetensors, write_safetensors};
use crate::models::mim::TOKENIZER;
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use crate::tasks::pretrain::{self, MimModel, evaluate};
use crate::tasks::token_statistics::TokenStatistics;
use crate::tasks::tokenizer::{decode_plan, encode_plan};
use serde_json::json;
use std::sync::Arc;

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 32;
/// Training pictures whose tokens give the two entropies that a model without context cannot beat.
const STATISTICS_IMAGES: usize = 4096;

struct PretrainWork {
    config: RunConfig,
    model: MimModel,
    tokenizer: Tokenizer,
    stepper: Stepper,
    eval: PlanId,
    /// Ids to pictures, of a tokenizer that draws them.
    decode: Option<PlanId>,
    val: Vec<MimBatch>,
    baselines: Baselines,
    plan_hash: String,
    fingerprint: String,
    tokenizer_hash: String,
    micro_losses: Vec<(f64, f64)>,
}

/// What a model that ignores the picture could reach at best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baselines {
    /// Entropy of the ids.
    pub unigram: f64,
    /// Mean entropy of the ids at each position.
    pub position: f64,
    /// The same over the patches that are masked in the held-out pictures.
    pub masked_position: f64,
    /// exp of the first.
    pub perplexity: f64,
    /// Share of the commonest id.
    pub commonest: f64,
}

/// Trains; false if it was stopped.
///
/// # Errors
/// If the tokenizer does not fit, or training fails.
pub fn run(run: &mut Run<'_>, job: &Pretraining, tokenizer: &Tokenizer) -> Result<bool> {
    let mut work = PretrainWork::new(run, job, tokenizer)?;
    let b = work.baselines;
    let ln_v = (work.config.model.vocab as f64).ln();
    run.folder.write("baselines.json", format!("{:#}\n", baselines_json(&b, ln_v)).as_bytes())?;
    run.tell(Event::Note(format!(
        "tokens of the training pictures: ln V {ln_v:.3}, unigram entropy {:.3}, per-position entropy {:.3} \
         (of masked patches {:.3}), perplexity {:.1} of {}, commonest token {:.3}",
        b.unigram, b.position, b.masked_position, b.perplexity, work.config.model.vocab, b.commonest
    )));
    let found = run.newest(Phase::PRETRAIN)?;
    let (first, best) = match &found {
        Some(f) => work.resume(run, f)?,
        None => (0, None),
    };
    if first >= work.total() {
        return Ok(true);
    }
    let mut maker = batches(job)?;
    if job.config.token_cache.views > 0 {
        let session = work.stepper.session.as_mut();
        let Some(ids) = token_cache::prepare(run, job, &work.tokenizer, session)? else { return Ok(false) };
        maker = maker.with_cached_ids(ids);
    }
    let options = LoaderOptions::new(run.workers, first, job.config.training.steps);
    let mut loader = Loader::new(options, Arc::new(move |i| maker.make(i)))?;
    Drive::new(run, &mut work, first, best)?.train(&mut loader, first)
}

/// The reference numbers as they are kept beside the metrics.
fn baselines_json(b: &Baselines, ln_v: f64) -> serde_json::Value {
    json!({
        "ln_v": ln_v,
        "unigram_entropy": b.unigram,
        "position_entropy": b.position,
        "masked_position_entropy": b.masked_position,
        "perplexity": b.perplexity,
        "commonest_share": b.commonest,
    })
}

fn batches(job: &Pretraining) -> Result<MimBatches> {
    let c = &job.config;
    let samples = Samples::shuffled(job.pictures.train.clone(), c.seed, job.pictures.bad.clone())?;
    MimBatches::new(samples, c.training.batch, c.views(true), c.masking())
}

impl PretrainWork {
    fn new(run: &mut Run<'_>, job: &Pretraining, tokenizer: &Tokenizer) -> Result<Self> {
        let (c, pictures) = (job.config.clone(), &job.pictures);
        let model = c.mim();
        let mut session = run.session()?;
        let caps = session.caps();
        let tokenizer = if tokenizer.layout.pages.iter().any(|&n| 4 * n as u64 > page_bytes(&caps)) {
            Tokenizer::read(&tokenizer.weights()?, &sizes_json(&tokenizer.config), page_bytes(&caps))?
        } else {
            tokenizer.clone()
        };
        let plans = match c.token_cache.views {
            0 => model.plans(&c.training, &tokenizer.layout, &caps)?,
            _ => model.plans_on_ids(&c.training, &caps)?,
        };
        let plan_hash = plans.micro.hash();
        session.add_store(&tokenizer.layout, &[PageKind::Param])?;
        for (p, page) in tokenizer.pages.iter().enumerate() {
            session.write_page(TOKENIZER, PageKind::Param, p, page)?;
        }
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(c.seed)?;
        let images = c.val_images.min(pictures.val.len()).max(1);
        let batch = EVAL_BATCH.min(images);
        let plan = model.eval_plan(batch, &stepper.layout, &tokenizer.layout, &caps)?;
        let eval = stepper.session.load(Arc::new(plan))?;
        let decode = match c.tokenizer.draws() {
            true => {
                let plan = decode_plan(&c.tokenizer, &tokenizer.layout, c.model.grid(), batch, &caps)?;
                Some(stepper.session.load(Arc::new(plan))?)
            }
            false => {
                run.tell(Event::Note(
                    "no contact sheets: this tokenizer has nothing to draw its ids with".into(),
                ));
                None
            }
        };
        let samples = Samples::in_order(pictures.val.clone(), c.seed, pictures.bad.clone())?;
        let maker = MimBatches::new(samples, batch, c.views(false), c.masking())?;
        let val: Vec<MimBatch> =
            (0..(images / batch) as u64).map(|i| maker.make(i)).collect::<Result<_>>()?;
        let baselines = token_baselines(run.workers, job, &tokenizer, &mut stepper, &val)?;
        let tokenizer_hash = tokenizer.hash()?;
        let fingerprint = pictures.train.fingerprint();
        Ok(PretrainWork {
            config: c,
            model,
            tokenizer,
            stepper,
            eval,
            decode,
            val,
            baselines,
            plan_hash,
            fingerprint,
            tokenizer_hash,
            micro_losses: vec![],
        })
    }

    fn resume(&mut self, run: &mut Run<'_>, found: &checkpoint::Found) -> Result<(u64, Option<(u64, f64)>)> {
        let state = StateJson::parse(&found.read("state.json")?, "state.json")?;
        let layout = self.stepper.layout.clone();
        state.check(&layout.hash(), &self.fingerprint)?;
        if state.tokenizer.as_ref().is_some_and(|hash| *hash != self.tokenizer_hash) {
            return Err(Error::checkpoint("the tokenizer is another than the run was started with")
                .expected("the weights whose ids this transformer has learned to predict so far")
                .hint("go on without --tokenizer: the run folder holds its own"));
        }
        if state.plan != self.plan_hash {
            run.tell(Event::Warning(
                "going on with another plan (device or version) than before: not bit for bit".into(),
            ));
        }
        let limits = state_limits(&layout);
        let mut saved = read_optimizer(&layout, &found.read("optimizer.safetensors")?, &limits)?;
        let weights =
            from_transformers(read_safetensors(&found.read("model.safetensors")?, &limits)?.tensors)?;
        saved.pages.push((PageKind::Param, pages_of(&layout, &weights)?));
        self.stepper.restore(&saved)?;
        Ok((state.step, state.best))
    }
}

/// Encodes training pictures (centred squares, no augmentation) and counts their ids.
fn token_baselines(
    workers: usize,
    job: &Pretraining,
    tokenizer: &Tokenizer,
    stepper: &mut Stepper,
    val: &[MimBatch],
) -> Result<Baselines> {
    let (c, pictures) = (&job.config, &job.pictures);
    let images = STATISTICS_IMAGES.min(pictures.train.len());
    let batch = (2 * EVAL_BATCH).min(images).max(1);
    let caps = stepper.session.caps();
    let plan = encode_plan(&c.tokenizer, &tokenizer.layout, c.token_side(), batch, &caps)?;
    let plan = stepper.session.load(Arc::new(plan))?;
    let samples = Samples::in_order(pictures.train.clone(), c.seed, pictures.bad.clone())?;
    let maker = TokenBatches::new(samples, batch, c.views(false))?;
    let steps = (images / batch) as u64;
    let mut loader = Loader::new(LoaderOptions::new(workers, 0, steps), Arc::new(move |i| maker.make(i)))?;
    let mut statistics = TokenStatistics::new(c.model.patches(), c.model.vocab);
    while let Some(view) = loader.next() {
        stepper.session.write(plan, "image", Data::F32(&view??.token_view))?;
        stepper.session.run(plan)?;
        statistics.add(&stepper.session.read(plan, "ids")?.u32());
    }
    let all = statistics.codebook();
    let mut masked = vec![0; c.model.patches()];
    for image in val.iter().flat_map(|batch| batch.predicted.chunks(c.model.patches())) {
        masked.iter_mut().zip(image).for_each(|(n, &hidden)| *n += u64::from(hidden));
    }
    Ok(Baselines {
        unigram: all.entropy(),
        position: statistics.position_entropy(),
        masked_position: statistics.position_entropy_at(&masked),
        perplexity: all.perplexity(),
        commonest: all.commonest(),
    })
}

impl Work for PretrainWork {
    type Batch = MimBatch;
    fn phase(&self) -> Phase {
        Phase::PRETRAIN
    }
    fn total(&self) -> u64 {
        self.config.training.steps
    }
    fn images(&self) -> usize {
        self.config.training.batch
    }
    fn session(&mut self) -> &mut dyn Session {
        self.stepper.session.as_mut()
    }
    fn step(&mut self, i: u64, batch: &MimBatch, report: bool) -> Result<Vec<Ticket>> {
        let c = &self.config;
        let turn = pretrain::Turn { seed: c.seed, i, report };
        let mut tickets = pretrain::step(&mut self.stepper, &self.model, &c.training, turn, batch)?;
        if report {
            tickets.push(self.stepper.fetch_control()?);
        }
        Ok(tickets)
    }
    fn numbers(&mut self, i: u64, mut read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        // the control block, which is everybody's
        read.pop();
        self.micro_losses.clear();
        for micro in read {
            let mut it = micro.into_iter();
            let mut number = || {
                f64::from(it.next().map(HostData::f32).and_then(|v| v.first().copied()).unwrap_or(f32::NAN))
            };
            self.micro_losses.push((number(), number()));
        }
        // The weights of a micro-batch are shares of the whole update, so its losses add up.
        let (loss, accuracy) = self.micro_losses.iter().fold((0.0, 0.0), |s, m| (s.0 + m.0, s.1 + m.1));
        let lr = self.config.training.lr_at(i);
        let wd = self.config.training.weight_decay;
        (vec![("loss", loss), ("mlm_acc", accuracy), ("lr", lr), ("weight_decay", wd)], None)
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let mut statistics = TokenStatistics::new(self.config.model.patches(), self.config.model.vocab);
        let session = self.stepper.session.as_mut();
        let e = evaluate(session, self.eval, &self.model, &self.val, &mut statistics)?;
        let tokens = statistics.codebook();
        let metrics = vec![
            ("val_loss", e.loss),
            ("val_mlm_acc", e.accuracy),
            ("ln_v", (self.config.model.vocab as f64).ln()),
            ("unigram_entropy", self.baselines.unigram),
            ("position_entropy", self.baselines.position),
            ("masked_position_entropy", self.baselines.masked_position),
            ("val_unigram_entropy", tokens.entropy()),
            ("perplexity", self.baselines.perplexity),
            ("commonest_share", self.baselines.commonest),
        ];
        let sheet = match self.decode {
            Some(decode) => Some(self.sheet(step, &e, decode)?.to_png()?),
            None => None,
        };
        Ok(Evaluation { score: e.loss, metrics, sheet })
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let state = self.stepper.state()?;
        let layout = self.stepper.layout.clone();
        let pages = state.kind(PageKind::Param).unwrap_or_default();
        let weights = to_transformers(tensors_of(&layout, pages))?;
        let mut json = StateJson::new(Phase::PRETRAIN, step, &self.config);
        (json.best, json.plan, json.layout) = (best, self.plan_hash.clone(), layout.hash());
        (json.data, json.tokenizer) = (self.fingerprint.clone(), Some(self.tokenizer_hash.clone()));
        let mut files = model_files(&self.config);
        files.extend([
            ("model.safetensors".into(), write_safetensors(&weights, &pt_metadata())),
            (WEIGHTS.into(), self.tokenizer.weights()?),
            (SIZES.into(), sizes_json(&self.tokenizer.config)),
            ("optimizer.safetensors".into(), optimizer_file(&layout, &state, PageKind::Param)),
            ("state.json".into(), json.to_bytes()),
        ]);
        Ok(files)
    }
}

impl PretrainWork {
    /// Original, corrupted, reconstructed, and the tokenizer's own reconstruction, of the last evaluated batch.
    fn sheet(
        &mut self,
        step: u64,
        e: &pretrain::EvalResult,
        decode_plan: PlanId,
    ) -> Result<crate::runs::sheet::Sheet> {
        let Some(batch) = self.val.last() else { return Ok(crate::runs::sheet::Sheet::default()) };
        let session = self.stepper.session.as_mut();
        let ids = session.read(self.eval, "ids")?.u32();
        let predicted = session.read(self.eval, "predicted")?.u32();
        let mut filled = ids.clone();
        for (slot, p) in (0..batch.predicted.len()).filter(|&p| batch.predicted[p]).enumerate() {
            filled[p] = predicted.get(slot).copied().unwrap_or(0);
        }
        let mut decode = |ids: &[u32]| -> Result<Vec<f32>> {
            session.write(decode_plan, "ids", Data::U32(ids))?;
            session.run(decode_plan)?;
            Ok(session.read(decode_plan, "decoded")?.f32())
        };
        let (filled_pixels, ceiling) = (decode(&filled)?, decode(&ids)?);
        reconstruction_sheet(&ReconstructionInputs {
            view: &batch.token_view,
            mask: &batch.predicted,
            side: self.config.token_side(),
            tokenizer: &self.config.tokenizer,
            filled: &filled_pixels,
            ceiling: &ceiling,
            ids: &ids,
            predicted: &filled,
            title: format!(
                "held-out pictures after {step} updates: loss {:.3}, accuracy {:.3}",
                e.loss, e.accuracy
            ),
        })
    }
}
