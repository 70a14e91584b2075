//! What a run will need, computed before anything is allocated, and the refusal if it cannot fit.

use super::phase_masked;
use super::phase_tokenizer::Tokenizer;
use super::stepper::{StepPlans, page_bytes};
use crate::config::{Method, RunConfig};
use crate::error::{Error, Result};
use crate::models::TokenizerModel;
use crate::ops::{Caps, Tier};
use crate::tasks::tokenizer;
use crate::tasks::views::ViewsModel;

/// The plans of both phases of a run; a VQ-KD tokenizer's training cannot be planned without its teacher and is left out.
///
/// # Errors
/// If the sizes do not fit, or no kernel fits the adapter.
pub fn all_plans(config: &RunConfig, caps: &Caps) -> Result<(Option<StepPlans>, StepPlans)> {
    let t = match &config.tokenizer {
        TokenizerModel::Dvae(d) => {
            Some(tokenizer::plans(d, config.token_side(), &config.tokenizer_training, caps)?)
        }
        TokenizerModel::VqKd(_) => None,
    };
    let layout = Tokenizer::layout(&config.tokenizer, page_bytes(caps))?;
    let m = match config.token_cache.views {
        0 => config.mim().plans(&config.training, &layout, caps)?,
        _ => config.mim().plans_on_ids(&config.training, caps)?,
    };
    Ok((t, m))
}

/// Classes of the head of a plan that is made before pictures are looked at.
const SOME_CLASSES: usize = 1000;

/// The plans of a run by any method: of its tokenizer's training, if it has one, and of pre-training. A supervised run is
/// planned with 1000 classes.
///
/// # Errors
/// As [`all_plans`].
pub fn method_plans(config: &RunConfig, caps: &Caps) -> Result<(Option<StepPlans>, StepPlans)> {
    match &config.method {
        Method::Beit => all_plans(config, caps),
        Method::Pixels | Method::MaskedPatchColour(_) => Ok((None, phase_masked::plans(config, caps)?)),
        Method::Dino(_) | Method::MocoV3(_) => {
            Ok((None, ViewsModel::of(config)?.plans(&config.training, caps)?))
        }
        Method::Supervised(_) => {
            let mut labelled = config.on_labels()?;
            labelled.classes = (0..SOME_CLASSES).map(|i| i.to_string()).collect();
            Ok((None, labelled.network().plans(&labelled.training, caps)?))
        }
    }
}

/// Refuses a run whose buffers cannot fit the adapter, with the figure and what would fit.
///
/// # Errors
/// If a single buffer passes the adapter's limits, or all of them the memory of this machine (CPU session).
pub fn check_memory(config: &RunConfig, caps: &Caps) -> Result<()> {
    let (tokenizer, model) = method_plans(config, caps)?;
    if let Some(t) = &tokenizer {
        check_fits("tokenizer training", t, caps)?;
    }
    check_fits("pre-training", &model, caps)
}

/// The same for the plans of one kind of training, named `what` in the message.
///
/// # Errors
/// As [`check_memory`].
pub fn check_fits(what: &str, plans: &StepPlans, caps: &Caps) -> Result<()> {
    let inputs = plans.micro.inputs.iter().map(|p| p.ty.bytes());
    let largest = plans.micro.slots.iter().map(|s| 4 * s.elements as u64).chain(inputs).max().unwrap_or(0);
    let limit = page_bytes(caps);
    if caps.tier != Tier::Cpu && largest > limit {
        return Err(too_large(what, largest, limit, "largest buffer"));
    }
    if let Some(memory) = machine_memory().filter(|&m| plans.total_bytes() > m / 10 * 9)
        && caps.tier != Tier::Hardware
    {
        return Err(too_large(what, plans.total_bytes(), memory / 10 * 9, "memory"));
    }
    Ok(())
}

fn too_large(what: &str, need: u64, limit: u64, kind: &str) -> Error {
    let mib = |b: u64| format!("{} MiB", b >> 20);
    Error::device(format!("{what} does not fit this device"))
        .expected(format!("{kind} of at most {}", mib(limit)))
        .got(mib(need))
        .hint("a smaller --batch-size, --accumulate N or --recompute needs less; `beit plan` shows how much")
}

/// Bytes of memory of this machine, where it is easily known.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}
