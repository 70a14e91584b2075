//! Masked pre-training without a tokenizer: mean colours or pixels of patches.

use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::{Event, Phase};
use super::kept::Kept;
use super::pretraining::{Pretraining, model_files};
use super::run::Run;
use super::{StepPlans, Stepper};
use crate::config::{COLOURS, Method, RunConfig};
use crate::data::{Loader, LoaderOptions, MimBatch, MimBatches, Normalization, Samples, colour_of};
use crate::error::Result;
use crate::graph::{PageKind, ParamLayout};
use crate::ops::Caps;
use crate::pictures::cells::{fill_in, hide, of_normalized};
use crate::plan::Plan;
use crate::runs::sheet::{Sheet, SheetRow, Tile};
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use crate::tasks::pixels;
use crate::tasks::pretrain::{self, MaskedInputs, MimModel, Turn};
use crate::tasks::token_statistics::TokenStatistics;
use std::sync::Arc;

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 32;
/// Pictures on a contact sheet.
const SHOWN: usize = 8;

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Colours,
    Pixels,
}

impl Target {
    fn of(config: &RunConfig) -> Target {
        if matches!(config.method, Method::Pixels) { Target::Pixels } else { Target::Colours }
    }
    fn plans(self, model: &MimModel, c: &RunConfig, caps: &Caps) -> Result<StepPlans> {
        match self {
            Target::Colours => model.plans_on_ids(&c.training, caps),
            Target::Pixels => pixels::plans(model, &c.training, caps),
        }
    }
    fn eval_plan(self, model: &MimModel, images: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
        match self {
            Target::Colours => model.eval_plan_on_ids(images, layout, caps),
            Target::Pixels => pixels::eval_plan(model, images, layout, caps),
        }
    }
}

/// The plans of a step.
///
/// # Errors
/// If the sizes do not fit.
pub fn plans(config: &RunConfig, caps: &Caps) -> Result<StepPlans> {
    Target::of(config).plans(&config.mim(), config, caps)
}

/// Trains; false if it was stopped.
///
/// # Errors
/// If training fails.
pub fn run(run: &mut Run<'_>, job: &Pretraining) -> Result<bool> {
    let mut work = MaskedWork::new(run, job)?;
    run.tell(Event::Note(work.about()));
    let (first, best) = match run.newest(Phase::PRETRAIN)? {
        Some(found) => work.kept.resume(run, &mut work.stepper, &found)?,
        None => (0, None),
    };
    if first >= work.total() {
        return Ok(true);
    }
    let c = &job.config;
    let samples = Samples::shuffled(job.pictures.train.clone(), c.seed, job.pictures.bad.clone())?;
    let maker = MimBatches::new(samples, c.training.batch, c.views(true), c.masking())?.without_token_views();
    let options = LoaderOptions::new(run.workers, first, c.training.steps);
    let mut loader = Loader::new(options, Arc::new(move |i| maker.make(i)))?;
    Drive::new(run, &mut work, first, best)?.train(&mut loader, first)
}

struct MaskedWork {
    config: RunConfig,
    target: Target,
    model: MimModel,
    stepper: Stepper,
    eval: PlanId,
    val: Vec<MimBatch>,
    kept: Kept,
    /// What a guess that ignores the picture reaches on held-out pictures: colours, entropy in nats and share of the
    /// commonest class; pixels, the variance and the mean squared error of each patch's own mean.
    guess: (f64, f64),
}

impl MaskedWork {
    fn new(run: &mut Run<'_>, job: &Pretraining) -> Result<Self> {
        let (c, pictures) = (job.config.clone(), &job.pictures);
        let (target, model) = (Target::of(&c), c.mim());
        let session = run.session()?;
        let caps = session.caps();
        let plans = target.plans(&model, &c, &caps)?;
        let kept = Kept {
            phase: Phase::PRETRAIN,
            plan: plans.micro.hash(),
            data: pictures.train.fingerprint(),
            weights: PageKind::Param,
        };
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin(c.seed)?;
        let images = c.val_images.min(pictures.val.len()).max(1);
        let batch = EVAL_BATCH.min(images);
        let plan = target.eval_plan(&model, batch, &stepper.layout, &caps)?;
        let eval = stepper.session.load(Arc::new(plan))?;
        let samples = Samples::in_order(pictures.val.clone(), c.seed, pictures.bad.clone())?;
        let maker = MimBatches::new(samples, batch, c.views(false), c.masking())?.without_token_views();
        let val: Vec<MimBatch> =
            (0..(images / batch) as u64).map(|i| maker.make(i)).collect::<Result<_>>()?;
        let mut work =
            MaskedWork { config: c, target, model, stepper, eval, val, kept, guess: (f64::NAN, f64::NAN) };
        work.guess = match target {
            Target::Colours => work.colour_guess(),
            Target::Pixels => work.pixel_guess(),
        };
        Ok(work)
    }

