//! Pre-training by comparing views with a momentum network: self-distillation, momentum contrast.

use super::Stepper;
use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::{Event, Phase};
use super::kept::Kept;
use super::pretraining::{Pretraining, model_files};
use super::run::Run;
use crate::config::RunConfig;
use crate::data::{Loader, LoaderOptions, Samples, ViewBatch, ViewBatches};
use crate::error::Result;
use crate::graph::PageKind;
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use crate::tasks::pretrain::Turn;
use crate::tasks::views::{Comparing, ViewsModel, entropy_of, lr_at, spread};
use std::sync::Arc;

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 32;
/// Held-out evaluation batches.
const EVAL_BATCHES: usize = 8;
/// Below this share of what an even target or spread would have, a run says that it collapses.
const COLLAPSED: f64 = 0.1;

/// Trains; false if it was stopped.
///
/// # Errors
/// If training fails.
pub fn run(run: &mut Run<'_>, job: &Pretraining) -> Result<bool> {
    let mut work = ViewsWork::new(run, job)?;
    let (first, best) = match run.newest(Phase::PRETRAIN)? {
        Some(found) => work.resume(run, &found)?,
        None => (0, None),
    };
    if first >= work.total() {
        return Ok(true);
    }
    let c = &job.config;
    if c.training.accumulate > 1 {
        run.tell(Event::Note(
            "each micro-batch is compared within itself: --accumulate changes the numbers".into(),
        ));
    }
    let samples = Samples::shuffled(job.pictures.train.clone(), c.seed, job.pictures.bad.clone())?;
    let maker = ViewBatches::new(samples, c.training.batch, c.view_spec())?;
    let options = LoaderOptions::new(run.workers, first, c.training.steps);
    let mut loader = Loader::new(options, Arc::new(move |i| maker.make(i)))?;
    Drive::new(run, &mut work, first, best)?.train(&mut loader, first)
}

struct ViewsWork {
    config: RunConfig,
    model: ViewsModel,
    stepper: Stepper,
    eval: PlanId,
    val: Vec<ViewBatch>,
    kept: Kept,
    warned: bool,
}

impl ViewsWork {
    fn new(run: &mut Run<'_>, job: &Pretraining) -> Result<Self> {
        let (c, pictures) = (job.config.clone(), &job.pictures);
        let model = ViewsModel::of(&c)?;
        let session = run.session()?;
        let caps = session.caps();
        let plans = model.plans(&c.training, &caps)?;
        let kept = Kept {
            phase: Phase::PRETRAIN,
            plan: plans.micro.hash(),
            data: pictures.train.fingerprint(),
            // the teacher is the better network of the two; momentum contrast measures the encoder itself
            weights: match model.method {
                Comparing::Dino(_) => PageKind::Ema,
                Comparing::Moco(_) => PageKind::Param,
            },
        };
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(c.seed)?;
        let micro = stepper.micro();
        model.write_constants(stepper.session.as_mut(), micro, c.training.micro_batch())?;
        let images = c.val_images.min(pictures.val.len()).max(1);
        let batch = EVAL_BATCH.min(images);
        let plan = model.eval_plan(batch, &stepper.layout, &caps)?;
        let eval = stepper.session.load(Arc::new(plan))?;
        model.write_constants(stepper.session.as_mut(), eval, batch)?;
        let samples = Samples::in_order(pictures.val.clone(), c.seed, pictures.bad.clone())?;
        let maker = ViewBatches::new(samples, batch, c.view_spec())?;
        let batches = (images / batch).min(EVAL_BATCHES) as u64;
        let val = (0..batches).map(|i| maker.make(i)).collect::<Result<_>>()?;
        Ok(ViewsWork { config: c, model, stepper, eval, val, kept, warned: false })
    }

    fn resume(
        &mut self,
        run: &mut Run<'_>,
        found: &crate::io::checkpoint::Found,
    ) -> Result<super::kept::Progress> {
        let progress = self.kept.resume(run, &mut self.stepper, found)?;
        self.stepper.set_rates(self.model.rates(progress.0, &self.config.training))?;
        Ok(progress)
    }

    /// Width of the keys, or number of prototypes.
    fn width(&self) -> usize {
        match &self.model.method {
            Comparing::Dino(c) => c.head.out,
            Comparing::Moco(c) => c.head.out,
        }
    }

