//! Training in a tab: the crate's own, awaited, with copies on the host also by the clock.

use std::sync::Arc;

use beit::Result;
use beit::data::Source;
use beit::gpu::{Arrivals, Gpu, GpuSession};
use beit::train::{LiveFigures, LivePlans, LiveSettings, LiveTraining, Pair, State};
use js_sys::Date;

use crate::waiting::finish;

/// Milliseconds after which an update is followed by a copy: with the crate's own count of updates, what a lost device
/// can cost.
const COPY_AFTER: f64 = 10_000.0;

/// A training under way.
pub(crate) struct Training {
    pub(crate) live: LiveTraining,
    /// When the last copy was taken, in milliseconds.
    copied: f64,
}

impl Training {
    /// See [`LiveTraining::start`].
    pub(crate) fn start(
        gpu: &Gpu,
        pair: &Pair,
        settings: LiveSettings,
        plans: LivePlans,
        source: Arc<dyn Source>,
        from: Option<(u64, State)>,
    ) -> Result<(Training, Arrivals)> {
        let session = GpuSession::new(gpu.clone());
        let arrivals = session.arrivals();
        let live = LiveTraining::start(Box::new(session), pair, settings, plans, source, from)?;
        Ok((Training { live, copied: Date::now() }, arrivals))
    }

    /// Runs one update and gives its figures.
    ///
    /// # Errors
    /// If the device was lost, or the loss is not a number again and again.
    pub(crate) async fn step(&mut self, arrivals: &Arrivals) -> Result<LiveFigures> {
        let copied = self.live.snapshot.0;
        let figures = finish(arrivals, || self.live.advance()).await?;
        if self.live.snapshot.0 != copied {
            self.copied = Date::now();
        } else if Date::now() >= self.copied + COPY_AFTER {
            self.copy(arrivals).await?;
        }
        Ok(figures)
    }

    /// Copies everything to the host, for [`Training::start`] on another device.
    ///
    /// # Errors
    /// If the device was lost.
    pub(crate) async fn copy(&mut self, arrivals: &Arrivals) -> Result<()> {
        finish(arrivals, || Ok(self.live.copy()?.then_some(()))).await?;
        self.copied = Date::now();
        Ok(())
    }
}
