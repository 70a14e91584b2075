//! BEiT in the browser: the engine of `beit-wgpu`, with its shaders, behind one JavaScript class.
//!
//! `web/api/beit.js` wraps [`Engine`] for JavaScript: it starts the module, queues calls and documents the types.
//! Everything here runs on one thread, a worker's as a rule, and waits without blocking.

mod answer;
mod bench;
mod engine;
mod fault;
mod inspect;
mod learning;
mod loaded;
mod looking;
mod models;
mod pictures;
mod recovery;
mod scenes;
#[cfg(feature = "suite")]
mod suite;
mod training;
mod waiting;

pub use engine::Engine;
pub use models::{Files, Weights};

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// A panic is a mistake of ours; its text goes to the console before the module stops.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|info| console_error(&format!("beit-web: {info}"))));
}
