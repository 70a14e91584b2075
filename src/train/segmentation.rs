//! Fine-tuning for segmentation, end to end.

use super::drive::{Drive, Evaluation, Numbers, Work};
use super::events::Phase;
use super::kept::{Kept, fine_tuned, open_start, start_from, tell_start};
use super::pictures::{BAD_SHARE, Pictures};
use super::report::{Story, last_facts, reference};
use super::run::{Job, Outcome, Run, Stand};
use super::{Stepper, check_fits};
use crate::config::{Cadence, SegmentConfig, TaskConfig, to_toml};
use crate::data::segment::{SegmentBatch, SegmentBatches, SegmentViews, open_segments};
use crate::data::{BadSamples, Loader, LoaderOptions, Samples, Source, few};
use crate::error::Result;
use crate::graph::PageKind;
use crate::interop::{ModelFile, Resize};
use crate::io::hf::{HfPreprocessor, preprocessor_config_json, transformers_config_json};
use crate::models::segmenter::SegmentHead;
use crate::models::upernet::UperNetConfig;
use crate::ops::Caps;
use crate::runs::sheet::{Sheet, SheetRow, Tile};
use crate::segmenter::{self, Description};
use crate::session::{HostData, Session, Ticket};
use crate::tasks::confusion::Confusion;
use crate::tasks::segment::{self, SegmentModel};
use crate::tasks::sliding::Segmenter;
use serde_json::Value;
use std::sync::Arc;

/// Fine-tuning.
pub const SEGMENT: Phase = Phase::new("segment", "training the segmenter");

/// Windows of one evaluation batch.
const EVAL_BATCH: usize = 8;
/// Pictures on a contact sheet.
const SHOWN: usize = 6;

/// Fine-tunes a segmenter.
pub struct Segmentation {
    config: SegmentConfig,
    pictures: Pictures,
    names: Vec<String>,
    start: Option<ModelFile>,
}

impl Segmentation {
    /// Opens the labelled pictures of a config.
    ///
    /// # Errors
    /// If there are none, or label maps do not fit.
    pub fn pictures(config: &SegmentConfig) -> Result<Pictures> {
        let found = open_segments(&config.choice())?;
        let bad = Arc::new(BadSamples::new(BAD_SHARE));
        let train = match config.train_images {
            0 => found.train,
            n => few(found.train, n, config.seed),
        };
        Ok(Pictures { train, val: found.val, bad, warnings: found.warnings })
    }

    /// For a fresh run opens what the weights start from and makes the config complete; `side` is the picture side
    /// that was asked for, if it was.
    ///
    /// # Errors
    /// If the starting weights are not those of a transformer.
    pub fn prepare(
        mut config: SegmentConfig,
        pictures: Pictures,
        side: Option<usize>,
        fresh: bool,
    ) -> Result<Segmentation> {
        let names = pictures.train.classes().to_vec();
        config.classes = names.len();
        let start = if fresh { open_start(&config.start)? } else { None };
        if let Some(model) = &start {
            adopt(&mut config, model, side)?;
        }
        Ok(Segmentation { config, pictures, names, start })
    }

    /// Turns epochs into updates, now that the number of training pictures is known.
    pub fn apply_epochs(&mut self, epochs: Option<u64>) {
        let t = &mut self.config.training;
        if let Some(epochs) = epochs {
            t.steps =
                epochs.saturating_mul((self.pictures.train.len() as u64).div_ceil(t.batch as u64).max(1));
            t.warmup = t.warmup.min(t.steps / 5);
        }
    }

    /// Checks the complete config, and that a step fits the device.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self, caps: &Caps) -> Result<()> {
        self.config.check()?;
        check_fits("fine-tuning", &self.config.network().plans(&self.config.training, caps)?, caps)
    }
}

