//! The engine's thread on the desktop.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::news::{Board, Command};

/// The engine's thread: orders, then a share of work; sleeps briefly while the device works, and until the next order
/// when there is nothing to do.
pub(super) fn work(mut engine: Engine, board: &Board, orders: &Receiver<Command>) {
    let start = Instant::now();
    let mut busy = false;
    while !board.stopped() {
        let pause = Duration::from_millis(if busy { 1 } else { 50 });
        match orders.recv_timeout(pause) {
            Ok(order) => {
                engine.obey(order, start.elapsed().as_secs_f64());
                // Of several orders that wait, only the last look is carried out.
                loop {
                    match orders.try_recv() {
                        Ok(order) => engine.obey(order, start.elapsed().as_secs_f64()),
                        Err(TryRecvError::Empty) => break,
                        Err(TryRecvError::Disconnected) => return,
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        busy = engine.advance(start.elapsed().as_secs_f64());
    }
}
