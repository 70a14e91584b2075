//! The sticky flag of a device that can no longer be trusted: lost, failed, or silent for too long.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Set once, never cleared; a new device needs a new session.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    flag: AtomicBool,
    reason: Mutex<String>,
}

impl Lost {
    /// Marks the device as lost; the first reason stays.
    pub(crate) fn set(&self, reason: &str) {
        let mut first = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if first.is_empty() {
            reason.clone_into(&mut first);
        }
        self.flag.store(true, Ordering::SeqCst);
    }
    /// Whether the device was lost.
    pub(crate) fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }
    /// An error if the device was lost.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(Error::device("the GPU device was lost").got(reason).hint("continue from the last checkpoint"))
    }
}
