//! Many steps of a toy network: nothing may grow.

use super::{prepare_preset, process};
use crate::config::preset;
use crate::device::Device;
use crate::error::Result;
use crate::models::DvaeConfig;
use serde_json::json;
use std::process::ExitCode;
use std::time::Instant;

/// Steps before the first look at memory: drivers fill their pools then.
const WARM: usize = 100;
/// Steps between two reads of the loss.
const READ_EVERY: usize = 10;

/// Takes `steps` steps of the smallest network that has every kernel of a training step.
pub(super) fn run(device: &Device, steps: usize, as_json: bool) -> Result<ExitCode> {
    let mut config = preset("nano")?;
    config.model.image = (8, 8);
    (config.model.width, config.model.mlp, config.model.depth, config.model.vocab) = (8, 16, 1, 16);
    let tokenizer = config.tokenizer.dvae()?.clone();
    config.tokenizer = DvaeConfig { n_hid: 4, n_init: 4, vocab: 16, ..tokenizer }.into();
    (config.training.batch, config.mask.num_mask_patches, config.mask.min_block) = (2, 2, 1);
    config.check()?;
    let mut prepared = prepare_preset(&config, device.session()?)?;
    let id = prepared.plan_id();
    let mut step = |first: usize, count: usize| -> Result<()> {
        for i in first..first + count {
            prepared.submit()?;
            if i % READ_EVERY == 0 {
                let ticket = prepared.session().fetch(id, &["loss"])?;
                prepared.session().take(ticket, true)?;
            }
        }
        prepared.session().finish()
    };
    step(0, WARM)?;
    let before = process::resident();
    let start = Instant::now();
    step(WARM, steps)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = process::resident();
    let allocated = prepared.session().allocated();
    let report = json!({
        "device": prepared.session().device(),
        "steps": steps,
        "seconds": seconds,
        "dispatches_per_step": prepared.dispatches(),
        "resident_before_bytes": before,
        "resident_after_bytes": after,
        "allocated_bytes": allocated,
        "planned_bytes": prepared.planned_bytes,
    });
    if as_json {
        println!("{report:#}");
    } else {
        let kib = |b: Option<u64>| b.map_or("unknown".into(), |b| format!("{} KiB", b / 1024));
        println!("{}", prepared.session().device());
        println!("{steps} steps in {seconds:.1} s; resident {} before, {} after", kib(before), kib(after));
        println!("allocated {allocated} bytes, planned {}", prepared.planned_bytes);
    }
    Ok(ExitCode::SUCCESS)
}
