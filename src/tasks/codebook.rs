//! The health of a tokenizer's codebook (beit-spec §3.5, monitoring): which ids are used, what is lost, what to do.

use super::tokenizer::{Codebook, flat_error, pixel_of, unmap};
use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::models::dvae::{self, DvaeConfig, DvaeNetwork};
use crate::models::mim::TOKENIZER;
use crate::ops::{Caps, argmax, cross_entropy, gumbel_softmax, kl_uniform, mean};
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
    pub network: DvaeNetwork,
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
    /// Mean KL of q(z|x) from the uniform distribution, nats a cell, at most ln V.
    pub kl: f64,
    /// Mean probability of the chosen id under q(z|x).
    pub max_probability: f64,
    /// Mean absolute error of the reconstruction from hard ids; pixels 0..1.
    pub mae: f64,
    /// The same from relaxed ids at temperature `tau`.
    pub relaxed_mae: f64,
    /// The same if every cell were its mean colour, which no vocabulary of ids can name exactly.
    pub flat_mae: f64,
    /// The same if every picture were its mean colour.
    pub flat_picture_mae: f64,
    /// [`dvae::distortion`] a value from hard ids: nats of the released network, squared error of the custom one.
    pub distortion: f64,
    /// The same from relaxed ids.
    pub relaxed_distortion: f64,
    /// Temperature of the relaxed ids.
    pub tau: f64,
    /// How often each id was seen.
    pub counts: Vec<u64>,
}

/// A plan that measures batches of mapped views.
///
/// # Errors
/// If the sizes do not fit.
pub fn plan(
    cfg: &DvaeConfig,
    layout: &ParamLayout,
    side: (usize, usize),
    batch: usize,
    caps: &Caps,
    weights: PageKind,
) -> Result<Plan> {
    let mut g = Graph::new();
    g.in_store(TOKENIZER, |g| {
        let image = g.input("image", &[batch, side.0, side.1, 3])?;
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
    })?;
    let options = CompileOptions {
        read_from: BTreeMap::from([(TOKENIZER.to_string(), weights)]),
        ..CompileOptions::default()
    };
    compile("codebook statistics", &g, &[layout], caps, &options)
}