    /// Numbers of one run of a plan from [`ViewsModel::outputs`].
    fn measured(&self, read: Vec<HostData>) -> Vec<f64> {
        let mut it = read.into_iter().map(HostData::f32);
        let mut next = || it.next().unwrap_or_default();
        let first = |v: Vec<f32>| f64::from(v.first().copied().unwrap_or(f32::NAN));
        match self.model.method {
            Comparing::Dino(_) => vec![first(next()), entropy_of(&next())],
            Comparing::Moco(_) => vec![first(next()), first(next()), spread(&next(), self.width())],
        }
    }

    /// A warning, once, when targets or keys have become the same for all pictures.
    fn collapse(&mut self, measured: &[f64]) -> Option<String> {
        let (what, share) = match self.model.method {
            Comparing::Dino(_) => ("all targets are the same", measured[1] / (self.width() as f64).ln()),
            Comparing::Moco(_) => ("all keys are the same", measured[2]),
        };
        if self.warned || share.is_nan() || share > COLLAPSED {
            return None;
        }
        self.warned = true;
        Some(format!("the representation collapses: {what} (a smaller --lr or a slower average may help)"))
    }
}

fn add(sums: &mut Vec<f64>, more: &[f64]) {
    sums.resize(more.len(), 0.0);
    sums.iter_mut().zip(more).for_each(|(s, m)| *s += m);
}

impl Work for ViewsWork {
    type Batch = ViewBatch;
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
    fn step(&mut self, i: u64, batch: &ViewBatch, report: bool) -> Result<Vec<Ticket>> {
        let turn = Turn { seed: self.config.seed, i, report };
        let mut tickets = self.model.step(&mut self.stepper, &self.config.training, turn, batch)?;
        if report {
            tickets.push(self.stepper.fetch_control()?);
        }
        Ok(tickets)
    }
    fn numbers(&mut self, i: u64, mut read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        read.pop(); // the control block
        let (mut sums, micros) = (vec![], read.len().max(1) as f64);
        for micro in read {
            add(&mut sums, &self.measured(micro));
        }
        sums.iter_mut().for_each(|s| *s /= micros);
        let warning = self.collapse(&sums);
        let (t, m) = (&self.config.training, &self.model);
        let mut numbers = vec![("loss", sums[0])];
        match m.method {
            Comparing::Dino(_) => {
                numbers.extend([("mean_entropy", sums[1]), ("teacher_temp", m.temperature(i, t))]);
            }
            Comparing::Moco(_) => numbers.extend([("pair_acc", sums[1]), ("spread", sums[2])]),
        }
        numbers.extend([
            ("lr", lr_at(t, i)),
            ("weight_decay", m.weight_decay(i, t)),
            ("momentum", m.momentum(i, t)),
        ]);
        (numbers, warning)
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let (mut sums, mut entropies, mut rows) = (vec![], 0.0, 0);
        let (k, images) = (self.width(), self.val.first().map_or(1, |b| b.samples.len()));
        for batch in &self.val {
            let session = self.stepper.session.as_mut();
            self.model.write_views(session, self.eval, batch, 0..images)?;
            let dino = matches!(self.model.method, Comparing::Dino(_));
            if dino {
                let at = step.min(self.config.training.steps);
                let temperature = self.model.temperature(at, &self.config.training) as f32;
                session.write(self.eval, "temperature", Data::F32(&[temperature]))?;
            }
            session.run(self.eval)?;
            let ticket = session.fetch(self.eval, self.model.outputs())?;
            let read = session.take(ticket, true)?.unwrap_or_default();
            if dino {
                let targets = session.read(self.eval, "targets")?.f32();
                entropies += targets.chunks(k).map(entropy_of).sum::<f64>();
                rows += targets.len() / k;
            }
            add(&mut sums, &self.measured(read));
        }
        sums.iter_mut().for_each(|s| *s /= self.val.len().max(1) as f64);
        let mut metrics = vec![("val_loss", sums[0])];
        match self.model.method {
            Comparing::Dino(_) => metrics.extend([
                ("val_mean_entropy", sums[1]),
                ("val_target_entropy", entropies / rows.max(1) as f64),
                ("ln_k", (k as f64).ln()),
            ]),
            Comparing::Moco(_) => metrics.extend([
                ("val_pair_acc", sums[1]),
                ("val_spread", sums[2]),
                // both directions of the contrast, in the units of the loss
                ("ln_pairs", 4.0 * self.model.temperature(0, &self.config.training) * (images as f64).ln()),
            ]),
        }
        Ok(Evaluation { metrics, score: sums[0], sheet: None })
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.kept.files(&mut self.stepper, (step, best), &self.config)?;
        files.extend(model_files(&self.config));
        Ok(files)
    }
}
