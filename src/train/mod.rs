//! Training: steps, events, checkpoints, runs.

mod stepper;

pub use stepper::{State, StepOptions, StepPlans, Stepper, page_bytes};
