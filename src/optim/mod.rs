//! The optimiser: which parameters decay, schedules, and the graph of one update over flat pages.

mod schedule;
mod update;

pub use schedule::{Cosine, Schedule, half_cosine};
pub use update::{Decay, Rates, Update, bind_gradients, group_table, loss_scale, update_graph};
