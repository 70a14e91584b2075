//! The linear probe (beit-spec §6.7): one linear classifier for each layer, trained together on frozen features.

use super::FeatureSet;
use crate::error::{Error, Result};
use crate::graph::{Graph, Init};
use crate::ops::{Caps, Hyper, add, cross_entropy, linear};
use crate::optim::{Cosine, Decay, Rates, Schedule};
use crate::rng::{Key, Stream};
use crate::session::{Data, Session};
use crate::tasks::ranking::Ranking;
use crate::train::{StepOptions, StepPlans, Stepper};

/// Store of the heads.
const PROBE: &str = "probe";

/// Settings of the probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearOptions {
    /// Passes over the training features.
    pub epochs: u64,
    /// Peak learning rate; it falls along a cosine to 0.
    pub lr: f64,
    /// Features per update.
    pub batch: usize,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Seed of the order and the initial weights.
    pub seed: u64,
    /// Number of classes.
    pub classes: usize,
    /// Shift and scale every feature to mean 0 and deviation 1 over the training set first.
    pub standardize: bool,
}

impl LinearOptions {
    /// The paper's settings: 50 epochs of AdamW at 4e-3, batches of 1024, decay 1e-4.
    pub fn paper(classes: usize, seed: u64) -> Self {
        LinearOptions {
            epochs: 50,
            lr: 4e-3,
            batch: 1024,
            weight_decay: 1e-4,
            seed,
            classes,
            standardize: false,
        }
    }
}

/// Trains on `train` and counts on `test`, layer by layer.
///
/// # Errors
/// If a picture has no label, or the device refuses.
pub fn probe(
    session: Box<dyn Session>,
    train: &FeatureSet,
    test: &FeatureSet,
    options: &LinearOptions,
) -> Result<Vec<Ranking>> {
    let (layers, n, cols) = (train.cls.len(), train.len(), 2 * train.width);
    let labels = labels_of(train)?;
    let test_labels = labels_of(test)?;
    let batch = options.batch.clamp(1, n);
    let mut x: Vec<Vec<f32>> = (0..layers).map(|l| train.both(l)).collect();
    let mut y: Vec<Vec<f32>> = (0..layers).map(|l| test.both(l)).collect();
    if options.standardize {
        x.iter_mut().zip(&mut y).for_each(|(x, y)| standardize(x, y, cols));
    }
    let caps = session.caps();
    let plans = plans(layers, cols, batch, options.classes, &caps)?;
    let mut stepper = Stepper::new(session, plans)?;
    stepper.begin(options.seed)?;
    let steps = options.epochs * (n as u64).div_ceil(batch as u64);
    let schedule = Cosine { peak: options.lr, min: 0.0, warmup: 0, total: steps };
    stepper.write("weights", Data::F32(&vec![1.0 / batch as f32; batch]))?;
    for i in 0..steps {
        let rows = rows_of_step(options.seed, n, batch, i);
        for (l, x) in x.iter().enumerate() {
            let picked: Vec<f32> = rows.iter().flat_map(|&r| x[r * cols..][..cols].iter().copied()).collect();
            stepper.write(&format!("features.{l}"), Data::F32(&picked))?;
        }
        let picked: Vec<u32> = rows.iter().map(|&r| labels[r]).collect();
        stepper.write("labels", Data::U32(&picked))?;
        stepper.run_batch(Some(&Hyper {
            lr: schedule.at(i),
            weight_decay: options.weight_decay,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: 0.0,
            loss_scale: 1.0,
            ema: 0.0,
        }))?;
    }
    let heads = stepper.state()?;
    let pages = heads.kind(crate::graph::PageKind::Param).unwrap_or_default();
    let tensor = |name: &str| {
        let v = stepper.layout.view(name);
        v.map(|v| pages[v.page][v.offset..v.offset + v.elements()].to_vec()).unwrap_or_default()
    };
    let layer = |l: usize| {
        let (w, b) = (tensor(&format!("heads.{l}.weight")), tensor(&format!("heads.{l}.bias")));
        let mut ranking = Ranking::new(options.classes);
        for (row, &label) in y[l].chunks(cols).zip(&test_labels) {
            let dot = |w: &[f32]| w.iter().zip(row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            let logits: Vec<f32> =
                w.chunks(cols).zip(&b).map(|(w, b)| (dot(w) + f64::from(*b)) as f32).collect();
            ranking.add(&logits, label);
        }
        ranking
    };
    Ok((0..layers).map(layer).collect())
}

fn plans(layers: usize, cols: usize, batch: usize, classes: usize, caps: &Caps) -> Result<StepPlans> {
    let mut g = Graph::new();
    let loss = g.in_store(PROBE, |g| {
        let labels = g.input_words("labels", &[batch])?;
        let weights = g.input("weights", &[batch])?;
        let mut total = None;
        for l in 0..layers {
            let x = g.input(&format!("features.{l}"), &[batch, cols])?;
            let w = g.param(&format!("heads.{l}.weight"), &[classes, cols], Init::Normal(0.01))?;
            let b = g.param(&format!("heads.{l}.bias"), &[classes], Init::Constant(0.0))?;
            let logits = linear(g, x, w, Some(b))?;
            let loss = cross_entropy(g, logits, labels, weights)?.loss;
            total = Some(match total {
                Some(sum) => add(g, sum, loss)?,
                None => loss,
            });
        }
        total.ok_or_else(|| Error::shape("a network without layers"))
    })?;
    let options = StepOptions { ema: false, accumulate: 1, decay: Decay::Official, rates: Rates::Equal };
    StepPlans::new("linear probe", g, loss, PROBE, &[], caps, options)
}

fn labels_of(set: &FeatureSet) -> Result<Vec<u32>> {
    let all: Option<Vec<u32>> = set.labels.iter().copied().collect();
    all.ok_or_else(|| Error::data("pictures without labels").expected("a label for every picture"))
}

/// Rows of an update: a new order in every epoch, the end of one filled up from the start of its order.
fn rows_of_step(seed: u64, n: usize, batch: usize, step: u64) -> Vec<usize> {
    let per_epoch = (n as u64).div_ceil(batch as u64);
    let mut draws = Key::new(seed, Stream::Shuffle, (step / per_epoch) as u32).draws();
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, draws.below(i + 1));
    }
    let first = (step % per_epoch) as usize * batch;
    (first..first + batch).map(|i| order[i % n]).collect()
}

