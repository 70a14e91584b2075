//! The main job: for BEiT a tokenizer first (unless one is given), then masked pre-training; or another method on the
//! same network.

use super::events::Phase;
use super::pictures::Pictures;
use super::report::{Story, last, last_facts, reference};
use super::run::{Job, Outcome, Run, Stand};
use super::{phase_masked, phase_pretrain, phase_tokenizer, phase_views};
use crate::config::{Cadence, Method, RunConfig, to_toml};
use crate::error::{Error, Result};
use crate::io::hf::{BACKBONE, HfConfig, HfPreprocessor, preprocessor_config_json, transformers_config_json};
use crate::runs::report::Reference;
use serde_json::Value;
use std::path::PathBuf;

/// Pre-trains a transformer without labels.
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
    fn batch(&self) -> usize {
        self.config.training.batch
    }
    fn phases(&mut self, run: &mut Run<'_>) -> Result<Stand> {
        let done = match self.config.method {
            Method::Dino(_) | Method::MocoV3(_) => phase_views::run(run, self)?,
            Method::Pixels | Method::MaskedPatchColour(_) => phase_masked::run(run, self)?,
            Method::Supervised(_) => {
                return Err(Error::config("labels are trained on by a job of their own").at("method"));
            }
            Method::Beit => {
                let Some(tokenizer) = phase_tokenizer::run(run, self)? else {
                    return run.stopped(Phase::TOKENIZER);
                };
                phase_pretrain::run(run, self, &tokenizer)?
            }
        };
        if !done {
            return run.stopped(Phase::PRETRAIN);
        }
        let step = self.config.training.steps;
        Ok(Stand { outcome: Outcome::Finished, phase: Phase::PRETRAIN, step })
    }
    fn story(&self, records: &[Value]) -> Story {
        let c = &self.config;
        Story {
            title: match c.method {
                Method::Beit => "BEiT pre-training".into(),
                _ => format!("Pre-training: {}", c.method.name()),
            },
            subtitle: format!("preset {}, data {}", c.preset, c.data),
            facts: last_facts(records, FACTS),
            references: references(c, records),
            sheets: vec![
                (Phase::PRETRAIN, "Pre-training", "held-out pictures and what the network makes of them"),
                (Phase::TOKENIZER, "Tokenizer", "held-out pictures and what is left of them in their tokens"),
            ],
        }
    }
}

/// Figures at the top of the report, where a run has them.
const FACTS: &[(&str, &str)] = &[
    ("held-out loss", "val_loss"),
    ("held-out accuracy", "val_mlm_acc"),
    ("held-out colours right", "val_colour_acc"),
    ("held-out pairs found", "val_pair_acc"),
    ("entropy of the mean target", "val_mean_entropy"),
    ("mean entropy of the targets", "val_target_entropy"),
    ("spread of the keys (1 = even, 0 = collapsed)", "val_spread"),
    ("tokenizer: mean absolute error", "val_mae"),
    ("tokenizer: ids in use", "codes_used"),
    ("codebook perplexity", "perplexity"),
];

/// The files beside the weights of a pre-trained transformer: its sizes and how pictures are prepared for it.
pub(super) fn model_files(c: &RunConfig) -> Vec<(String, Vec<u8>)> {
    let n = c.normalization();
    let preprocessor = HfPreprocessor {
        image_mean: n.mean.map(f64::from),
        image_std: n.std.map(f64::from),
        ..HfPreprocessor::square(c.model.image.0)
    };
    let sizes = match c.method {
        Method::Beit | Method::MaskedPatchColour(_) => c.model.to_hf(),
        // a backbone with a final norm; of a head of another kind the class of transformers knows nothing
        Method::Pixels | Method::Supervised(_) | Method::Dino(_) | Method::MocoV3(_) => HfConfig {
            architectures: vec![BACKBONE.to_owned()],
            use_mask_token: matches!(c.method, Method::Pixels),
            use_mean_pooling: false,
            ..c.model.to_hf()
        },
    };
    vec![
        ("config.json".into(), transformers_config_json(&sizes).into_bytes()),
        ("preprocessor_config.json".into(), preprocessor_config_json(&preprocessor).into_bytes()),
    ]
}

/// Lines of the curves to hold a run against.
fn references(config: &RunConfig, records: &[Value]) -> Vec<Reference> {
    match &config.method {
        Method::Beit => token_references(config, records),
        Method::Dino(d) => vec![reference(
            "ln K",
            (d.head.out as f64).ln(),
            "entropy of an even target: the mean target should stay near it, single ones should fall",
            Some("pretrain/entropy"),
        )],
        _ => {
            let known = [
                ("variance of the pixels", "pixel_variance", "loss of guessing the mean of all pixels"),
                ("flat patches", "flat_patch_mse", "loss of the right flat colour for each patch"),
                ("ln 512", "ln_v", "loss of a uniform guess"),
                ("entropy of the colours", "unigram_entropy", "loss of knowing how common each colour is"),
                ("ln of the pairs", "ln_pairs", "contrast of a uniform guess"),
            ];
            let line = |(name, key, text): (&str, &str, &str)| {
                Some(reference(name, last(records, key)?, text, Some("pretrain/loss")))
            };
            known.into_iter().filter_map(line).collect()
        }
    }
}

fn token_references(config: &RunConfig, records: &[Value]) -> Vec<Reference> {
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
