//! The health of a tokenizer's codebook (beit-spec §3.5 and §3.7, monitoring): which ids are used, what is lost, what to do.

use super::tokenizer::{Codebook, flat_error, pixel_of, unmap};
use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout, Var};
use crate::models::dvae::{self, DvaeConfig};
use crate::models::mim::TOKENIZER;
use crate::models::vq_kd::{self, VqKdConfig};
use crate::models::{TokenizerModel, TokenizerNetwork};
use crate::ops::{Caps, argmax, cross_entropy, gumbel_softmax, kl_uniform, mean, row_dot};
use crate::plan::{CompileOptions, Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session};
use serde::Serialize;
use std::collections::BTreeMap;

/// Perplexity as a share of V below which a codebook counts as collapsed.
const COLLAPSED: f64 = 0.04;

/// What a tokenizer does on some pictures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CodebookReport {
    /// Which network it is.
    pub network: TokenizerNetwork,
    /// Pictures looked at.
    pub images: usize,
    /// Cells looked at.
    pub cells: usize,
    /// Vocabulary V.
    pub vocab: usize,
    /// Entropy of the ids in nats.
    pub entropy: f64,
    /// exp(entropy), at most V.
    pub perplexity: f64,
    /// Ids seen at least once.
    pub used: usize,
    /// Ids never seen.
    pub dead: usize,
    /// Share of the commonest id.
    pub commonest: f64,
    /// Mean absolute error of the picture from hard ids, pixels 0..1; of a VQ-KD tokenizer that of the mean patches, where
    /// its file has them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mae: Option<f64>,
    /// The same if every cell were its mean colour, which no vocabulary of ids can name exactly.
    pub flat_mae: f64,
    /// The same if every picture were its mean colour.
    pub flat_picture_mae: f64,
    /// What only a tokenizer with a distribution over ids has.
    #[serde(flatten)]
    pub relaxed: Option<RelaxedReport>,
    /// VQ-KD: mean cosine of the cells' vectors and their codes, at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_cosine: Option<f64>,
    /// How often each id was seen.
    pub counts: Vec<u64>,
}

/// Figures of a discrete VAE's distribution q(z|x) over ids.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RelaxedReport {
    /// Mean KL of q(z|x) from the uniform distribution, nats a cell, at most ln V.
    pub kl: f64,
    /// Mean probability of the chosen id under q(z|x).
    pub max_probability: f64,
    /// Mean absolute error from relaxed ids at temperature `tau`; pixels 0..1.
    pub relaxed_mae: f64,
    /// [`dvae::distortion`] a value from hard ids: nats of the released network, squared error of the custom one.
    pub distortion: f64,
    /// The same from relaxed ids.
    pub relaxed_distortion: f64,
    /// Temperature of the relaxed ids.
    pub tau: f64,
}

/// A plan that measures batches of mapped views.
///
/// # Errors
/// If the sizes do not fit.
pub fn plan(
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
        match cfg {
            TokenizerModel::Dvae(dvae) => draw_dvae(g, dvae, image),
            TokenizerModel::VqKd(v) => draw_vq_kd(g, cfg, v, image),
        }
    })?;
    let options = CompileOptions {
        read_from: BTreeMap::from([(TOKENIZER.to_string(), weights)]),
        ..CompileOptions::default()
    };
    compile("codebook statistics", &g, &[layout], caps, &options)
}

fn draw_dvae(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<()> {
    let logits = dvae::encoder(g, cfg, image)?;
    let cells = g.ty(logits).rows();
    let ids = argmax(g, logits)?;
    let ones = g.input("weights", &[cells])?;
    let chosen = cross_entropy(g, logits, ids, ones)?;
    let kl_rows = kl_uniform(g, logits)?;
    let kl = mean(g, kl_rows)?;
    let decoded = dvae::from_ids(g, cfg, ids)?;
    let tau = g.input("tau", &[1])?;
    let key = g.input_words("gumbel_key", &[4])?;
    let soft = gumbel_softmax(g, logits, tau, key)?;
    let relaxed = dvae::decoder(g, cfg, soft)?;
    for (name, v) in
        [("ids", ids), ("chosen", chosen.rows), ("kl", kl), ("decoded", decoded), ("relaxed", relaxed)]
    {
        g.output(name, v);
    }
    for (name, v) in [("distortion", decoded), ("relaxed_distortion", relaxed)] {
        let (_, mean) = dvae::distortion(g, cfg, v, image)?;
        g.output(name, mean);
    }
    Ok(())
}

fn draw_vq_kd(g: &mut Graph, cfg: &TokenizerModel, sizes: &VqKdConfig, image: Var) -> Result<()> {
    let vectors = vq_kd::vectors(g, sizes, image)?;
    let (ids, codes) = vq_kd::quantize(g, sizes, vectors)?;
    let cosines = row_dot(g, vectors, codes)?;
    let cosine = mean(g, cosines)?;
    g.output("ids", ids);
    g.output("code_cosine", cosine);
    if cfg.draws() {
        let decoded = cfg.from_ids(g, ids)?;
        g.output("decoded", decoded);
    }
    Ok(())
}

/// Temperature and seed of the relaxed ids of a discrete VAE.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Relaxing {
    /// Temperature.
    pub tau: f64,
    /// Seed of the noise.
    pub seed: u64,
}

