//! The comparison of the report's tables at the user's own scale: the same network, pictures, budget and seeds under
//! several kinds of pre-training, each measured by several tasks with few labels.
//!
//! Every cell is a run folder, or a small result file, of its own: a comparison that was stopped or killed goes on in
//! the middle of the cell where it was.

mod plan;
mod published;
mod table;

pub use plan::{CompareConfig, Route, Task};
pub use published::{Published, published};
pub use table::Table;

use crate::config::{ClassifyConfig, SegmentConfig, TaskConfig, from_toml};
use crate::data::{Samples, check_classes, few_per_class, with_classes};
use crate::error::{Error, Result};
use crate::inference::knn::{self, KnnOptions, Labelled};
use crate::inference::linear::{self, LinearOptions};
use crate::inference::{FeatureSet, LoadedBackbone};
use crate::interop::{self, Want};
use crate::io::atomic;
use crate::ops::Caps;
use crate::runs::{CONFIG, METRICS, RunFolder, RunState, Status, read_records};
use crate::session::Session;
use crate::train::events::Event;
use crate::train::{
    Classification, Job, Outcome, Pictures, Pretraining, Run, RunOptions, Segmentation, Supervised,
    check_memory,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Pictures of one batch while features are computed.
const FEATURE_BATCH: usize = 32;
/// Neighbours that vote, at most as many as there are pictures of a class.
const NEIGHBOURS: usize = 20;

/// What one network gave in one task under one seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// How the network was made.
    pub method: Route,
    /// What it was measured by.
    pub task: Task,
    /// The seed.
    pub seed: u64,
    /// Top-1 or mIoU on held-out pictures, 0 to 1.
    pub value: f64,
    /// The best layer, from 1, where every layer was measured.
    pub layer: Option<usize>,
}

/// Makes a session.
pub type Sessions<'a> = dyn Fn() -> Result<Box<dyn Session>> + 'a;

/// A comparison under way.
pub struct Comparison<'a> {
    /// What is compared.
    pub config: CompareConfig,
    /// Its folder.
    pub dir: PathBuf,
    /// Makes a session.
    pub sessions: &'a Sessions<'a>,
    /// The device.
    pub caps: Caps,
    /// Is told what happens: the cell, and the message.
    pub observer: &'a mut dyn FnMut(&str, &Event),
    /// Threads that prepare batches.
    pub workers: usize,
    /// Set from outside to stop in an orderly way.
    pub stop: Arc<AtomicBool>,
}

