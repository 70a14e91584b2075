//! Fine-tuning for classification, end to end.

use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::Phase;
use super::kept::{Kept, fine_tuned, open_start, start_from, tell_start};
use super::pictures::Pictures;
use super::report::{Story, last_facts, reference};
use super::run::{Job, Outcome, Run, Stand};
use super::{Stepper, check_fits};
use crate::config::{Cadence, ClassifyConfig, to_toml};
use crate::data::{
    ClassBatch, ClassBatches, ClassViews, Loader, LoaderOptions, Normalization, Samples, check_classes,
    check_labels, few_per_class, with_classes,
};
use crate::error::{Error, Result};
use crate::interop::{Head, ModelFile};
use crate::io::hf::{HfPreprocessor, HfSize, preprocessor_config_json, transformers_config_json};
use crate::ops::Caps;
use crate::pictures::cells::of_normalized;
use crate::runs::sheet::{Sheet, SheetRow, Tile};
use crate::session::{HostData, PlanId, Session, Ticket};
use crate::tasks::classify::{self, Classifier};
use crate::tasks::ranking::Ranking;
use serde_json::Value;
use std::sync::Arc;

/// Fine-tuning.
pub const CLASSIFY: Phase = Phase::new("classify", "training the classifier");

/// Held-out images of one evaluation batch.
const EVAL_BATCH: usize = 64;
/// Pictures on a contact sheet.
const SHOWN: usize = 6;

/// Fine-tunes a classifier.
pub struct Classification {
    config: ClassifyConfig,
    pictures: Pictures,
    start: Option<ModelFile>,
    phase: Phase,
}

impl Classification {
    /// Checks classes and labels, and for a fresh run opens what the weights start from and makes the config complete;
    /// `side` is the picture side that was asked for, if it was.
    ///
    /// # Errors
    /// If the pictures cannot train a classifier, or the starting weights are not those of a transformer.
    pub fn prepare(
        mut config: ClassifyConfig,
        mut pictures: Pictures,
        side: Option<usize>,
        fresh: bool,
    ) -> Result<Classification> {
        check_classes(pictures.train.as_ref(), &config.data)?;
        let classes = pictures.train.classes().to_vec();
        if !config.classes.is_empty() && config.classes != classes {
            return Err(Error::data("other classes than the run was started with")
                .at(config.data.clone())
                .expected(config.classes.join(", "))
                .got(classes.join(", ")));
        }
        let held_out = if config.val.is_empty() { &config.data } else { &config.val };
        let (val, note) = with_classes(pictures.val.clone(), &classes, held_out)?;
        check_labels(val.as_ref())?;
        pictures.warnings.extend(note);
        pictures.val = val;
        if config.labels_per_class > 0 {
            pictures.train = few_per_class(pictures.train.clone(), config.labels_per_class, config.seed)?;
        }
        config.classes = classes;
        let start = if fresh { classifier_start(&config.start)? } else { None };
        if let Some(model) = &start {
            adopt(&mut config, model, side)?;
        }
        Ok(Classification { config, pictures, start, phase: CLASSIFY })
    }

    /// The same under the name of another phase.
    pub(super) fn in_phase(self, phase: Phase) -> Self {
        Classification { phase, ..self }
    }

    /// Turns epochs into updates, now that the number of training pictures is known.
    pub fn apply_epochs(&mut self, epochs: Option<u64>, warmup_epochs: Option<u64>) {
        let t = &mut self.config.training;
        let per_epoch = (self.pictures.train.len() as u64).div_ceil(t.batch as u64).max(1);
        if let Some(epochs) = epochs {
            t.steps = epochs.saturating_mul(per_epoch);
            t.warmup = t.warmup.min(t.steps / 5);
        }
        if let Some(epochs) = warmup_epochs {
            t.warmup = epochs.saturating_mul(per_epoch);
        }
    }

    /// Checks the complete config, and that a step fits the device.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self, caps: &Caps) -> Result<()> {
        crate::config::TaskConfig::check(&self.config)?;
        check_fits("fine-tuning", &self.config.network().plans(&self.config.training, caps)?, caps)
    }
}

/// Opens the starting weights of a classifier, unless training starts from scratch.
fn classifier_start(path: &str) -> Result<Option<ModelFile>> {
    let model = open_start(path)?;
    if let Some(model) = &model
        && matches!(model.head()?, Head::Segmenter(_))
    {
        return Err(Error::checkpoint("a segmentation model cannot start a classifier")
            .at(path)
            .expected("a pre-trained model or a classifier")
            .got(model.kind())
            .hint("start from the model that the segmenter was fine-tuned from"));
    }
    Ok(model)
}

