//! Training a discrete VAE (beit-spec §3.5); encoding, decoding and counting the ids of any tokenizer.

use super::vq_kd::DistillationRecipe;
use crate::data::{Filter, TokenBatch};
use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::models::TokenizerModel;
use crate::models::dvae::{self, DvaeConfig, Noise, Relaxation};
use crate::models::mim::TOKENIZER;
use crate::ops::{Caps, Hyper};
use crate::optim::{Cosine, Decay, Rates, Schedule, half_cosine};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::Data;
use crate::train::{StepOptions, StepPlans, Stepper};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Recipe of a tokenizer's training. Schedules are shares of all updates, so that they scale with their number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TokenizerRecipe {
    /// Updates.
    pub steps: u64,
    /// Images per update.
    pub batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Last learning rate.
    pub min_lr: f64,
    /// Share of the updates over which the learning rate rises.
    pub warmup: f64,
    /// KL weight β at the end of its rise.
    pub beta: f64,
    /// Share of the updates over which β rises (half a cosine).
    pub beta_rise: f64,
    /// Temperature at the end of its fall from 1.
    pub tau: f64,
    /// Share of the updates over which the temperature falls.
    pub tau_fall: f64,
    /// Decode hard ids in the forward pass, with the gradient of the relaxed ones.
    #[serde(default)]
    pub straight_through: bool,
    /// Decoupled weight decay on all parameters.
    pub weight_decay: f64,
    /// Coefficient of the moving average; its weights are the ones used afterwards.
    pub ema: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// What a VQ-KD tokenizer has beside; KL weight, temperature and straight-through are then not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distillation: Option<DistillationRecipe>,
}

impl TokenizerRecipe {
    /// Learning rate at 0-based update `i`.
    pub fn lr_at(&self, i: u64) -> f64 {
        let warmup = (self.warmup * self.steps as f64) as u64;
        Cosine { peak: self.lr, min: self.min_lr, warmup, total: self.steps }.at(i)
    }
    /// Temperature at update `i`.
    pub fn tau_at(&self, i: u64) -> f64 {
        half_cosine(1.0, self.tau, i, (self.tau_fall * self.steps as f64) as u64)
    }
    /// KL weight at update `i`.
    pub fn beta_at(&self, i: u64) -> f64 {
        half_cosine(0.0, self.beta, i, (self.beta_rise * self.steps as f64) as u64)
    }
    /// Hyper-parameters of update `i`.
    pub fn hyper(&self, i: u64) -> Hyper {
        Hyper {
            lr: self.lr_at(i),
            weight_decay: self.weight_decay,
            betas: (0.9, 0.999),
            eps: 1e-8,
            clip: self.clip,
            loss_scale: 1.0,
            // The average follows quickly at first, so that short runs do not end near the start.
            ema: self.ema.min((1.0 + i as f64) / (10.0 + i as f64)),
        }
    }
}

/// How pictures become the views of a tokenizer: of discrete VAEs as in BEiT, of a VQ-KD tokenizer as in BEiT v2
/// (beit-spec §5.2, §3.7).
pub fn view_filter(cfg: &TokenizerModel) -> Filter {
    match cfg {
        TokenizerModel::Dvae(_) => Filter::Lanczos,
        TokenizerModel::VqKd(_) => Filter::Bicubic,
    }
}

/// Compiles a training step of images of `side` pixels.
///
/// # Errors
/// If the sizes do not fit.
pub fn plans(
    cfg: &DvaeConfig,
    side: (usize, usize),
    recipe: &TokenizerRecipe,
    caps: &Caps,
) -> Result<StepPlans> {
    let mut g = Graph::new();
    let batch = recipe.batch;
    let loss = g.in_store(TOKENIZER, |g| {
        let image = g.input("image", &[batch, side.0, side.1, 3])?;
        let tau = g.input("tau", &[1])?;
        let kl_weight = g.input("kl_weight", &[1])?;
        let key = g.input_words("gumbel_key", &[4])?;
        let relaxation = Relaxation { noise: Noise::Key(key), straight_through: recipe.straight_through };
        let t = dvae::training(g, cfg, image, tau, kl_weight, relaxation)?;
        let ids = crate::ops::argmax(g, t.logits)?;
        for (name, v) in [("loss", t.loss), ("nll", t.nll), ("kl", t.kl), ("ids", ids)] {
            g.output(name, v);
        }
        Ok(t.loss)
    })?;
    let options = StepOptions { ema: true, accumulate: 1, decay: Decay::All, rates: Rates::Equal };
    StepPlans::new("tokenizer step", g, loss, TOKENIZER, &[], caps, options)
}

/// Writes a batch and runs one update.
///
/// # Errors
/// If the device refuses.
pub fn step(
    stepper: &mut Stepper,
    cfg: &DvaeConfig,
    recipe: &TokenizerRecipe,
    seed: u64,
    i: u64,
    batch: &TokenBatch,
) -> Result<()> {
    let key = Key::new(seed, Stream::Gumbel, i as u32);
    stepper.write("image", Data::F32(&batch.token_view))?;
    stepper.write("tau", Data::F32(&[recipe.tau_at(i) as f32]))?;
    stepper.write("kl_weight", Data::F32(&[cfg.kl_coefficient(recipe.beta_at(i)) as f32]))?;
    stepper.write("gumbel_key", Data::U32(&key.0))?;
    stepper.run_batch(Some(&recipe.hyper(i)))
}

/// Counts of ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Codebook {
    /// How often each id was seen.
    pub counts: Vec<u64>,
}

