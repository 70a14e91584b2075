//! The engine in a browser, which has no threads: tasks of the page's event loop, between the frames of the window. On a
//! software adapter a frame takes a quarter of a second, and a look in rounds needs dozens of answers of the device one
//! after the other: none of them may wait for a frame.

use std::sync::mpsc::{Receiver, TryRecvError};

use wasm_bindgen::prelude::*;

use crate::engine::Engine;
use crate::news::Command;

#[wasm_bindgen(module = "/src/host/tasks.js")]
extern "C" {
    /// Seconds since the page began.
    fn seconds() -> f64;
    /// Comes back in a later task, after so many milliseconds.
    async fn pause(milliseconds: u32);
}

/// Milliseconds between two calls of the engine, while there is something to do and else.
const BUSY: u32 = 1;
const IDLE: u32 = 20;

/// Starts the engine. It ends when nobody can give orders any more.
pub(super) fn start(engine: Engine, orders: Receiver<Command>) {
    wasm_bindgen_futures::spawn_local(work(engine, orders));
}

async fn work(mut engine: Engine, orders: Receiver<Command>) {
    loop {
        // Of several orders that wait, only the last look is carried out.
        loop {
            match orders.try_recv() {
                Ok(order) => engine.obey(order, seconds()),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
        let busy = engine.advance(seconds());
        pause(if busy { BUSY } else { IDLE }).await;
    }
}