/// Takes sizes and normalisation from the starting weights.
fn adopt(config: &mut ClassifyConfig, model: &ModelFile, side: Option<usize>) -> Result<()> {
    let sizes = model.vit()?;
    config.model = fine_tuned(sizes, side.map_or(sizes.image, |s| (s, s)), config.model.drop_path);
    config.augment.mean = model.preprocessing.image_mean.map(|m| m as f32);
    config.augment.std = model.preprocessing.image_std.map(|s| s as f32);
    Ok(())
}

impl Job for Classification {
    fn pictures(&self) -> &Pictures {
        &self.pictures
    }
    fn config(&self) -> Result<String> {
        to_toml(&self.config)
    }
    fn schedule(&self) -> &Cadence {
        &self.config.schedule
    }
    fn batch(&self) -> usize {
        self.config.training.batch
    }
    fn phases(&mut self, run: &mut Run<'_>) -> Result<Stand> {
        let found = run.newest(self.phase)?;
        if found.is_none() && self.start.is_none() {
            self.start = classifier_start(&self.config.start)?;
        }
        let mut work = ClassifyWork::new(run, self)?;
        let (first, best) = match found {
            Some(found) => work.kept.resume(run, &mut work.stepper, &found)?,
            None => (0, None),
        };
        let steps = self.config.training.steps;
        let mut loader = self.batches(run.workers, first)?;
        if first < steps && !Drive::new(run, &mut work, first, best)?.train(&mut loader, first)? {
            return run.stopped(self.phase);
        }
        run.folder.write("classes.json", work.table().as_bytes())?;
        Ok(Stand { outcome: Outcome::Finished, phase: self.phase, step: steps })
    }
    fn story(&self, records: &[Value]) -> Story {
        let (c, n, phase) = (&self.config, self.config.classes.len() as f64, self.phase.name());
        Story {
            title: "Fine-tuning for classification".into(),
            subtitle: format!("{} classes of {}, started from {}", c.classes.len(), c.data, c.start),
            facts: last_facts(
                records,
                &[
                    ("held-out top-1", "val_acc1"),
                    ("held-out top-5", "val_acc5"),
                    ("held-out loss", "val_loss"),
                ],
            ),
            references: vec![
                reference("ln C", n.ln(), "loss of a uniform guess", Some(&format!("{phase}/loss"))),
                reference(
                    "chance",
                    1.0 / n,
                    "accuracy of a uniform guess",
                    Some(&format!("{phase}/accuracy")),
                ),
            ],
            sheets: vec![(self.phase, "Classification", "held-out pictures, and what they are taken for")],
        }
    }
}

impl Classification {
    fn batches(&self, workers: usize, first: u64) -> Result<Loader<Result<ClassBatch>>> {
        let (c, p) = (&self.config, &self.pictures);
        let samples = Samples::shuffled(p.train.clone(), c.seed, p.bad.clone())?;
        let samples = samples.with_repeats(c.augment.repeats);
        let maker = ClassBatches::new(samples, c.training.batch, c.views(true), c.classes.len())?;
        Loader::new(LoaderOptions::new(workers, first, c.training.steps), Arc::new(move |i| maker.make(i)))
    }
}

/// Evaluation crops in the terms of transformers: resize to a larger square, cut out the middle.
fn preprocessing(views: &ClassViews) -> HfPreprocessor {
    let square = |side| HfSize { height: side, width: side };
    HfPreprocessor {
        size: square((views.side as f64 / views.crop_share) as usize),
        do_center_crop: views.crop_share < 1.0,
        crop_size: square(views.side),
        image_mean: views.normalization.mean.map(f64::from),
        image_std: views.normalization.std.map(f64::from),
        ..HfPreprocessor::square(views.side)
    }
}

struct ClassifyWork {
    config: ClassifyConfig,
    network: Classifier,
    stepper: Stepper,
    eval: PlanId,
    val: Arc<ClassBatches>,
    val_images: usize,
    workers: usize,
    kept: Kept,
    ranking: Ranking,
}

impl ClassifyWork {
    fn new(run: &mut Run<'_>, job: &Classification) -> Result<Self> {
        let c = job.config.clone();
        let network = c.network();
        let session = run.session()?;
        let caps = session.caps();
        let plans = network.plans(&c.training, &caps)?;
        let kept = Kept {
            phase: job.phase,
            plan: plans.micro.hash(),
            data: job.pictures.train.fingerprint(),
            weights: c.training.measured(),
        };
        let mut pages = classify::initial(&plans.layout, c.seed);
        if let Some(model) = &job.start {
            let steps = start_from(model, &c.model, &plans.layout, &mut pages, c.resize)?;
            tell_start(run, &c.start, model, steps);
        }
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin_with(&pages)?;
        let all = job.pictures.val.len();
        let val_images = if c.val_images == 0 { all } else { c.val_images.min(all) };
        let batch = EVAL_BATCH.min(val_images).max(1);
        let plan = network.eval_plan(batch, &stepper.layout, &caps, kept.weights)?;
        let eval = stepper.session.load(Arc::new(plan))?;
        let samples = Samples::in_order(job.pictures.val.clone(), c.seed, job.pictures.bad.clone())?;
        let val = Arc::new(ClassBatches::new(samples, batch, c.views(false), c.classes.len())?);
        let ranking = Ranking::new(c.classes.len());
        let workers = run.workers;
        Ok(ClassifyWork { config: c, network, stepper, eval, val, val_images, workers, kept, ranking })
    }

