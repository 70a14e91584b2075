//! `state.json` of a checkpoint: where training stood and what it depends on.

use super::events::Phase;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Version of the checkpoint's meaning; a reader refuses others.
const FORMAT: u32 = 1;

/// Contents of `state.json`. Nothing here depends on a clock, so that equal training gives equal bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StateJson {
    /// Version of this file.
    pub format: u32,
    /// Version of the crate that wrote it.
    pub version: String,
    /// Phase name.
    pub phase: String,
    /// Updates done; the next batch is the one of this number.
    pub step: u64,
    /// Best evaluation so far: updates and score.
    pub best: Option<(u64, f64)>,
    /// Hash of the plan of a step.
    pub plan: String,
    /// Hash of the layout of the trained parameters.
    pub layout: String,
    /// Fingerprint of the training pictures.
    pub data: String,
    /// Hash of the frozen tokenizer's weights (masked pre-training only).
    #[serde(default)]
    pub tokenizer: Option<String>,
    /// Hash of the teacher's weights (a VQ-KD tokenizer only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// The merged configuration.
    pub config: serde_json::Value,
}

impl StateJson {
    /// Fills in the version fields.
    pub fn new(phase: Phase, step: u64, config: &impl Serialize) -> Self {
        StateJson {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            phase: phase.name().into(),
            step,
            best: None,
            plan: String::new(),
            layout: String::new(),
            data: String::new(),
            tokenizer: None,
            teacher: None,
            // plain structs of numbers and strings always serialise
            config: serde_json::to_value(config).unwrap_or_default(),
        }
    }
    /// The file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
    /// Reads the file and checks its version.
    ///
    /// # Errors
    /// If it is no state of this version.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let state: StateJson = serde_json::from_slice(bytes)
            .map_err(|e| Error::checkpoint("not a training state").at(file).got(e.to_string()))?;
        if state.format != FORMAT {
            return Err(Error::checkpoint("training state of another version")
                .at(file)
                .expected(FORMAT.to_string())
                .got(state.format.to_string()));
        }
        Ok(state)
    }
    /// Checks that training can go on from here, on the same parameters and pictures.
    ///
    /// # Errors
    /// The first thing that differs.
    pub fn check(&self, layout: &str, data: &str) -> Result<()> {
        for (what, saved, now) in [("parameter layout", &self.layout, layout), ("data set", &self.data, data)]
        {
            if saved != now {
                return Err(Error::checkpoint(format!(
                    "the {what} changed since the checkpoint was written"
                ))
                .expected(saved.clone())
                .got(now)
                .hint("go on with the same pictures and the same version, or start a new run"));
            }
        }
        Ok(())
    }
}