    fn inputs(&self, batch: &MimBatch) -> MaskedInputs {
        let total = batch.predicted.iter().filter(|&&p| p).count();
        let slots = batch.samples.len() * self.model.mask_slots;
        MaskedInputs::predicting(&batch.mask, &batch.predicted, self.model.vit.patches(), slots, total)
    }

    fn colour_guess(&self) -> (f64, f64) {
        let mut statistics = TokenStatistics::new(self.model.vit.patches(), COLOURS);
        self.val.iter().for_each(|b| statistics.add(&b.ids));
        let all = statistics.codebook();
        (all.entropy(), all.commonest())
    }

    fn pixel_guess(&self) -> (f64, f64) {
        let (n, mut within, mut sums) = (pixels_of_patch(&self.model), 0.0, [0.0; 3]);
        for batch in &self.val {
            let masked = self.inputs(batch);
            let all = pixels::targets(&self.model.vit, &batch.patch_view, &masked);
            for patch in all.chunks(n).take(masked.count) {
                let (sum, squares) = moments(patch);
                for c in 0..3 {
                    // by channel: what is left when the patch's own mean colour is taken away
                    within += squares[c] - sum[c] * sum[c] / (n / 3) as f64;
                }
                let (sum, squares) = (sum.iter().sum::<f64>(), squares.iter().sum::<f64>());
                (sums[0], sums[1], sums[2]) = (sums[0] + sum, sums[1] + squares, sums[2] + n as f64);
            }
        }
        let mean = sums[0] / f64::max(sums[2], 1.0);
        (sums[1] / f64::max(sums[2], 1.0) - mean * mean, within / f64::max(sums[2], 1.0))
    }

    fn about(&self) -> String {
        let (a, b) = self.guess;
        match self.target {
            Target::Colours => format!(
                "mean colours of held-out patches: ln 512 {:.3}, entropy {a:.3}, commonest class {b:.3}",
                (COLOURS as f64).ln()
            ),
            Target::Pixels => format!(
                "pixels of held-out patches: variance {a:.4}, mean squared error of the right flat colour {b:.4}"
            ),
        }
    }

    /// Original, what the network saw, and its predictions in the predicted patches, of the last evaluated batch.
    fn sheet(&self, title: String, predicted: &HostData, batch: &MimBatch) -> Result<Sheet> {
        let vit = &self.model.vit;
        let (side, n, normalization) = (vit.image, vit.patches(), self.config.normalization());
        let columns = ["original", "corrupted", "predicted"].map(String::from).to_vec();
        let mut sheet = Sheet { title, columns, rows: vec![] };
        let masked = self.inputs(batch);
        let original = if batch.unchanged.is_empty() { &batch.patch_view } else { &batch.unchanged };
        let mut filled = original.clone();
        let patches = match predicted {
            HostData::F32(patches) => patches.clone(),
            HostData::U32(classes) => flat_patches(&self.model, classes, normalization),
        };
        pixels::place(vit, &mut filled, &patches, &masked);
        let of = |view: &[f32], b: usize| {
            let from = b * side.0 * side.1 * 3;
            of_normalized(&view[from..from + side.0 * side.1 * 3], side, normalization)
        };
        for b in 0..batch.samples.len().min(SHOWN) {
            let (mask, predicted) = (&batch.mask[b * n..][..n], &batch.predicted[b * n..][..n]);
            let whole = of(original, b);
            let corrupted = hide(&of(&batch.patch_view, b), mask, vit.grid());
            let filled = fill_in(&whole, &of(&filled, b), predicted, vit.grid());
            let tiles = [whole, corrupted, filled].map(Tile::photo).to_vec();
            sheet.rows.push(SheetRow { caption: String::new(), tiles });
        }
        Ok(sheet)
    }
}

fn pixels_of_patch(model: &MimModel) -> usize {
    crate::models::pixels::patch_numbers(&model.vit)
}

