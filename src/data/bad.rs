//! Files that could not be read: named, counted, and the point at which there are too many of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// Files that are named; more are only counted.
const NAMED: usize = 20;
/// A data set never fails for this many bad files as long as one is usable, however small it is.
const TOLERATED: usize = 16;

/// Collects unreadable samples from all threads.
#[derive(Debug)]
pub struct BadSamples {
    share: f64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether it was bad, for every sample that was tried.
    tried: BTreeMap<Place, bool>,
    /// Names of the bad ones: a file that several parts hold counts once.
    bad: BTreeSet<String>,
    /// The bad ones with the smallest indices: the same list whatever the threads did.
    named: BTreeMap<Place, BadSample>,
}

/// Which source, and the index in it: training and held-out pictures are counted from 0 each.
pub type Place = (Part, usize);

/// The sources that share a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Gone through in a shuffled order.
    Training,
    /// Gone through in the plain order.
    HeldOut,
}

/// One unreadable sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSample {
    /// File or entry.
    pub name: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// What has been seen so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BadReport {
    /// Distinct samples tried.
    pub tried: usize,
    /// Distinct samples that could not be used.
    pub bad: usize,
    /// The first few of them.
    pub named: Vec<BadSample>,
}

impl Default for BadSamples {
    /// Up to a tenth of the files may be bad.
    fn default() -> Self {
        BadSamples::new(0.1)
    }
}

impl BadSamples {
    /// Tolerates this share of the distinct files tried (and always a handful).
    pub fn new(share: f64) -> Self {
        BadSamples { share, state: Mutex::default() }
    }

    /// True if this sample is known to be unreadable.
    pub fn is_bad(&self, place: Place) -> bool {
        self.lock().tried.get(&place) == Some(&true)
    }

    /// Counts a sample that was read.
    pub fn good(&self, place: Place) {
        self.lock().tried.insert(place, false);
    }

    /// Counts a sample that could not be read; an error when there are too many.
    pub fn bad(&self, place: Place, name: String, reason: &Error) -> Result<()> {
        let mut state = self.lock();
        if state.tried.insert(place, true) != Some(true) && state.bad.insert(name.clone()) {
            state.named.insert(place, BadSample { name, reason: reason.to_string() });
            if state.named.len() > NAMED {
                state.named.pop_last();
            }
        }
        if state.bad.len() > TOLERATED && state.bad.len() as f64 > self.share * state.tried.len() as f64 {
            return Err(self.too_many(&state));
        }
        Ok(())
    }

    /// The error for a data set of which nothing can be read.
    pub fn none_usable(&self) -> Error {
        let state = self.lock();
        let error =
            Error::data("no picture can be read").got(format!("unreadable files: {}", state.bad.len()));
        match first_reasons(&state) {
            reasons if reasons.is_empty() => error,
            reasons => error.hint(reasons),
        }
    }

    /// What has been seen so far.
    pub fn report(&self) -> BadReport {
        let state = self.lock();
        BadReport {
            tried: state.tried.len(),
            bad: state.bad.len(),
            named: state.named.values().cloned().collect(),
        }
    }

    fn too_many(&self, state: &State) -> Error {
        Error::data("too many unreadable pictures")
            .expected(format!("at most {:.0} % of the files", self.share * 100.0))
            .got(format!("{} of {} tried", state.bad.len(), state.tried.len()))
            .hint(first_reasons(state))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every update is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_reasons(state: &State) -> String {
    let reasons: Vec<_> = state.named.values().take(3).map(|b| b.reason.as_str()).collect();
    reasons.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_distinct_files_and_names_the_first() {
        let samples = BadSamples::new(0.5);
        (100..200).for_each(|i| samples.good((Part::Training, i)));
        for i in (0..30).rev() {
            for part in [Part::Training, Part::Training, Part::HeldOut] {
                samples.bad((part, i), format!("f{i}"), &Error::data("broken")).unwrap();
            }
        }
        let report = samples.report();
        assert_eq!((report.tried, report.bad, report.named.len()), (160, 30, 20));
        assert_eq!(report.named[0], BadSample { name: "f0".into(), reason: "broken".into() });
        assert!(samples.is_bad((Part::Training, 3)) && !samples.is_bad((Part::Training, 100)));
    }

    #[test]
    fn a_bad_training_picture_says_nothing_of_the_held_out_one_of_its_number() {
        let samples = BadSamples::default();
        samples.bad((Part::Training, 0), "a".into(), &Error::data("broken")).unwrap();
        assert!(samples.is_bad((Part::Training, 0)) && !samples.is_bad((Part::HeldOut, 0)));
    }

    #[test]
    fn stops_above_the_share_but_not_for_a_handful() {
        let samples = BadSamples::default();
        let bad = |i: usize| samples.bad((Part::Training, i), format!("f{i}"), &Error::data("broken"));
        assert!((0..16).all(|i| bad(i).is_ok()));
        assert!(bad(16).unwrap_err().to_string().contains("17 of 17"));
        (1000..2000).for_each(|i| samples.good((Part::Training, i)));
        assert!(bad(17).is_ok());
    }
}