/// Takes the sizes of the backbone from the starting weights; the head keeps its kind and grows with it.
fn adopt(config: &mut SegmentConfig, model: &ModelFile, side: Option<usize>) -> Result<()> {
    let sizes = model.vit()?;
    let side = side.unwrap_or(config.model.image.0).next_multiple_of(sizes.patch);
    let adopted = fine_tuned(sizes, (side, side), config.model.drop_path);
    let before = std::mem::replace(&mut config.model, adopted);
    if let SegmentHead::Upernet(head) = &mut config.head
        && (before.width, before.depth) != (config.model.width, config.model.depth)
    {
        let official = UperNetConfig::official(&config.model);
        (head.taps, head.channels) = (official.taps, official.channels);
    }
    Ok(())
}

impl Job for Segmentation {
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
        let found = run.newest(SEGMENT)?;
        if found.is_none() && self.start.is_none() {
            self.start = open_start(&self.config.start)?;
        }
        let mut work = SegmentWork::new(run, self)?;
        let (first, best) = match found {
            Some(found) => work.kept.resume(run, &mut work.stepper, &found)?,
            None => (0, None),
        };
        let steps = self.config.training.steps;
        let mut loader = self.batches(run.workers, first)?;
        if first < steps && !Drive::new(run, &mut work, first, best)?.train(&mut loader, first)? {
            return run.stopped(SEGMENT);
        }
        let table = segmenter::table_json(&work.confusion, &self.names);
        run.folder.write("classes.json", format!("{table:#}\n").as_bytes())?;
        Ok(Stand { outcome: Outcome::Finished, phase: SEGMENT, step: steps })
    }
    fn story(&self, records: &[Value]) -> Story {
        let (c, n) = (&self.config, self.names.len() as f64);
        Story {
            title: "Fine-tuning for segmentation".into(),
            subtitle: format!("{} classes of {}, started from {}", self.names.len(), c.data, c.start),
            facts: last_facts(
                records,
                &[
                    ("held-out mIoU", "val_miou"),
                    ("held-out mean accuracy", "val_macc"),
                    ("held-out pixel accuracy", "val_aacc"),
                ],
            ),
            references: vec![
                reference("ln C", n.ln(), "loss of a uniform guess", Some("segment/loss")),
                reference("published", 0.456, "BEiT base on ADE20K: another task, another size", None),
            ],
            sheets: vec![(
                SEGMENT,
                "Segmentation",
                "held-out pictures, their label maps, and the predictions",
            )],
        }
    }
}

impl Segmentation {
    fn batches(&self, workers: usize, first: u64) -> Result<Loader<Result<SegmentBatch>>> {
        let (c, p) = (&self.config, &self.pictures);
        let maker = SegmentBatches {
            samples: Samples::shuffled(p.train.clone(), c.seed, p.bad.clone())?,
            batch: c.training.batch,
            views: SegmentViews {
                size: c.model.image,
                augment: c.augmentation(),
                normalization: c.normalization(),
            },
            seed: c.seed,
        };
        Loader::new(LoaderOptions::new(workers, first, c.training.steps), Arc::new(move |i| maker.make(i)))
    }
}

struct SegmentWork {
    config: SegmentConfig,
    names: Vec<String>,
    network: SegmentModel,
    stepper: Stepper,
    segmenter: Segmenter,
    val: Arc<dyn Source>,
    kept: Kept,
    confusion: Confusion,
}

impl SegmentWork {
    fn new(run: &mut Run<'_>, job: &Segmentation) -> Result<Self> {
        let c = job.config.clone();
        let network = c.network();
        let session = run.session()?;
        let caps = session.caps();
        let plans = network.plans(&c.training, &caps)?;
        let kept = Kept {
            phase: SEGMENT,
            plan: plans.micro.hash(),
            data: job.pictures.train.fingerprint(),
            weights: PageKind::Param,
        };
        let mut pages = plans.layout.initial(c.seed);
        if let Some(model) = &job.start {
            let steps = start_from(model, &c.model, &plans.layout, &mut pages, Resize::default())?;
            tell_start(run, &c.start, model, steps);
        }
        let mut stepper = Stepper::new(session, plans)?;
        stepper.begin_with(&pages)?;
        let plan = network.predict_plan(EVAL_BATCH, &stepper.layout, &caps)?;
        let plan = stepper.session.load(Arc::new(plan))?;
        let segmenter = Segmenter::new(&network, plan, EVAL_BATCH, c.normalization());
        let (val, confusion) = (job.pictures.val.clone(), Confusion::new(network.classes));
        Ok(SegmentWork {
            config: c,
            names: job.names.clone(),
            network,
            stepper,
            segmenter,
            val,
            kept,
            confusion,
        })
    }
}