/// Sum and sum of squares of each channel.
fn moments(patch: &[f32]) -> ([f64; 3], [f64; 3]) {
    let (mut sum, mut squares) = ([0.0; 3], [0.0; 3]);
    for (i, &v) in patch.iter().enumerate() {
        sum[i % 3] += f64::from(v);
        squares[i % 3] += f64::from(v) * f64::from(v);
    }
    (sum, squares)
}

/// Patches of one colour each, normalised.
fn flat_patches(model: &MimModel, classes: &[u32], n: Normalization) -> Vec<f32> {
    let of = |class: &u32| {
        let rgb = colour_of(*class);
        let pixel = [0, 1, 2].map(|c| (f32::from(rgb[c]) / 255.0 - n.mean[c]) / n.std[c]);
        pixel.repeat(model.vit.patch * model.vit.patch)
    };
    classes.iter().flat_map(of).collect()
}

impl Work for MaskedWork {
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
        let (c, turn) = (&self.config, Turn { seed: self.config.seed, i, report });
        let mut tickets = match self.target {
            Target::Colours => pretrain::step(&mut self.stepper, &self.model, &c.training, turn, batch)?,
            Target::Pixels => pixels::step(&mut self.stepper, &self.model, &c.training, turn, batch)?,
        };
        if report {
            tickets.push(self.stepper.fetch_control()?);
        }
        Ok(tickets)
    }
    fn numbers(&mut self, i: u64, mut read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        read.pop(); // the control block
        // The weights of a micro-batch are shares of the whole update, so its numbers add up.
        let mut sums = [0.0; 2];
        for micro in read {
            for (sum, d) in sums.iter_mut().zip(micro) {
                *sum += f64::from(d.f32().first().copied().unwrap_or(f32::NAN));
            }
        }
        let mut numbers = vec![("loss", sums[0])];
        if self.target == Target::Colours {
            numbers.push(("colour_acc", sums[1]));
        }
        numbers.push(("lr", self.config.training.lr_at(i)));
        (numbers, None)
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let (mut loss, mut accuracy, mut patches) = (0.0, 0.0, 0);
        let mut sheet = None;
        for (b, batch) in self.val.iter().enumerate() {
            let masked = self.inputs(batch);
            let session = self.stepper.session.as_mut();
            let outputs: &[&str] = match self.target {
                Target::Colours => {
                    session.write(self.eval, "image", Data::F32(&batch.patch_view))?;
                    session.write(self.eval, "ids", Data::U32(&batch.ids))?;
                    masked.write(session, self.eval)?;
                    session.run(self.eval)?;
                    &["loss", "predicted", "accuracy"]
                }
                Target::Pixels => {
                    pixels::evaluate(session, self.eval, &self.model, batch, &masked)?;
                    &["loss", "predicted"]
                }
            };
            let ticket = session.fetch(self.eval, outputs)?;
            let mut read = session.take(ticket, true)?.unwrap_or_default().into_iter();
            let first = |d: Option<HostData>| {
                f64::from(d.map(HostData::f32).and_then(|v| v.first().copied()).unwrap_or(f32::NAN))
            };
            loss += masked.count as f64 * first(read.next());
            let predicted = read.next();
            if self.target == Target::Colours {
                accuracy += masked.count as f64 * first(read.next());
            }
            patches += masked.count;
            if let Some(predicted) = predicted.filter(|_| b + 1 == self.val.len()) {
                let title =
                    format!("held-out pictures after {step} updates: loss {:.4}", loss / patches as f64);
                sheet = Some(self.sheet(title, &predicted, batch)?.to_png()?);
            }
        }
        let n = patches.max(1) as f64;
        let mut metrics = vec![("val_loss", loss / n)];
        match self.target {
            Target::Colours => metrics.extend([
                ("val_colour_acc", accuracy / n),
                ("ln_v", (COLOURS as f64).ln()),
                ("unigram_entropy", self.guess.0),
                ("commonest_share", self.guess.1),
            ]),
            Target::Pixels => {
                metrics.extend([("pixel_variance", self.guess.0), ("flat_patch_mse", self.guess.1)]);
            }
        }
        Ok(Evaluation { score: loss / n, metrics, sheet })
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.kept.files(&mut self.stepper, (step, best), &self.config)?;
        files.extend(model_files(&self.config));
        Ok(files)
    }
}
