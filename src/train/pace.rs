//! How fast a training loop goes and what it waits for. Evaluations and checkpoints do not count: they are no training.

use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Time of the updates of one start of a phase. These figures differ from run to run, nothing else does.
pub(super) struct Pace {
    /// Beginning of the lap, moved on by what does not count.
    since: Instant,
    /// Updates and data wait at the beginning of the lap.
    at: (u64, Duration),
    begun: Instant,
    first: u64,
    /// Wait for the first batch, before which nothing could be made ahead.
    first_wait: Duration,
}

/// Figures of the updates between two lines of the metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Lap {
    pub seconds: f64,
    pub updates: u64,
    /// Time during which the loop stood still because there was no batch.
    pub data_wait: f64,
}

impl Pace {
    /// Begins at `first` updates.
    pub(super) fn new(first: u64) -> Self {
        let now = Instant::now();
        Pace { since: now, at: (first, Duration::ZERO), begun: now, first, first_wait: Duration::ZERO }
    }

    /// Ends a lap after `done` updates; `waited` is the data wait so far, all laps together.
    pub(super) fn lap(&mut self, done: u64, waited: Duration) -> Lap {
        let now = Instant::now();
        let lap = lap(now - self.since, done - self.at.0, waited.saturating_sub(self.at.1));
        (self.since, self.at) = (now, (done, waited));
        lap
    }

    /// Leaves out a time that has just passed and was no training.
    pub(super) fn leave_out(&mut self, time: Duration) {
        self.since += time;
        self.begun += time;
    }

    /// Notes the wait for the first batch.
    pub(super) fn first_batch(&mut self, waited: Duration) {
        self.first_wait = waited;
    }

    /// One line about all updates of this start.
    pub(super) fn summary(&self, done: u64, waited: Duration) -> String {
        let all = lap(self.begun.elapsed(), done - self.first, waited.saturating_sub(self.first_wait));
        format!(
            "{} updates in {:.1} s, {:.3} s each; {:.3} s of it waited for data ({:.2} %), and {:.3} s for the first batch",
            all.updates,
            all.seconds,
            all.seconds / all.updates.max(1) as f64,
            all.data_wait,
            100.0 * all.data_wait / all.seconds,
            self.first_wait.as_secs_f64()
        )
    }
}

fn lap(time: Duration, updates: u64, data_wait: Duration) -> Lap {
    Lap { seconds: time.as_secs_f64().max(1e-9), updates, data_wait: data_wait.as_secs_f64() }
}

impl Lap {
    /// Images per second, for `images` in each update.
    pub(super) fn images_per_second(&self, images: usize) -> f64 {
        self.updates as f64 * images as f64 / self.seconds
    }

    /// As it stands in the metrics.
    pub(super) fn json(&self, images: usize) -> Value {
        json!({
            "images_per_second": self.images_per_second(images),
            "seconds_per_step": self.seconds / self.updates.max(1) as f64,
            "data_wait_seconds": self.data_wait,
            "data_wait_share": self.data_wait / self.seconds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_leave_out_what_is_no_training() {
        let mut pace = Pace::new(10);
        let hour = Duration::from_secs(3600);
        // An hour of training and two of evaluation, as if they had been.
        pace.since -= 3 * hour;
        pace.begun -= 3 * hour;
        pace.leave_out(2 * hour);
        let wait = Duration::from_secs(36);
        pace.first_batch(Duration::from_secs(6));
        let first = pace.lap(30, wait);
        assert!((first.seconds - 3600.0).abs() < 60.0, "{first:?}");
        assert_eq!((first.updates, first.data_wait), (20, 36.0));
        assert!((first.images_per_second(64) - 20.0 * 64.0 / 3600.0).abs() < 0.01);
        let second = pace.lap(31, wait + Duration::from_secs(1));
        assert_eq!((second.updates, second.data_wait), (1, 1.0));
        let said = pace.summary(31, wait + Duration::from_secs(1));
        assert!(said.starts_with("21 updates in 36"), "{said}");
        assert!(said.contains("31.000 s of it waited for data (0.8"), "{said}");
        assert!(said.ends_with("6.000 s for the first batch"), "{said}");
    }
}
