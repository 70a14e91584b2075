//! Pictures for people: patches hidden and filled in, heat maps, contact sheets and boards, as pixels or PNG.
//!
//! Nothing here needs a file system, a window or a command line: the trainer's sheets, `beit reconstruct`, the browser
//! page and the egui widgets all draw with these functions.

mod board;
mod canvas;
pub mod cells;
pub mod codebook;
pub mod colour;
mod font;
pub mod reconstruction;
pub mod sheet;

pub use board::{Band, Board, Legend, Panel};
pub use canvas::Canvas;
