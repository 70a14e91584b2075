//! How much work a share may hold, so that the window's frames get in between: the size follows the time it took.

use beit::gpu::Standing;

/// Seconds that a share should take on the device.
const GOAL: f64 = 0.006;
/// Smallest and largest share, in floating-point operations plus bytes. The time of a share includes that of frames of the
/// window before it, so where frames are slow, on software adapters, shares must not shrink to nothing.
const LEAST: u64 = 50_000_000;
const LEAST_IN_SOFTWARE: u64 = 400_000_000;
const MOST: u64 = 20_000_000_000;

/// See the module text.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    least: u64,
    work: u64,
    /// Work of the share under way and when it was submitted.
    under_way: Option<(u64, f64)>,
}

impl Pace {
    /// For an adapter that computes on the processor, or for a GPU.
    pub(crate) fn new(software: bool) -> Pace {
        let least = if software { LEAST_IN_SOFTWARE } else { LEAST };
        Pace { least, work: least, under_way: None }
    }
    /// Size of the next share.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }
    /// Learns from what a call at `now` seconds found.
    pub(crate) fn note(&mut self, standing: Standing, now: f64) {
        if standing == Standing::UnderWay {
            return;
        }
        // Small shares, the ends of what there was to do, say little about the speed.
        if let Some((work, since)) = self.under_way.take()
            && 2 * work >= self.work
        {
            let took = (now - since).max(1e-4);
            let factor = (GOAL / took * work as f64 / self.work as f64).clamp(0.5, 1.25);
            self.work = ((self.work as f64 * factor) as u64).clamp(self.least, MOST);
        }
        if let Standing::Submitted(work) = standing {
            self.under_way = Some((work, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device of a given speed, looked at every millisecond.
    fn settled(speed: f64) -> f64 {
        let (mut pace, mut now) = (Pace::new(false), 0.0);
        for _ in 0..200 {
            let took = pace.work() as f64 / speed;
            pace.note(Standing::Submitted(pace.work()), now);
            pace.note(Standing::UnderWay, now + 0.1 * took);

            pace.note(Standing::UnderWay, now + 0.5 * took);
            now += took.max(0.001);
        }
        pace.work() as f64 / speed
    }

    #[test]
    fn shares_take_their_time_on_fast_and_slow_devices() {
        for speed in [1e10, 1e11, 1e12] {
            let took = settled(speed);
            assert!((0.003..0.009).contains(&took), "{took} s at {speed} a second");
        }
    }
}
