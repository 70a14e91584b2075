//! Training of a VQ-KD tokenizer on a teacher's features, as a phase of a run.

use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::Phase;
use super::phase_tokenizer::{Health, Settled, Tokenizer, checkpoint_files, losses_and_perplexity, restore};
use super::pretraining::Pretraining;
use super::run::Run;
use super::state_json::StateJson;
use super::teacher::Teacher;
use super::{State, Stepper};
use crate::config::{RunConfig, wrong};
use crate::data::{Loader, LoaderOptions, Samples, TokenBatch, TokenBatches, Views};
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::io::checkpoint;
use crate::models::VqKdConfig;
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use crate::tasks::tokenizer::TokenizerRecipe;
use crate::tasks::vq_kd::{self, DistillationRecipe, TeacherPlan};
use std::sync::Arc;

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 32;

struct VqKdWork {
    config: RunConfig,
    sizes: VqKdConfig,
    own: DistillationRecipe,
    stepper: Stepper,
    health: Health,
    /// Losses of held-out pictures.
    eval: PlanId,
    val: Vec<TokenBatch>,
    settled: Settled,
    plan_hash: String,
    fingerprint: String,
    teacher_hash: String,
}

/// Trains the tokenizer; nothing if the run was stopped before it was done.
///
/// # Errors
/// If the teacher does not fit, or training fails.
pub(super) fn run(
    run: &mut Run<'_>,
    job: &Pretraining,
    sizes: &VqKdConfig,
    session: Box<dyn Session>,
) -> Result<Option<Tokenizer>> {
    let found = run.newest(Phase::TOKENIZER)?;
    let own = recipe(&job.config.tokenizer_training)?.clone();
    let teacher = Teacher::open(&own.teacher)?;
    teacher.check(sizes)?;
    let mut work = VqKdWork::new(job, sizes, own, &teacher, session)?;
    let (first, best) = match &found {
        Some(f) => work.resume(f)?,
        None => {
            let scratch = run.session()?;
            work.start(job, &teacher, scratch)?;
            (0, None)
        }
    };
    let maker = batches(job, &teacher, true)?;
    let options = LoaderOptions::new(run.workers, first, job.config.tokenizer_training.steps);
    let mut loader = Loader::new(options, Arc::new(move |i| maker.make(i)))?;
    if !Drive::new(run, &mut work, first, best)?.train(&mut loader, first)? {
        return Ok(None);
    }
    let pages = work.stepper.state()?.kind(PageKind::Ema).map(<[_]>::to_vec).unwrap_or_default();
    let layout = work.stepper.layout.clone();
    Ok(Some(Tokenizer { config: sizes.clone().into(), layout, pages }))
}

/// The part of the recipe that only a VQ-KD tokenizer has.
///
/// # Errors
/// If the config lacks it.
pub fn recipe(recipe: &TokenizerRecipe) -> Result<&DistillationRecipe> {
    recipe.distillation.as_ref().ok_or_else(|| {
        wrong("tokenizer-training.distillation", "a section of the config with the teacher", "none")
    })
}

/// Batches with a view for the teacher beside the tokenizer's: the same crop, as the teacher wants it.
fn batches(job: &Pretraining, teacher: &Teacher, train: bool) -> Result<TokenBatches> {
    let (c, pictures) = (&job.config, &job.pictures);
    let views = Views {
        patch_side: teacher.config.vit.image.0,
        normalization: teacher.normalization,
        ..c.views(train)
    };
    let (samples, batch) = match train {
        true => (
            Samples::shuffled(pictures.train.clone(), c.seed, pictures.bad.clone())?,
            c.tokenizer_training.batch,
        ),
        false => {
            let images = c.val_images.min(pictures.val.len()).max(1);
            (Samples::in_order(pictures.val.clone(), c.seed, pictures.bad.clone())?, EVAL_BATCH.min(images))
        }
    };
    Ok(TokenBatches::new(samples, batch, views)?.with_patch_views())
}

