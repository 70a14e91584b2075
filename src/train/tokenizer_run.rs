//! A run that trains a tokenizer and nothing else.

use super::events::Phase;
use super::phase_tokenizer;
use super::pictures::Pictures;
use super::pretraining::Pretraining;
use super::report::{Story, last, last_facts, reference};
use super::run::{Job, Outcome, Run, Stand};
use crate::config::{Cadence, DataChoice, RunConfig, TaskConfig, to_toml};
use crate::error::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The config of such a run: that of a pre-training run, of which only the tokenizer's part is carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenizerConfig(pub RunConfig);

impl TaskConfig for TokenizerConfig {
    const TASK: &'static str = "tokenizer";
    fn check(&self) -> Result<()> {
        self.0.check()
    }
    fn data_choice(&self) -> DataChoice<'_> {
        self.0.data_choice()
    }
    fn schedule_mut(&mut self) -> &mut Cadence {
        &mut self.0.schedule
    }
}

/// Trains a tokenizer.
pub struct TokenizerTraining(Pretraining);

impl TokenizerTraining {
    /// Prepares the job.
    pub fn new(config: TokenizerConfig, pictures: Pictures) -> Self {
        TokenizerTraining(Pretraining { config: config.0, pictures, tokenizer: None })
    }
}

impl Job for TokenizerTraining {
    fn pictures(&self) -> &Pictures {
        &self.0.pictures
    }
    fn config(&self) -> Result<String> {
        to_toml(&self.0.config)
    }
    fn schedule(&self) -> &Cadence {
        &self.0.config.schedule
    }
    fn batch(&self) -> usize {
        self.0.config.tokenizer_training.batch
    }
    fn phases(&mut self, run: &mut Run<'_>) -> Result<Stand> {
        if phase_tokenizer::run(run, &mut self.0)?.is_none() {
            return run.stopped(Phase::TOKENIZER);
        }
        let step = self.0.config.tokenizer_training.steps;
        Ok(Stand { outcome: Outcome::Finished, phase: Phase::TOKENIZER, step })
    }
    fn story(&self, records: &[Value]) -> Story {
        let c = &self.0.config;
        let flat = [("cell", "val_flat_mae"), ("picture", "val_flat_picture_mae")].map(|(what, key)| {
            let explanation = format!("mean absolute error if every {what} were its mean colour");
            let name = format!("flat colour per {what}");
            last(records, key).map(|value| reference(&name, value, &explanation, Some("tokenizer/error")))
        });
        Story {
            title: "Tokenizer".into(),
            subtitle: format!("preset {}, {} ids, data {}", c.preset, c.tokenizer.vocab(), c.data),
            facts: last_facts(
                records,
                &[
                    ("cosine distance to the teacher", "val_cosine_distance"),
                    ("mean absolute error", "val_mae"),
                    ("ids in use", "codes_used"),
                    ("codebook perplexity", "val_perplexity"),
                ],
            ),
            references: flat.into_iter().flatten().collect(),
            sheets: vec![(
                Phase::TOKENIZER,
                "Tokenizer",
                "held-out pictures and what is left of them in their tokens",
            )],
        }
    }
}