/// Mean 0 and deviation 1 of every column of `x`, and the same change to `y`.
fn standardize(x: &mut [f32], y: &mut [f32], cols: usize) {
    let n = (x.len() / cols).max(1) as f64;
    for c in 0..cols {
        let column = || x.iter().skip(c).step_by(cols).map(|v| f64::from(*v));
        let mean = column().sum::<f64>() / n;
        let deviation = (column().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-6);
        for v in x.iter_mut().skip(c).step_by(cols).chain(y.iter_mut().skip(c).step_by(cols)) {
            *v = ((f64::from(*v) - mean) / deviation) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuSession;

    /// Two clouds that a line separates in the second layer; the first layer is noise.
    fn set(n: usize, seed: u64) -> FeatureSet {
        let key = Key::new(seed, Stream::Test, 0);
        let labels: Vec<Option<u32>> = (0..n).map(|i| Some((i % 2) as u32)).collect();
        let noise: Vec<f32> = (0..2 * n as u32).map(|i| key.normal(i)).collect();
        let cloud: Vec<f32> = noise
            .chunks(2)
            .zip(&labels)
            .flat_map(|(p, l)| [p[0] + 6.0 * (l.unwrap_or(0) as f32 - 0.5), p[1]])
            .collect();
        FeatureSet {
            width: 2,
            cls: vec![noise.clone(), noise.clone()],
            mean: vec![noise, cloud],
            labels,
            samples: (0..n).collect(),
        }
    }

    #[test]
    fn finds_the_layer_that_separates() {
        let options = LinearOptions { lr: 0.05, batch: 32, standardize: true, ..LinearOptions::paper(2, 1) };
        let session = || Box::new(CpuSession::<f32>::new());
        let out = probe(session(), &set(200, 1), &set(100, 2), &options).unwrap();
        assert_eq!(out.len(), 2);
        assert!(out[0].top1() < 0.7 && out[1].top1() > 0.97, "{} {}", out[0].top1(), out[1].top1());
        assert_eq!(out, probe(session(), &set(200, 1), &set(100, 2), &options).unwrap());
        let mut without = set(10, 3);
        without.labels[4] = None;
        assert!(probe(session(), &without, &set(10, 2), &options).is_err());
    }
}
