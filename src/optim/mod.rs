//! The optimiser: which parameters decay, schedules, and the graph of one update over flat pages.

mod schedule;
mod update;

pub use schedule::{Cosine, Schedule, half_cosine};
pub use update::{Decay, Rates, bind_gradients, group_table, update_graph};
