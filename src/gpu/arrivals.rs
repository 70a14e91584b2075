//! Waiting without blocking: a counter of read-backs that arrived, and who wants to be woken by the next one.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

#[derive(Default)]
struct Bell {
    rung: u64,
    waiting: Vec<Waker>,
}

/// Counts the read-backs of a session that arrived or failed. Clones share the count.
///
/// Note the count, try [`crate::session::Session::take`], and if it gave nothing await [`Arrivals::after`] the noted
/// count: an arrival in between is not missed.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Bell>>);

impl Arrivals {
    /// Arrivals so far.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).rung
    }
    /// Waits until there are more arrivals than `seen`.
    pub async fn after(&self, seen: u64) {
        poll_fn(|context| {
            let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if bell.rung > seen {
                return Poll::Ready(());
            }
            bell.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
    pub(super) fn ring(&self) {
        let waiting = {
            let mut bell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bell.rung += 1;
            std::mem::take(&mut bell.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn an_arrival_between_look_and_wait_is_not_missed() {
        let arrivals = Arrivals::default();
        let seen = arrivals.count();
        arrivals.ring();
        pollster::block_on(arrivals.after(seen));
        let (done, wait) = channel();
        let other = arrivals.clone();
        std::thread::spawn(move || {
            pollster::block_on(other.after(1));
            done.send(()).unwrap();
        });
        assert!(wait.recv_timeout(std::time::Duration::from_millis(50)).is_err(), "nothing arrived yet");
        arrivals.ring();
        wait.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    }
}