impl Work for SegmentWork {
    type Batch = SegmentBatch;
    fn phase(&self) -> Phase {
        SEGMENT
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
    fn step(&mut self, i: u64, batch: &SegmentBatch, report: bool) -> Result<Vec<Ticket>> {
        let c = &self.config;
        let mut tickets =
            segment::step(&mut self.stepper, &self.network, &c.training, c.seed, i, batch, report)?;
        if report {
            tickets.push(self.stepper.fetch_control()?);
        }
        Ok(tickets)
    }
    fn numbers(&mut self, i: u64, mut read: Vec<Vec<HostData>>) -> (Numbers, Option<String>) {
        read.pop(); // the control block
        let share = 1.0 / read.len().max(1) as f64;
        let mut sums = [0.0; 3];
        for micro in read {
            for (sum, d) in sums.iter_mut().zip(micro) {
                *sum += share * f64::from(d.f32().first().copied().unwrap_or(f32::NAN));
            }
        }
        let lr = self.config.training.lr_at(i);
        (vec![("loss", sums[0]), ("loss_main", sums[1]), ("pixel_acc", sums[2]), ("lr", lr)], None)
    }
    fn evaluate(&mut self, step: u64) -> Result<Evaluation> {
        let limit = self.config.val_images.min(self.val.len());
        self.confusion = Confusion::new(self.network.classes);
        let title = format!("held-out pictures after {step} updates");
        let columns = ["picture", "labels", "prediction"].map(String::from).to_vec();
        let mut sheet = Sheet { title, columns, rows: vec![] };
        for i in 0..limit {
            let Ok(sample) = self.val.load(i) else { continue };
            let session = self.stepper.session.as_mut();
            let predicted = self.segmenter.labels(session, &sample.picture, &self.config.slide)?;
            let labels: Vec<u32> =
                sample.segmentation.unwrap_or_default().into_iter().map(u32::from).collect();
            self.confusion.add(&predicted, &labels)?;
            if sheet.rows.len() < SHOWN {
                let (w, h) = (sample.picture.width, sample.picture.height);
                let tiles =
                    [sample.picture.rgb.clone(), segmenter::colours(&labels), segmenter::colours(&predicted)];
                let tiles = tiles.map(|rgb| Tile::new(w, h, rgb)).into_iter().collect::<Result<_>>()?;
                sheet.rows.push(SheetRow { caption: String::new(), tiles });
            }
        }
        let q = self.confusion.quality();
        let metrics = vec![("val_miou", q.miou), ("val_macc", q.m_acc), ("val_aacc", q.a_acc)];
        let sheet = Some(sheet.to_png()?);
        Ok(Evaluation { metrics, score: 1.0 - q.miou, sheet })
    }
    fn files(&mut self, step: u64, best: Option<(u64, f64)>) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.kept.files(&mut self.stepper, (step, best), &self.config)?;
        let c = &self.config;
        let n = c.normalization();
        let preprocessor = HfPreprocessor {
            image_mean: n.mean.map(f64::from),
            image_std: n.std.map(f64::from),
            ..HfPreprocessor::square(c.model.image.0)
        };
        let description = Description {
            model: self.network.clone(),
            names: self.names.clone(),
            mean: n.mean,
            std: n.std,
            slide: c.slide.clone(),
        };
        files.push((segmenter::FILE.into(), description.to_json()));
        let config = segmenter::hf_config(&self.network, &self.names);
        files.push(("config.json".into(), transformers_config_json(&config).into_bytes()));
        files.push(("preprocessor_config.json".into(), preprocessor_config_json(&preprocessor).into_bytes()));
        Ok(files)
    }
}