/// Sums over batches; means are taken at the end.
#[derive(Default)]
struct Sums {
    images: usize,
    cells: usize,
    values: usize,
    kl: f64,
    chosen: f64,
    distortion: f64,
    relaxed_distortion: f64,
    error: f64,
    relaxed_error: f64,
    flat: f64,
    flat_picture: f64,
    cosine: f64,
}

/// Measures batches of mapped views `[B,H,W,3]` in 0.1..0.9 with a loaded [`plan`].
///
/// # Errors
/// If the device refuses.
pub fn measure(
    session: &mut dyn Session,
    plan: PlanId,
    cfg: &TokenizerModel,
    side: (usize, usize),
    relaxing: Relaxing,
    batches: impl Iterator<Item = Result<Vec<f32>>>,
) -> Result<CodebookReport> {
    let mut codebook = Codebook::new(cfg.vocab());
    let (mut s, cell) = (Sums::default(), cfg.stride());
    for (b, view) in batches.enumerate() {
        let view = view?;
        let count = view.len() / (3 * side.0 * side.1);
        let own = count * (side.0 / cell) * (side.1 / cell);
        session.write(plan, "image", Data::F32(&view))?;
        if let TokenizerModel::Dvae(_) = cfg {
            let key = Key::new(relaxing.seed, Stream::Gumbel, b as u32);
            session.write(plan, "weights", Data::F32(&vec![1.0 / own as f32; own]))?;
            session.write(plan, "tau", Data::F32(&[relaxing.tau as f32]))?;
            session.write(plan, "gumbel_key", Data::U32(&key.0))?;
        }
        session.run(plan)?;
        codebook.add(&session.read(plan, "ids")?.u32());
        match cfg {
            TokenizerModel::Dvae(_) => s.add_relaxed(session, plan, cfg, &view, own)?,
            TokenizerModel::VqKd(_) => s.cosine += number(session, plan, "code_cosine")? * own as f64,
        }
        if cfg.draws() {
            s.error += error(&view, &session.read(plan, "decoded")?.f32(), cfg.decoded_channels());
        }
        s.flat += flat_error(&view, side, (cell, cell));
        s.flat_picture += flat_error(&view, side, side);
        (s.images, s.cells, s.values) = (s.images + count, s.cells + own, s.values + view.len());
    }
    Ok(s.report(cfg, codebook, relaxing.tau))
}

fn number(session: &mut dyn Session, plan: PlanId, name: &str) -> Result<f64> {
    Ok(f64::from(session.read(plan, name)?.f32().first().copied().unwrap_or(f32::NAN)))
}

impl Sums {
    fn add_relaxed(
        &mut self,
        session: &mut dyn Session,
        plan: PlanId,
        cfg: &TokenizerModel,
        view: &[f32],
        cells: usize,
    ) -> Result<()> {
        self.kl += number(session, plan, "kl")? * cells as f64;
        self.distortion += number(session, plan, "distortion")? * view.len() as f64;
        self.relaxed_distortion += number(session, plan, "relaxed_distortion")? * view.len() as f64;
        let rows = session.read(plan, "chosen")?.f32();
        self.chosen += rows.chunks_exact(3).map(|r| f64::from(-r[1]).exp()).sum::<f64>();
        self.relaxed_error += error(view, &session.read(plan, "relaxed")?.f32(), cfg.decoded_channels());
        Ok(())
    }

