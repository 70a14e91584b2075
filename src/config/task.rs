//! What the configs of all kinds of runs share.

use super::wrong;
use crate::error::Result;
use crate::ops::Precision;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The config of one kind of run: a plain struct with `deny_unknown_fields`, so that a misspelt key is an error.
pub trait TaskConfig: Serialize + DeserializeOwned + Clone {
    /// Name of the kind: in `status.json`, and of default run folders (`runs/NAME-0001`).
    const TASK: &'static str;
    /// Checks everything that can be checked before data and device are touched.
    ///
    /// # Errors
    /// The first setting that cannot work, by its name.
    fn check(&self) -> Result<()>;
    /// Where pictures come from.
    fn data_choice(&self) -> DataChoice<'_>;
    /// Precision of activations on a GPU.
    fn precision(&self) -> Precision {
        Precision::F32
    }
    /// When things are written.
    fn schedule_mut(&mut self) -> &mut Cadence;
}

/// Where pictures come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DataChoice<'a> {
    /// `synthetic`, a folder, a tar file, CIFAR files.
    pub data: &'a str,
    /// Held-out pictures, or empty for a share of `data`.
    pub val: &'a str,
    /// Share of `data` that is held out when `val` is empty and the data names no held-out part itself.
    pub val_share: f64,
    /// Seed of the built-in scenes and of the split.
    pub seed: u64,
}

impl DataChoice<'_> {
    /// Checks the share.
    ///
    /// # Errors
    /// If it is not a share.
    pub fn check(&self) -> Result<()> {
        if (0.0..1.0).contains(&self.val_share) {
            return Ok(());
        }
        Err(wrong("val-share", "0 or more and less than 1", self.val_share))
    }
}

/// When things are written; all in updates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cadence {
    /// Metrics.
    pub log_every: u64,
    /// Evaluation and contact sheet.
    pub eval_every: u64,
    /// Checkpoint.
    pub save_every: u64,
    /// Checkpoints kept beside the best one.
    pub keep: usize,
}

impl Cadence {
    /// Checks the numbers.
    ///
    /// # Errors
    /// The first that cannot work.
    pub fn check(&self) -> Result<()> {
        let every = [
            ("schedule.log-every", self.log_every),
            ("schedule.eval-every", self.eval_every),
            ("save-every", self.save_every),
        ];
        for (flag, value) in every {
            if value == 0 {
                return Err(wrong(flag, "1 or more", 0));
            }
        }
        if self.keep < 2 {
            return Err(wrong("schedule.keep", "2 or more", self.keep));
        }
        Ok(())
    }
}
