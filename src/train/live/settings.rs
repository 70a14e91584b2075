//! What a live training is asked for, what it will run, and what it tells.

use crate::config::{RunConfig, preset};
use crate::error::Result;
use crate::graph::PageKind;
use crate::ops::Caps;
use crate::tasks::tokenizer;
use crate::train::{Pair, StepPlans};
use serde::Serialize;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trained {
    /// The tokenizer.
    Tokenizer,
    /// The transformer, on the ids of the tokenizer.
    Model,
}

/// Settings of a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveSettings {
    /// What is trained.
    pub kind: Trained,
    /// From random numbers instead of the loaded weights.
    pub fresh: bool,
    /// Updates.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Seed of order, views, masks and fresh weights.
    pub seed: u64,
}

/// Figures of one update. What does not belong to the trained network is left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LiveFigures {
    /// Updates done.
    pub step: u64,
    /// Updates wanted.
    pub steps: u64,
    /// Pictures per update.
    pub batch: usize,
    /// Loss: of the transformer in nats; of the tokenizer `nll` or `mse` plus the weighted KL, a value.
    pub loss: f32,
    /// exp(entropy) of the ids of the last updates.
    pub perplexity: f64,
    /// Ids seen in them.
    pub used: usize,
    /// Vocabulary V.
    pub vocab: usize,
    /// Transformer: share of masked tokens predicted right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
    /// Transformer: accuracy of always guessing the commonest id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Tokenizer of the released network: negative log-likelihood a value, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nll: Option<f32>,
    /// Tokenizer of the customised network: squared error of a value in −1..1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mse: Option<f32>,
    /// Tokenizer: KL from the uniform distribution, nats a cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f32>,
}

impl Trained {
    /// Which pages of the tokenizer a viewer beside the training looks at: its moving average while it is trained.
    pub fn tokenizer_pages(self) -> PageKind {
        match self {
            Trained::Tokenizer => PageKind::Ema,
            Trained::Model => PageKind::Param,
        }
    }
}

/// What a training will run, before anything is allocated.
pub struct LivePlans {
    pub(super) config: RunConfig,
    /// Forward and backward pass, update.
    pub steps: StepPlans,
}

impl LivePlans {
    /// Compiles the plans.
    ///
    /// # Errors
    /// If the settings cannot work.
    pub fn new(pair: &Pair, settings: &LiveSettings, caps: &Caps) -> Result<LivePlans> {
        let config = recipe(pair, settings)?;
        let steps = match settings.kind {
            Trained::Tokenizer => {
                let side = config.token_side();
                tokenizer::plans(config.tokenizer.dvae()?, side, &config.tokenizer_training, caps)?
            }
            Trained::Model => config.mim().plans(&config.training, &pair.tokenizer, caps)?,
        };
        Ok(LivePlans { config, steps })
    }
}

/// The recipe of the nano preset for these networks and settings; schedules scale with the number of updates.
fn recipe(pair: &Pair, s: &LiveSettings) -> Result<RunConfig> {
    let mut c = preset("nano")?;
    c.set_tokenizer_network(pair.dvae.network())?;
    c.model = pair.vit.clone();
    c.tokenizer = pair.dvae.clone();
    c.seed = s.seed;
    let cells = c.model.patches();
    c.mask.num_mask_patches = (cells * 2 / 5).max(1);
    c.mask.min_block = (cells / 16).clamp(1, c.mask.num_mask_patches);
    (c.tokenizer_training.steps, c.training.steps) = (s.steps, s.steps);
    (c.tokenizer_training.batch, c.training.batch) = (s.batch, s.batch);
    c.training.warmup = (s.steps / 12).max(1);
    if !s.fresh {
        // Weights that were trained before are not shaken up again.
        c.training.lr *= 0.3;
        c.tokenizer_training.lr *= 0.3;
    }
    c.check()?;
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::DvaeNetwork;

    #[test]
    fn a_network_brings_its_own_recipe() {
        let settings = LiveSettings { kind: Trained::Tokenizer, fresh: true, steps: 4, batch: 4, seed: 1 };
        for (network, beta) in [(DvaeNetwork::Openai, 3.0), (DvaeNetwork::Custom, 0.15)] {
            let mut nano = preset("nano").unwrap();
            nano.set_tokenizer_network(network.into()).unwrap();
            let dvae = nano.tokenizer.dvae().unwrap().clone();
            let pair = Pair::fresh(nano.model, dvae.clone(), 1 << 20, 3).unwrap();
            let live = recipe(&pair, &settings).unwrap();
            assert_eq!((live.tokenizer_training.beta, live.tokenizer_training.steps), (beta, 4));
            assert_eq!(live.tokenizer, dvae.into());
        }
    }
}