    fn report(self, cfg: &TokenizerModel, codebook: Codebook, tau: f64) -> CodebookReport {
        let (c, v) = (self.cells.max(1) as f64, self.values.max(1) as f64);
        let relaxed = || RelaxedReport {
            kl: self.kl / c,
            max_probability: self.chosen / c,
            relaxed_mae: self.relaxed_error / v,
            distortion: self.distortion / v,
            relaxed_distortion: self.relaxed_distortion / v,
            tau,
        };
        CodebookReport {
            network: cfg.network(),
            images: self.images,
            cells: self.cells,
            vocab: cfg.vocab(),
            entropy: codebook.entropy(),
            perplexity: codebook.perplexity(),
            used: codebook.used(),
            dead: cfg.vocab() - codebook.used(),
            commonest: codebook.commonest(),
            mae: cfg.draws().then_some(self.error / v),
            flat_mae: self.flat / v,
            flat_picture_mae: self.flat_picture / v,
            relaxed: matches!(cfg, TokenizerModel::Dvae(_)).then(relaxed),
            code_cosine: matches!(cfg, TokenizerModel::VqKd(_)).then_some(self.cosine / c),
            counts: codebook.counts,
        }
    }
}

/// Sum of |pixel − reconstruction| of a batch, in pixel values 0..1.
fn error(view: &[f32], decoded: &[f32], channels: usize) -> f64 {
    let value = pixel_of(channels);
    let pixels = view.as_chunks::<3>().0.iter().zip(decoded.chunks_exact(channels));
    pixels
        .map(|(pixel, out)| {
            pixel.iter().zip(out).map(|(&p, &o)| f64::from((unmap(p) - value(o)).abs())).sum::<f64>()
        })
        .sum()
}

/// What to say about a codebook whose ids are so few that masked pre-training on them teaches little; nothing of any
/// other. `kl` is the mean KL of q(z|x) from the uniform distribution, nats a cell, where there is such a distribution.
pub fn collapse(perplexity: f64, vocab: usize, kl: Option<f64>) -> Option<String> {
    let v = vocab as f64;
    if perplexity >= COLLAPSED * v {
        return None;
    }
    let why = if kl.is_none() {
        "most cells have vectors that lie near few codes. Train again with tokenizer-training.distillation.restart-below of 0.1 or \
         more, a smaller lr, or a teacher whose patches differ"
    } else if kl < Some(0.1 * v.ln()) {
        "q(z|x) hardly depends on the picture: the KL weight rose too early or too high for this learning rate. Train again \
         with a smaller tokenizer-training.beta, a slower beta-rise, or a smaller lr"
    } else {
        "few ids win everywhere: the temperature fell before the ids had spread. Train again with a larger \
         tokenizer-training.beta, a slower tau-fall, or a smaller lr; where the error is low all the same, the pictures (digits, \
         say) need no more ids, and a smaller vocabulary suits them"
    };
    Some(format!(
        "the codebook has collapsed (perplexity {perplexity:.1} of {vocab}), and masked pre-training on such tokens teaches \
         little: {why}"
    ))
}

impl CodebookReport {
    /// Whether so few ids are used that masked pre-training on them teaches little.
    pub fn collapsed(&self) -> bool {
        self.collapse().is_some()
    }

    fn collapse(&self) -> Option<String> {
        collapse(self.perplexity, self.vocab, self.relaxed.as_ref().map(|r| r.kl))
    }

    /// How much worse hard ids are than relaxed ones, as a share of the error of the relaxed ones; 0 where that is 0.
    pub fn hard_gap(&self) -> Option<f64> {
        let (hard, relaxed) = (self.mae?, self.relaxed.as_ref()?.relaxed_mae);
        Some(if relaxed > 0.0 { hard / relaxed - 1.0 } else { 0.0 })
    }

    /// What a person should do, if anything.
    pub fn advice(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.cells < 4 * self.vocab {
            all.push(format!(
                "only {} cells were looked at for {} ids: look at more pictures (--images) before judging usage",
                self.cells, self.vocab
            ));
        }
        if let Some(message) = self.collapse() {
            all.push(message);
        } else if 2 * self.used < self.vocab {
            let spread = match self.relaxed {
                Some(_) => "a larger tokenizer-training.beta spreads them",
                None => "tokenizer-training.distillation.restart-below starts them anew",
            };
            all.push(format!(
                "{} of {} ids are never used: {spread}, more updates and a smaller vocabulary fill them",
                self.dead, self.vocab
            ));
        }
        if let (Some(mae), true) = (self.mae, self.relaxed.is_some())
            && mae > 0.5 * self.flat_picture_mae
        {
            all.push(format!(
                "the reconstruction error {:.4} is above half of that of a flat colour a picture ({:.4}): train longer, or with a \
                 wider network (tokenizer.n-hid)",
                mae, self.flat_picture_mae
            ));
        }
        if let Some(gap) = self.hard_gap().filter(|&gap| gap > 0.15) {
            all.push(format!(
                "hard ids are {:.0} % worse than relaxed ones: let the temperature end lower (tokenizer-training.tau) or fall sooner",
                100.0 * gap
            ));
        }
        all
    }
}

#[cfg(test)]
mod tests;
