//! Batches made ahead of time on worker threads and handed out strictly in the order of steps.
//!
//! The maker is a pure function of the step, so the number of threads cannot change a batch.

use std::sync::Arc;
use std::time::Duration;

use crate::Result;

/// Makes the batch of a step.
pub type Maker<T> = Arc<dyn Fn(u64) -> T + Send + Sync>;

/// How a [`Loader`] works ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Worker threads; 0 makes each batch when it is asked for (always so in the browser).
    pub threads: usize,
    /// Most batches made but not taken yet.
    pub prefetch: usize,
    /// First step.
    pub first: u64,
    /// Step at which to stop, not included; nothing is made for it or beyond.
    pub end: u64,
}

impl LoaderOptions {
    /// Steps `first..end` on `threads` threads with two batches per thread in advance.
    pub fn new(threads: usize, first: u64, end: u64) -> Self {
        LoaderOptions { threads, prefetch: 2 * threads.max(1), first, end }
    }
}

/// Hands out the batches of consecutive steps.
pub struct Loader<T> {
    maker: Maker<T>,
    next: u64,
    end: u64,
    waited: Duration,
    #[cfg(not(target_arch = "wasm32"))]
    workers: Option<threads::Workers<T>>,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts the workers.
    pub fn new(options: LoaderOptions, maker: Maker<T>) -> Result<Self> {
        Ok(Loader {
            #[cfg(not(target_arch = "wasm32"))]
            workers: match options.threads {
                0 => None,
                _ => Some(threads::Workers::start(options, maker.clone())?),
            },
            maker,
            next: options.first,
            end: options.end,
            waited: Duration::ZERO,
        })
    }

    /// The batch of the next step, or None behind the last. An error says that the maker panicked.
    #[allow(clippy::should_implement_trait)] // the error must not be lost in an iterator chain
    pub fn next(&mut self) -> Option<Result<T>> {
        if self.next >= self.end {
            return None;
        }
        let step = self.next;
        self.next += 1;
        let started = Stopwatch::start();
        let batch = self.take(step);
        self.waited += started.elapsed();
        Some(batch)
    }

    /// The step whose batch comes next.
    pub fn step(&self) -> u64 {
        self.next
    }

    /// Time spent inside [`Loader::next`] so far: what training waited for data.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn take(&mut self, step: u64) -> Result<T> {
        match &self.workers {
            Some(workers) => workers.take(step),
            None => threads::guarded(&self.maker, step),
        }
    }

    #[cfg(target_arch = "wasm32")]
    fn take(&mut self, step: u64) -> Result<T> {
        Ok((self.maker)(step))
    }
}

/// A clock that stands still where the platform has none.
struct Stopwatch {
    #[cfg(not(target_arch = "wasm32"))]
    start: std::time::Instant,
}

impl Stopwatch {
    fn start() -> Self {
        Stopwatch {
            #[cfg(not(target_arch = "wasm32"))]
            start: std::time::Instant::now(),
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[cfg(target_arch = "wasm32")]
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod threads {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
    use std::thread::JoinHandle;

    use super::{LoaderOptions, Maker};
    use crate::{Error, Result};

    /// A panic in the maker becomes an error of that step.
    pub fn guarded<T>(maker: &Maker<T>, step: u64) -> Result<T> {
        catch_unwind(AssertUnwindSafe(|| maker(step)))
            .map_err(|_| Error::data("making a batch panicked").at(format!("step {step}")))
    }

    pub struct Workers<T> {
        shared: Arc<Shared<T>>,
        handles: Vec<JoinHandle<()>>,
    }

    struct Shared<T> {
        state: Mutex<State<T>>,
        changed: Condvar,
        options: LoaderOptions,
    }

    struct State<T> {
        /// Next step that no worker has begun.
        claim: u64,
        /// Next step to be handed out.
        wanted: u64,
        ready: BTreeMap<u64, Result<T>>,
        stop: bool,
    }

    impl<T: Send + 'static> Workers<T> {
        pub fn start(options: LoaderOptions, maker: Maker<T>) -> Result<Self> {
            let first = options.first;
            let state = State { claim: first, wanted: first, ready: BTreeMap::new(), stop: false };
            let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), options });
            let mut workers = Workers { shared, handles: Vec::new() };
            for i in 0..options.threads {
                let (shared, maker) = (workers.shared.clone(), maker.clone());
                let thread = std::thread::Builder::new().name(format!("loader-{i}"));
                let handle = thread.spawn(move || shared.work(&maker));
                workers
                    .handles
                    .push(handle.map_err(|e| Error::data("loader thread cannot start").got(e.to_string()))?);
            }
            Ok(workers)
        }