impl Comparison<'_> {
    /// Fills in all cells; nothing if it was stopped before the last. `each` sees the cells so far after every new one.
    ///
    /// # Errors
    /// If data, device or disk fail, or a training diverges; finished cells stay.
    pub fn run(&mut self, each: &mut dyn FnMut(&[Cell]) -> Result<()>) -> Result<Option<Vec<Cell>>> {
        let mut cells = Vec::new();
        for seed in self.config.all_seeds() {
            for method in self.config.methods.clone() {
                let Some(start) = self.network(method, seed)? else { return Ok(None) };
                for task in self.config.tasks.clone() {
                    match self.cell(method, task, seed, start.as_deref())? {
                        Some(cell) => cells.push(cell),
                        None => return Ok(None),
                    }
                    each(&cells)?;
                }
            }
        }
        Ok(Some(cells))
    }

    /// Seconds of training of a route's network under each seed, tokenizer and intermediate fine-tuning included.
    ///
    /// # Errors
    /// If the metrics of a run cannot be read.
    pub fn seconds(&self, method: Route) -> Result<Vec<f64>> {
        let of = |seed| {
            let mut total = 0.0;
            for run in [self.pretrain_dir(method, seed), self.dir_of(method, seed).join("intermediate")] {
                if run.join(METRICS).is_file() {
                    total += seconds_of(&read_records(&run.join(METRICS))?);
                }
            }
            Ok(total)
        };
        self.config.all_seeds().map(of).collect()
    }

    fn dir_of(&self, method: Route, seed: u64) -> PathBuf {
        self.dir.join(format!("seed-{seed}")).join(method.name())
    }

    /// Intermediate fine-tuning starts from BEiT's own run.
    fn pretrain_dir(&self, method: Route, seed: u64) -> PathBuf {
        let owner = if method == Route::BeitIntermediate { Route::Beit } else { method };
        self.dir_of(owner, seed).join("pretrain")
    }

    /// The run folder of a route's network (none for training from scratch, inside); nothing if stopped.
    fn network(&mut self, route: Route, seed: u64) -> Result<Option<Option<PathBuf>>> {
        let Some(method) = route.method() else { return Ok(Some(None)) };
        let dir = self.pretrain_dir(route, seed);
        let (caps, config) = (self.caps, self.config.pretraining(method, seed)?);
        let done = self.work(&dir, config, |c, _| {
            let pictures = Pictures::open(&c.data_choice())?;
            if method == "supervised" {
                return Ok(Box::new(Supervised::prepare(c, pictures, &caps)?));
            }
            check_memory(&c, &caps)?;
            Ok(Box::new(Pretraining { config: c, pictures, tokenizer: None }))
        })?;
        if !done {
            return Ok(None);
        }
        if route != Route::BeitIntermediate {
            return Ok(Some(Some(dir)));
        }
        let after = self.dir_of(route, seed).join("intermediate");
        let config = self.config.intermediate(seed, &dir)?;
        Ok(self.classify(&after, config)?.then_some(Some(after)))
    }

    fn cell(&mut self, method: Route, task: Task, seed: u64, start: Option<&Path>) -> Result<Option<Cell>> {
        let file = self.dir_of(method, seed).join(format!("{}.json", task.name()));
        if let Ok(bytes) = std::fs::read(&file) {
            let cell = serde_json::from_slice(&bytes).map_err(|e| {
                Error::data("malformed result").at(file.display().to_string()).got(e.to_string())
            })?;
            return Ok(Some(cell));
        }
        let dir = self.dir_of(method, seed).join(task.name());
        let found = match task {
            Task::Classify => {
                let config = self.config.finetuning(seed, start)?;
                self.classify(&dir, config)?.then(|| last(&dir, "val_acc1")).transpose()?.map(|v| (v, None))
            }
            Task::Segment => {
                let config = self.config.segmentation(seed, start)?;
                self.segment(&dir, config)?.then(|| last(&dir, "val_miou")).transpose()?.map(|v| (v, None))
            }
            Task::Linear | Task::Knn => match self.frozen(method, seed, start)? {
                Some(model) => Some(self.probe(task, seed, &model)?),
                None => None,
            },
        };
        let Some((value, layer)) = found else { return Ok(None) };
        let cell = Cell { method, task, seed, value, layer };
        atomic::write_file(&file, &serde_json::to_vec_pretty(&cell).unwrap_or_default())?;
        Ok(Some(cell))
    }

    /// The network whose features are probed: for training from scratch the initial one; nothing if stopped.
    fn frozen(&mut self, method: Route, seed: u64, start: Option<&Path>) -> Result<Option<PathBuf>> {
        if let Some(start) = start {
            return Ok(Some(start.to_path_buf()));
        }
        let dir = self.dir_of(method, seed).join("untrained");
        let config = self.config.untrained(seed)?;
        Ok(self.classify(&dir, config)?.then_some(dir))
    }

    /// Trains a classifier; false if stopped.
    fn classify(&mut self, dir: &Path, config: ClassifyConfig) -> Result<bool> {
        let caps = self.caps;
        self.work(dir, config, |c, fresh| {
            let pictures = Pictures::open(&c.data_choice())?;
            let job = Classification::prepare(c, pictures, None, fresh)?;
            job.check(&caps)?;
            Ok(Box::new(job))
        })
    }

    /// Trains a segmenter; false if stopped.
    fn segment(&mut self, dir: &Path, config: SegmentConfig) -> Result<bool> {
        let caps = self.caps;
        self.work(dir, config, |c, fresh| {
            let pictures = Segmentation::pictures(&c)?;
            let job = Segmentation::prepare(c, pictures, None, fresh)?;
            job.check(&caps)?;
            Ok(Box::new(job))
        })
    }

    /// Starts a run, goes on with it, or leaves it if it is finished; false if it was stopped.
    fn work<C: TaskConfig>(
        &mut self,
        dir: &Path,
        config: C,
        job: impl FnOnce(C, bool) -> Result<Box<dyn Job>>,
    ) -> Result<bool> {
        if Status::read(dir)?.is_some_and(|s| s.state == RunState::Finished) {
            return Ok(true);
        }
        let fresh = !dir.join(CONFIG).is_file();
        let (mut job, folder) = if fresh {
            let job = job(config, true)?;
            let folder = RunFolder::create(dir, C::TASK)?;
            folder.write_config(&job.config()?)?;
            (job, folder)
        } else {
            let folder = RunFolder::open(dir)?;
            let file = dir.join(CONFIG).display().to_string();
            (job(from_toml(&folder.read_config()?, &file)?, false)?, folder)
        };
        let options = RunOptions { workers: self.workers, stop_after: None, stop: self.stop.clone() };
        let name = dir.strip_prefix(&self.dir).unwrap_or(dir).display().to_string();
        let (sessions, observer) = (self.sessions, &mut self.observer);
        let mut make_session = || sessions();
        let mut tell = |event: &Event| observer(&name, event);
        let schedule = job.schedule().clone();
        let outcome =
            Run::new(folder, schedule, &options, &mut make_session, &mut tell).work(job.as_mut())?;
        Ok(outcome == Outcome::Finished)
    }

    /// Measures frozen features with the same few labels known: the best layer and its number.
    fn probe(&mut self, task: Task, seed: u64, model: &Path) -> Result<(f64, Option<usize>)> {
        let c = self.config.finetuning(seed, None)?;
        let pictures = Pictures::open(&c.data_choice())?;
        check_classes(pictures.train.as_ref(), &c.data)?;
        let classes = pictures.train.classes().to_vec();
        let (val, _) = with_classes(pictures.val.clone(), &classes, &c.data)?;
        let known = match c.labels_per_class {
            0 => pictures.train.clone(),
            n => few_per_class(pictures.train.clone(), n, seed)?,
        };
        let file = interop::open(model, Want::Vit)?;
        let mut backbone = LoadedBackbone::new((self.sessions)()?, &file, FEATURE_BATCH, None, 0.0)?;
        let samples = |source| Samples::in_order(source, seed, pictures.bad.clone());
        let train = backbone.features(samples(known)?, self.workers)?;
        let test = backbone.features(samples(val)?, self.workers)?;
        let values = match task {
            Task::Knn => neighbours(&train, &test, classes.len(), c.labels_per_class)?,
            _ => {
                let paper = LinearOptions::paper(classes.len(), seed);
                // small networks need features of one scale, and few pictures small batches
                let options = LinearOptions { standardize: true, batch: 64, ..paper };
                let found = linear::probe((self.sessions)()?, &train, &test, &options)?;
                found.iter().map(crate::tasks::ranking::Ranking::top1).collect()
            }
        };
        let best = values
            .iter()
            .zip(1..)
            .fold((f64::NEG_INFINITY, 0), |b, (&v, l)| if v > b.0 { (v, l) } else { b });
        Ok((best.0, Some(best.1)))
    }
}

