//! Supervised pre-training: the trainer of classifiers on the network, pictures and budget of a pre-training run.

use super::classification::Classification;
use super::events::Phase;
use super::pictures::Pictures;
use super::report::Story;
use super::run::{Job, Run, Stand};
use crate::config::{Cadence, RunConfig, TaskConfig, to_toml};
use crate::error::Result;
use crate::ops::Caps;
use serde_json::Value;

/// Pre-trains on labels.
pub struct Supervised {
    config: RunConfig,
    inner: Classification,
}

impl Supervised {
    /// Checks classes and labels, and that a step fits the device.
    ///
    /// # Errors
    /// If the pictures cannot train a classifier.
    pub fn prepare(config: RunConfig, pictures: Pictures, caps: &Caps) -> Result<Supervised> {
        let labelled = config.on_labels()?;
        TaskConfig::check(&labelled)?;
        let hint = "supervised pre-training needs labels; the other methods do not";
        let inner = Classification::prepare(labelled, pictures, None, true)
            .map_err(|e| if e.hint.is_none() { e.hint(hint) } else { e })?
            .in_phase(Phase::PRETRAIN);
        inner.check(caps)?;
        Ok(Supervised { config, inner })
    }
}

impl Job for Supervised {
    fn pictures(&self) -> &Pictures {
        self.inner.pictures()
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
        self.inner.phases(run)
    }
    fn story(&self, records: &[Value]) -> Story {
        Story {
            title: "Pre-training: supervised".into(),
            subtitle: format!("preset {}, data {}", self.config.preset, self.config.data),
            ..self.inner.story(records)
        }
    }
}