impl VqKdWork {
    fn new(
        job: &Pretraining,
        sizes: &VqKdConfig,
        own: DistillationRecipe,
        teacher: &Teacher,
        mut session: Box<dyn Session>,
    ) -> Result<Self> {
        let c = job.config.clone();
        let caps = session.caps();
        let teacher_layout = teacher.put(session.as_mut())?;
        let taught = TeacherPlan { config: &teacher.config, layout: &teacher_layout };
        let plans = vq_kd::plans(sizes, &taught, (&c.tokenizer_training, &own), &caps)?;
        let plan_hash = plans.micro.hash();
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(c.seed)?;
        let maker = batches(job, teacher, false)?;
        let images = c.val_images.min(job.pictures.val.len()).max(1);
        let val: Vec<TokenBatch> =
            (0..(images / maker.batch) as u64).map(|i| maker.make(i)).collect::<Result<_>>()?;
        let plan = vq_kd::eval_plan(sizes, &taught, maker.batch, &stepper.layout, &caps, PageKind::Ema)?;
        let eval = stepper.session.load(Arc::new(plan))?;
        let views = val.iter().map(|b| b.token_view.clone()).collect();
        let health = Health::new(&mut stepper, &c, views, maker.batch)?;
        Ok(VqKdWork {
            sizes: sizes.clone(),
            own,
            stepper,
            health,
            eval,
            val,
            settled: Settled::default(),
            plan_hash,
            fingerprint: job.pictures.train.fingerprint(),
            teacher_hash: teacher.hash(),
            config: c,
        })
    }

    /// Codes from the first batch.
    fn start(&mut self, job: &Pretraining, teacher: &Teacher, scratch: Box<dyn Session>) -> Result<()> {
        let views = batches(job, teacher, true)?.make(0)?.token_view;
        let (layout, seed) = (self.stepper.layout.clone(), self.config.seed);
        let how = (self.own.kmeans_rounds, seed);
        let start = (&layout, layout.initial(seed));
        let pages = vq_kd::start_codebook(scratch, start, &self.sizes, how, &views)?;
        let kinds = [PageKind::Param, PageKind::Ema].map(|kind| (kind, pages.clone()));
        self.stepper.restore(&State { pages: kinds.to_vec() })
    }

    fn resume(&mut self, found: &checkpoint::Found) -> Result<(u64, Option<(u64, f64)>)> {
        let state = StateJson::parse(&found.read("state.json")?, "state.json")?;
        if state.teacher.as_ref().is_some_and(|hash| *hash != self.teacher_hash) {
            return Err(Error::checkpoint("the teacher is another than the run was started with")
                .at(self.own.teacher.clone())
                .expected("the weights that this tokenizer has learned from so far")
                .hint("put the teacher back, or start a new run"));
        }
        restore(&mut self.stepper, found, &state, &self.fingerprint)?;
        Ok((state.step, state.best))
    }
}

impl Work for VqKdWork {
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
        vq_kd::step(&mut self.stepper, (&c.tokenizer_training, &self.own), c.seed, i, batch)?;
        if !report {
            return Ok(vec![]);
        }
        let micro = self.stepper.micro();
        let numbers = self.stepper.session.fetch(micro, &["loss", "distance", "commitment", "ids"])?;
        Ok(vec![numbers, self.stepper.fetch_control()?])
    }
    fn numbers(&mut self, i: u64, read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        let ([loss, distance, commitment], perplexity) = losses_and_perplexity(read, self.sizes.vocab);
        let r = &self.config.tokenizer_training;
        let numbers = vec![
            ("loss", loss),
            ("cosine_distance", distance),
            ("commitment", commitment),
            ("perplexity", perplexity),
            ("lr", r.lr_at(i)),
        ];
        (numbers, self.settled.warning(i, r.steps, perplexity, self.sizes.vocab, None))
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let (mut distance, mut commitment) = (0.0, 0.0);
        for batch in &self.val {
            let session = self.stepper.session.as_mut();
            session.write(self.eval, "image", Data::F32(&batch.token_view))?;
            session.write(self.eval, "teacher_view", Data::F32(&batch.patch_view))?;
            session.run(self.eval)?;
            let number = |data: Vec<f32>| f64::from(data.first().copied().unwrap_or(f32::NAN));
            distance += number(session.read(self.eval, "distance")?.f32());
            commitment += number(session.read(self.eval, "commitment")?.f32());
        }
        let n = self.val.len().max(1) as f64;
        let mut found = self.health.evaluate(&mut self.stepper, &self.config, step, 1.0)?;
        found.metrics.insert(0, ("val_cosine_distance", distance / n));
        found.metrics.insert(1, ("val_commitment", commitment / n));
        found.score = distance / n;
        Ok(found)
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut json = StateJson::new(Phase::TOKENIZER, step, &self.config);
        (json.best, json.plan) = (best, self.plan_hash.clone());
        (json.data, json.teacher) = (self.fingerprint.clone(), Some(self.teacher_hash.clone()));
        checkpoint_files(&mut self.stepper, &self.config.tokenizer, json)
    }
}