    /// The first held-out pictures, what they are and what the network takes them for.
    fn sheet(&self, step: u64, batch: &ClassBatch, logits: &[f32]) -> Result<Sheet> {
        let (c, side) = (&self.config, self.network.vit.image);
        let n = Normalization { mean: c.augment.mean, std: c.augment.std };
        let row = |i: usize| {
            let view = &batch.image[i * side.0 * side.1 * 3..][..side.0 * side.1 * 3];
            let own = &logits[i * c.classes.len()..][..c.classes.len()];
            let name = |k: usize| c.classes.get(k).map_or("?", String::as_str);
            let best = (0..own.len()).fold(0, |best, k| if own[k] > own[best] { k } else { best });
            let sum: f64 = own.iter().map(|v| f64::from(v - own[best]).exp()).sum();
            let caption =
                format!("{}: taken for {} ({:.2})", name(batch.labels[i] as usize), name(best), 1.0 / sum);
            SheetRow { caption, tiles: vec![Tile::photo(of_normalized(view, side, n))] }
        };
        Ok(Sheet {
            title: format!("held-out pictures after {step} updates"),
            columns: vec!["picture".into()],
            rows: (0..SHOWN.min(batch.samples.len())).map(row).collect(),
        })
    }

    /// Counts of each class in the last evaluation.
    fn table(&self) -> String {
        let rows = self.config.classes.iter().zip(self.ranking.classes());
        let rows: Vec<Value> =
            rows.map(|(name, counts)| serde_json::json!({"class": name, "counts": counts})).collect();
        format!("{:#}\n", Value::Array(rows))
    }
}

impl Work for ClassifyWork {
    type Batch = ClassBatch;
    fn phase(&self) -> Phase {
        self.kept.phase
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
    fn step(&mut self, i: u64, batch: &ClassBatch, report: bool) -> Result<Vec<Ticket>> {
        let c = &self.config;
        let vit = &self.network.vit;
        let mut tickets = classify::step(&mut self.stepper, vit, &c.training, c.seed, i, batch, report)?;
        if report {
            tickets.push(self.stepper.fetch_control()?);
        }
        Ok(tickets)
    }
    fn numbers(&mut self, i: u64, mut read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        read.pop(); // the control block
        // The weights of a micro-batch are shares of the whole update, so its losses add up.
        let (mut loss, mut accuracy) = (0.0, 0.0);
        for micro in read {
            let mut it = micro.into_iter().map(|d| d.f32().first().copied().unwrap_or(f32::NAN));
            loss += f64::from(it.next().unwrap_or(f32::NAN));
            accuracy += f64::from(it.next().unwrap_or(f32::NAN));
        }
        (vec![("loss", loss), ("acc1", accuracy), ("lr", self.config.training.lr_at(i))], None)
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        self.ranking = Ranking::new(self.config.classes.len());
        let steps = self.val_images.div_ceil(self.val.batch) as u64;
        let val = self.val.clone();
        let mut loader =
            Loader::new(LoaderOptions::new(self.workers, 0, steps), Arc::new(move |i| val.make(i)))?;
        let (mut first, mut sheet) = (0, None);
        while let Some(batch) = loader.next() {
            let (batch, end) = (batch??, (first + self.val.batch).min(self.val_images));
            let session = self.stepper.session.as_mut();
            classify::measure(session, self.eval, &batch, first..end, &mut self.ranking)?;
            if first == 0 {
                let logits = session.read(self.eval, "logits")?.f32();
                sheet = Some(self.sheet(step, &batch, &logits)?.to_png()?);
            }
            first = end;
        }
        let r = &self.ranking;
        let metrics = vec![("val_loss", r.loss()), ("val_acc1", r.top1()), ("val_acc5", r.top5())];
        Ok(Evaluation { metrics, score: 1.0 - r.top1(), sheet })
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.kept.files(&mut self.stepper, (step, best), &self.config)?;
        let c = &self.config;
        let preprocessor = preprocessing(&c.views(false));
        let config = c.model.to_hf_classifier(c.pool.pool(), &c.classes);
        files.push(("config.json".into(), transformers_config_json(&config).into_bytes()));
        let preprocessor = preprocessor_config_json(&preprocessor).into_bytes();
        files.push(("preprocessor_config.json".into(), preprocessor));
        Ok(files)
    }
}