/// Measures batches of mapped views `[B,H,W,3]` in 0.1..0.9 with a loaded [`plan`].
///
/// # Errors
/// If the device refuses.
pub fn measure(
    session: &mut dyn Session,
    plan: PlanId,
    cfg: &DvaeConfig,
    side: (usize, usize),
    tau: f64,
    seed: u64,
    batches: impl Iterator<Item = Result<Vec<f32>>>,
) -> Result<CodebookReport> {
    let mut codebook = Codebook::new(cfg.vocab);
    let mut sums = [0.0f64; 8];
    let (mut images, mut cells, mut values) = (0, 0, 0);
    for (b, view) in batches.enumerate() {
        let view = view?;
        let count = view.len() / (3 * side.0 * side.1);
        let own = count * (side.0 / cfg.stride()) * (side.1 / cfg.stride());
        session.write(plan, "image", Data::F32(&view))?;
        session.write(plan, "weights", Data::F32(&vec![1.0 / own as f32; own]))?;
        session.write(plan, "tau", Data::F32(&[tau as f32]))?;
        session.write(plan, "gumbel_key", Data::U32(&Key::new(seed, Stream::Gumbel, b as u32).0))?;
        session.run(plan)?;
        codebook.add(&session.read(plan, "ids")?.u32());
        let number = |session: &mut dyn Session, name: &str| -> Result<f64> {
            Ok(f64::from(session.read(plan, name)?.f32().first().copied().unwrap_or(f32::NAN)))
        };
        sums[0] += number(session, "kl")? * own as f64;
        sums[1] += number(session, "distortion")? * view.len() as f64;
        sums[2] += number(session, "relaxed_distortion")? * view.len() as f64;
        let rows = session.read(plan, "chosen")?.f32();
        sums[3] += rows.chunks_exact(3).map(|r| f64::from(-r[1]).exp()).sum::<f64>();
        for (at, name) in [(4, "decoded"), (5, "relaxed")] {
            sums[at] += error(&view, &session.read(plan, name)?.f32(), cfg.decoded_channels());
        }
        sums[6] += flat_error(&view, side, (cfg.stride(), cfg.stride()));
        sums[7] += flat_error(&view, side, side);
        (images, cells, values) = (images + count, cells + own, values + view.len());
    }
    let (c, v) = (cells.max(1) as f64, values.max(1) as f64);
    Ok(CodebookReport {
        network: cfg.network,
        images,
        cells,
        vocab: cfg.vocab,
        entropy: codebook.entropy(),
        perplexity: codebook.perplexity(),
        used: codebook.used(),
        dead: cfg.vocab - codebook.used(),
        commonest: codebook.commonest(),
        kl: sums[0] / c,
        max_probability: sums[3] / c,
        mae: sums[4] / v,
        relaxed_mae: sums[5] / v,
        flat_mae: sums[6] / v,
        flat_picture_mae: sums[7] / v,
        distortion: sums[1] / v,
        relaxed_distortion: sums[2] / v,
        tau,
        counts: codebook.counts,
    })
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
/// other. `kl` is the mean KL of q(z|x) from the uniform distribution, nats a cell.
pub fn collapse(perplexity: f64, vocab: usize, kl: f64) -> Option<String> {
    let v = vocab as f64;
    if perplexity >= COLLAPSED * v {
        return None;
    }
    let why = if kl < 0.1 * v.ln() {
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
        collapse(self.perplexity, self.vocab, self.kl).is_some()
    }

    /// How much worse hard ids are than relaxed ones, as a share of the error of the relaxed ones; 0 where there is none.
    pub fn hard_gap(&self) -> f64 {
        if self.relaxed_mae > 0.0 { self.mae / self.relaxed_mae - 1.0 } else { 0.0 }
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
        if let Some(message) = collapse(self.perplexity, self.vocab, self.kl) {
            all.push(message);
        } else if 2 * self.used < self.vocab {
            all.push(format!(
                "{} of {} ids are never used: a larger tokenizer-training.beta spreads them, more updates and a smaller vocabulary \
                 fill them",
                self.dead, self.vocab
            ));
        }
        if self.mae > 0.5 * self.flat_picture_mae {
            all.push(format!(
                "the reconstruction error {:.4} is above half of that of a flat colour a picture ({:.4}): train longer, or with a \
                 wider network (tokenizer.n-hid)",
                self.mae, self.flat_picture_mae
            ));
        }
        if self.hard_gap() > 0.15 {
            all.push(format!(
                "hard ids are {:.0} % worse than relaxed ones: let the temperature end lower (tokenizer-training.tau) or fall sooner",
                100.0 * self.hard_gap()
            ));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn healthy() -> CodebookReport {
        CodebookReport {
            network: DvaeNetwork::Openai,
            images: 100,
            cells: 6400,
            vocab: 256,
            entropy: 4.8,
            perplexity: 121.5,
            used: 240,
            dead: 16,
            commonest: 0.03,
            kl: 4.0,
            max_probability: 0.8,
            mae: 0.03,
            relaxed_mae: 0.029,
            flat_mae: 0.06,
            flat_picture_mae: 0.16,
            distortion: -1.0,
            relaxed_distortion: -1.1,
            tau: 0.0625,
            counts: vec![],
        }
    }

    #[test]
    fn advice_names_what_is_wrong() {
        assert_eq!(healthy().advice(), Vec::<String>::new());
        let says = |change: fn(&mut CodebookReport)| {
            let mut r = healthy();
            change(&mut r);
            r.advice().join("\n")
        };
        assert!(says(|r| (r.perplexity, r.kl) = (3.0, 0.1)).contains("collapsed (perplexity 3.0 of 256)"));
        assert!(says(|r| (r.perplexity, r.kl) = (3.0, 0.1)).contains("a smaller tokenizer-training.beta"));
        assert!(says(|r| r.perplexity = 3.0).contains("the temperature fell"));
        assert!(says(|r| (r.used, r.dead) = (100, 156)).contains("156 of 256 ids are never used"));
        assert!(says(|r| r.mae = 0.09).contains("flat colour"));
        assert!(says(|r| r.relaxed_mae = 0.02).contains("50 % worse"));
        assert!(says(|r| r.cells = 500).contains("--images"));
    }
}