/// Checks labels and label maps, so that no one waits for a pre-training that no task can use.
///
/// # Errors
/// If the pictures of a task are not there or not labelled.
pub fn check_data(c: &CompareConfig) -> Result<()> {
    let labels = c.tasks.iter().any(|t| *t != Task::Segment) || c.methods.iter().any(|m| m.sees_labels());
    if labels {
        let config = c.finetuning(c.seed, None)?;
        check_classes(Pictures::open(&config.data_choice())?.train.as_ref(), &config.data)?;
    }
    if c.tasks.contains(&Task::Segment) {
        Segmentation::pictures(&c.segmentation(c.seed, None)?)?;
    }
    Ok(())
}

/// Top-1 of every layer, by the class token or the mean of the patches, whichever is better.
fn neighbours(train: &FeatureSet, test: &FeatureSet, classes: usize, per_class: usize) -> Result<Vec<f64>> {
    let all = |labels: &[Option<u32>]| labels.iter().copied().collect::<Option<Vec<u32>>>();
    let (Some(labels), Some(wanted)) = (all(&train.labels), all(&test.labels)) else {
        return Err(Error::data("pictures without labels"));
    };
    let k = if per_class == 0 { NEIGHBOURS } else { NEIGHBOURS.min(per_class) };
    let options = KnnOptions { k, temperature: 0.07, classes };
    let accuracy = |known: &[f32], queries: &[f32]| -> Result<f64> {
        let known = Labelled { features: known, labels: &labels, width: train.width };
        Ok(knn::accuracy(&knn::classify(known, queries, options)?, &wanted))
    };
    let layer =
        |l: usize| Ok(accuracy(&train.mean[l], &test.mean[l])?.max(accuracy(&train.cls[l], &test.cls[l])?));
    (0..train.mean.len()).map(layer).collect()
}

/// The last value of a key in the metrics of a run.
fn last(dir: &Path, key: &str) -> Result<f64> {
    let records = read_records(&dir.join(METRICS))?;
    let found = records.iter().rev().find_map(|r| r.get(key).and_then(Value::as_f64));
    found.ok_or_else(|| Error::data("a finished run without an evaluation").at(dir.display().to_string()))
}

/// Wall-clock seconds of the updates that a run reports.
fn seconds_of(records: &[Value]) -> f64 {
    let mut before: Vec<(String, u64)> = vec![];
    let mut total = 0.0;
    for r in records {
        let Some(each) = r.pointer("/timing/seconds_per_step").and_then(Value::as_f64) else { continue };
        let (Some(phase), Some(step)) =
            (r.get("phase").and_then(Value::as_str), r.get("step").and_then(Value::as_u64))
        else {
            continue;
        };
        let at = before.iter().position(|(p, _)| p == phase).unwrap_or_else(|| {
            before.push((phase.to_string(), 0));
            before.len() - 1
        });
        total += each * step.saturating_sub(before[at].1) as f64;
        before[at].1 = step;
    }
    total
}