        pub fn take(&self, step: u64) -> Result<T> {
            let mut state = self.shared.lock();
            loop {
                if let Some(batch) = state.ready.remove(&step) {
                    state.wanted = step + 1;
                    self.shared.changed.notify_all();
                    return batch;
                }
                state = self.shared.wait(state);
            }
        }
    }

    impl<T> Shared<T> {
        fn lock(&self) -> MutexGuard<'_, State<T>> {
            // Makers run outside of the lock, so a poisoned state is still whole.
            self.state.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
            self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
        }

        fn work(&self, maker: &Maker<T>) {
            while let Some(step) = self.claim() {
                let batch = guarded(maker, step);
                self.lock().ready.insert(step, batch);
                self.changed.notify_all();
            }
        }

        /// Waits until a step may be begun; None when the work is over.
        fn claim(&self) -> Option<u64> {
            let mut state = self.lock();
            loop {
                if state.stop || state.claim >= self.options.end {
                    return None;
                }
                if state.claim < state.wanted + self.options.prefetch.max(1) as u64 {
                    state.claim += 1;
                    return Some(state.claim - 1);
                }
                state = self.wait(state);
            }
        }
    }

    impl<T> Drop for Workers<T> {
        fn drop(&mut self) {
            self.shared.lock().stop = true;
            self.shared.changed.notify_all();
            for handle in self.handles.drain(..) {
                // A worker only ends by returning: its panics were caught.
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn run(threads: usize) -> Vec<u64> {
        // Every third batch is slow, so that the threads overtake each other.
        let maker: Maker<u64> = Arc::new(|step| {
            if step % 3 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            step * step
        });
        let mut loader = Loader::new(LoaderOptions::new(threads, 5, 40), maker).unwrap();
        std::iter::from_fn(|| loader.next()).map(|b| b.unwrap()).collect()
    }

    #[test]
    fn same_order_for_any_thread_count() {
        let expected: Vec<u64> = (5..40).map(|s| s * s).collect();
        for threads in [0, 1, 2, 4] {
            assert_eq!(run(threads), expected, "{threads} threads");
        }
    }

    #[test]
    fn prefetch_is_bounded_and_dropping_stops() {
        let made = Arc::new(AtomicU64::new(0));
        let count = made.clone();
        let maker: Maker<u64> = Arc::new(move |step| {
            count.fetch_add(1, Ordering::SeqCst);
            step
        });
        let options = LoaderOptions { threads: 2, prefetch: 3, first: 0, end: u64::MAX };
        let mut loader = Loader::new(options, maker).unwrap();
        assert_eq!(loader.next().unwrap().unwrap(), 0);
        std::thread::sleep(Duration::from_millis(50));
        assert!(made.load(Ordering::SeqCst) <= 4);
        drop(loader);
    }

    #[test]
    fn a_panic_is_an_error_of_its_step() {
        for threads in [0, 2] {
            let maker: Maker<u64> = Arc::new(|step| if step == 1 { panic!("on purpose") } else { step });
            let mut loader = Loader::new(LoaderOptions::new(threads, 0, 3), maker).unwrap();
            assert!(loader.next().unwrap().is_ok());
            assert_eq!(loader.next().unwrap().unwrap_err().at.as_deref(), Some("step 1"));
            assert_eq!(loader.next().unwrap().unwrap(), 2);
            assert!(loader.next().is_none());
        }
    }
}