impl Codebook {
    /// No ids seen yet, of a vocabulary of `vocab`.
    pub fn new(vocab: usize) -> Self {
        Codebook { counts: vec![0; vocab] }
    }
    /// Counts ids; those outside the vocabulary are left out.
    pub fn add(&mut self, ids: &[u32]) {
        for &id in ids {
            if let Some(c) = self.counts.get_mut(id as usize) {
                *c += 1;
            }
        }
    }
    /// Entropy of the ids in nats.
    pub fn entropy(&self) -> f64 {
        entropy(&self.counts)
    }
    /// exp(entropy): how many equally used ids would carry as much.
    pub fn perplexity(&self) -> f64 {
        self.entropy().exp()
    }
    /// Ids seen at least once.
    pub fn used(&self) -> usize {
        self.counts.iter().filter(|&&c| c > 0).count()
    }
    /// Share of the commonest id.
    pub fn commonest(&self) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let most = self.counts.iter().max().copied().unwrap_or(0);
        if total == 0 { 0.0 } else { most as f64 / total as f64 }
    }
}

/// Entropy of counts in nats.
pub fn entropy(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let p = |c: u64| c as f64 / total as f64;
    -counts.iter().filter(|&&c| c > 0).map(|&c| p(c) * p(c).ln()).sum::<f64>()
}

/// A plan that encodes to hard ids and decodes them again.
///
/// # Errors
/// If the sizes do not fit.
pub fn round_trip_plan(
    cfg: &TokenizerModel,
    layout: &ParamLayout,
    side: (usize, usize),
    batch: usize,
    caps: &Caps,
    weights: PageKind,
) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let image = g.input("image", &[batch, side.0, side.1, 3])?;
        let ids = cfg.ids(g, image)?;
        let decoded = cfg.from_ids(g, ids)?;
        g.output("ids", ids);
        g.output("decoded", decoded);
        Ok(())
    })?;
    compile("tokenizer round trip", &g, &[layout], caps, &reading(weights))
}

/// A plan that encodes views to hard ids.
///
/// # Errors
/// If the sizes do not fit.
pub fn encode_plan(
    cfg: &TokenizerModel,
    layout: &ParamLayout,
    side: (usize, usize),
    batch: usize,
    caps: &Caps,
) -> Result<Plan> {
    encode_plan_from(cfg, layout, side, batch, caps, PageKind::Param)
}

/// As [`encode_plan`], on another kind of pages (the average).
///
/// # Errors
/// If the sizes do not fit.
pub fn encode_plan_from(
    cfg: &TokenizerModel,
    layout: &ParamLayout,
    side: (usize, usize),
    batch: usize,
    caps: &Caps,
    weights: PageKind,
) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let image = g.input("image", &[batch, side.0, side.1, 3])?;
        let ids = cfg.ids(g, image)?;
        g.output("ids", ids);
        Ok(())
    })?;
    compile("tokenizer encoder", &g, &[layout], caps, &reading(weights))
}

/// A plan that decodes hard ids `[B,h,w]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn decode_plan(
    cfg: &TokenizerModel,
    layout: &ParamLayout,
    grid: (usize, usize),
    batch: usize,
    caps: &Caps,
) -> Result<Plan> {
    decode_plan_from(cfg, layout, grid, batch, caps, PageKind::Param)
}

/// As [`decode_plan`], on another kind of pages (the average).
///
/// # Errors
/// If the sizes do not fit.
pub fn decode_plan_from(
    cfg: &TokenizerModel,
    layout: &ParamLayout,
    grid: (usize, usize),
    batch: usize,
    caps: &Caps,
    weights: PageKind,
) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let ids = g.input_words("ids", &[batch, grid.0, grid.1])?;
        let decoded = cfg.from_ids(g, ids)?;
        g.output("decoded", decoded);
        Ok(())
    })?;
    compile("tokenizer decoder", &g, &[layout], caps, &reading(weights))
}

/// Options of a plan that reads the tokenizer's parameters from a kind of pages.
fn reading(weights: PageKind) -> CompileOptions {
    CompileOptions {
        read_from: BTreeMap::from([(TOKENIZER.to_string(), weights)]),
        ..CompileOptions::default()
    }
}

/// Pixel value in 0..1 of a mapped value (beit-spec §3.3).
pub fn unmap(t: f32) -> f32 {
    ((t - 0.1) / 0.8).clamp(0.0, 1.0)
}

/// Pixel value in 0..1 of a decoder's μ.
pub fn pixel_of_mu(mu: f32) -> f32 {
    unmap(1.0 / (1.0 + (-mu).exp()))
}

/// How the first three of a decoder's channels become pixel values in 0..1: six channels hold μ and ln b
/// (beit-spec §3.3), three hold values in −1..1 (§3.6).
pub fn pixel_of(channels: usize) -> fn(f32) -> f32 {
    if channels == 3 { |value| (0.5 * value + 0.5).clamp(0.0, 1.0) } else { pixel_of_mu }
}

/// Sum of |pixel − mean colour of its cell of `rows × columns`| over a batch of mapped views, in pixel values 0..1.
pub(super) fn flat_error(view: &[f32], (h, w): (usize, usize), (rows, columns): (usize, usize)) -> f64 {
    let mut total = 0.0;
    for image in view.chunks(h * w * 3) {
        for at in 0..(h / rows) * (w / columns) {
            let (y0, x0) = (at / (w / columns) * rows, at % (w / columns) * columns);
            for c in 0..3 {
                let values: Vec<f64> = (0..rows * columns)
                    .map(|p| f64::from(unmap(image[((y0 + p / columns) * w + x0 + p % columns) * 3 + c])))
                    .collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                total += values.iter().map(|v| (v - mean).abs()).sum::<f64>();
            }
        }
    }
    total
}
