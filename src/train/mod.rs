//! Training: steps on a session, the loop around them, checkpoints, runs.

mod live;
mod pair;
mod stepper;
pub use live::{LiveFigures, LivePlans, LiveSettings, LiveTraining, Trained};
pub use pair::{Pair, PairFiles};
pub use stepper::{AVERAGE, State, StepOptions, StepPlans, Stepper, page_bytes, with_average};

#[cfg(feature = "cli")]
mod budget;
#[cfg(feature = "cli")]
mod classification;
#[cfg(feature = "cli")]
mod drive;
pub mod events;
pub mod files;
#[cfg(feature = "cli")]
mod kept;
#[cfg(feature = "cli")]
mod pace;
#[cfg(feature = "cli")]
mod phase_masked;
#[cfg(feature = "cli")]
mod phase_pretrain;
#[cfg(feature = "cli")]
mod phase_tokenizer;
#[cfg(feature = "cli")]
mod phase_views;
#[cfg(feature = "cli")]
mod phase_vq_kd;
#[cfg(feature = "cli")]
mod pictures;
#[cfg(feature = "cli")]
mod pretraining;
#[cfg(feature = "cli")]
mod report;
#[cfg(feature = "cli")]
mod run;
#[cfg(feature = "cli")]
mod segmentation;
#[cfg(feature = "cli")]
mod sheets;
#[cfg(feature = "cli")]
mod state_json;
#[cfg(feature = "cli")]
mod supervised;
#[cfg(feature = "cli")]
mod teacher;
#[cfg(feature = "cli")]
mod token_cache;
#[cfg(feature = "cli")]
mod tokenizer_run;

#[cfg(feature = "cli")]
pub use budget::{all_plans, check_fits, check_memory, method_plans};
#[cfg(feature = "cli")]
pub use classification::{CLASSIFY, Classification};
#[cfg(feature = "cli")]
pub(crate) use files::state_limits;
#[cfg(feature = "cli")]
pub use files::{pages_of, tensors_of};
#[cfg(feature = "cli")]
pub use phase_tokenizer::Tokenizer;
#[cfg(feature = "cli")]
pub(crate) use phase_vq_kd::recipe as distillation;
#[cfg(feature = "cli")]
pub use pictures::Pictures;
#[cfg(feature = "cli")]
pub use pretraining::Pretraining;
#[cfg(feature = "cli")]
pub use report::Story;
#[cfg(feature = "cli")]
pub use run::{Job, MakeSession, Outcome, Run, RunOptions, Stand};
#[cfg(feature = "cli")]
pub use segmentation::{SEGMENT, Segmentation};
#[cfg(feature = "cli")]
pub(crate) use sheets::from_tokens;
#[cfg(feature = "cli")]
pub use supervised::Supervised;
#[cfg(feature = "cli")]
pub use teacher::Teacher;
#[cfg(feature = "cli")]
pub use token_cache::check_shared;
#[cfg(feature = "cli")]
pub use tokenizer_run::{TokenizerConfig, TokenizerTraining};

/// Side in pixels of the pictures that a run's tokenizer was trained on, where its folder says.
#[cfg(feature = "cli")]
pub(crate) fn trained_side(path: &std::path::Path) -> Option<usize> {
    let configs = path.ancestors().take(4).map(|d| d.join(crate::runs::CONFIG)).filter(|p| p.is_file());
    configs
        .filter_map(|p| {
            crate::config::from_toml::<crate::config::RunConfig>(&std::fs::read_to_string(p).ok()?, "config")
                .ok()
        })
        .map(|c| c.token_side().0)
        .next()
}
