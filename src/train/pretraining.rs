//! The main job: a tokenizer first (unless one is given), then masked pre-training.

use super::events::Phase;
use super::pictures::Pictures;
use super::report::{Story, last, last_facts, reference};
use super::run::{Job, Outcome, Run, Stand};
use super::{phase_pretrain, phase_tokenizer};
use crate::config::{Cadence, RunConfig, to_toml};
use crate::error::Result;
use crate::runs::report::Reference;
use serde_json::Value;
use std::path::PathBuf;

/// Pre-trains a BEiT.
pub struct Pretraining {
    /// What it does.
    pub config: RunConfig,
    /// Training and held-out pictures.
    pub pictures: Pictures,
    /// A trained tokenizer: its checkpoint folder, its run folder, or a file.
    pub tokenizer: Option<PathBuf>,
}

impl Job for Pretraining {
    fn pictures(&self) -> &Pictures {
        &self.pictures
    }
    fn config(&self) -> Result<String> {
        to_toml(&self.config)
    }
    fn schedule(&self) -> &Cadence {
        &self.config.schedule
    }
    fn phases(&mut self, run: &mut Run<'_>) -> Result<Stand> {
        let Some(tokenizer) = phase_tokenizer::run(run, self)? else {
            return run.stopped(Phase::TOKENIZER);
        };
        if !phase_pretrain::run(run, self, &tokenizer)? {
            return run.stopped(Phase::PRETRAIN);
        }
        let step = self.config.training.steps;
        Ok(Stand { outcome: Outcome::Finished, phase: Phase::PRETRAIN, step })
    }
    fn story(&self, records: &[Value]) -> Story {
        Story {
            title: "BEiT pre-training".into(),
            subtitle: format!("preset {}, data {}", self.config.preset, self.config.data),
            facts: last_facts(
                records,
                &[
                    ("held-out loss", "val_loss"),
                    ("held-out accuracy", "val_mlm_acc"),
                    ("tokenizer: mean absolute error", "val_mae"),
                    ("tokenizer: ids in use", "codes_used"),
                    ("codebook perplexity", "perplexity"),
                ],
            ),
            references: references(&self.config, records),
            sheets: vec![
                (
                    Phase::PRETRAIN,
                    "Masked pre-training",
                    "held-out pictures: hidden patches are filled with the decoded predictions",
                ),
                (Phase::TOKENIZER, "Tokenizer", "held-out pictures and what is left of them in their tokens"),
            ],
        }
    }
}

fn references(config: &RunConfig, records: &[Value]) -> Vec<Reference> {
    let mut all = vec![reference(
        "ln V",
        (config.model.vocab as f64).ln(),
        "loss of a uniform guess; where every run starts",
        Some("pretrain/loss"),
    )];
    let measured = [
        (
            "unigram entropy",
            "unigram_entropy",
            "best loss of a model that knows only how common each token is",
            Some("pretrain/loss"),
        ),
        (
            "per-position entropy",
            "position_entropy",
            "best loss of a model that knows only where a patch lies",
            Some("pretrain/loss"),
        ),
        (
            "commonest token",
            "commonest_share",
            "accuracy of always guessing the commonest token",
            Some("pretrain/accuracy"),
        ),
        (
            "flat colour per cell",
            "val_flat_mae",
            "mean absolute error if every cell were its mean colour: more than any vocabulary can say",
            Some("tokenizer/error"),
        ),
        (
            "flat colour per picture",
            "val_flat_picture_mae",
            "mean absolute error if every picture were its mean colour",
            Some("tokenizer/error"),
        ),
    ];
    for (name, key, explanation, chart) in measured {
        if let Some(value) = last(records, key) {
            all.push(reference(name, value, explanation, chart));
        }
    }
    let published =
        "the authors' own base run on ImageNet-1K after 300 epochs, 8192 ids: another task, another size";
    all.push(reference("published loss", 6.2994, published, None));
    all.push(reference("published accuracy", 0.0496, published, None));
    all
}
