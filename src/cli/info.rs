//! `beit info`: adapters, limits, and which presets fit.

use crate::config::{PRESETS, preset};
use crate::device::Device;
use crate::error::Result;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Example:\n  beit info --json")]
pub struct Args {
    /// Look at this adapter instead of the default one
    #[arg(long, value_name = "NAME|cpu")]
    adapter: Option<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let choice = Device::choose(args.adapter.as_deref())?;
    let caps = choice.device.caps();
    let name = choice.device.session()?.device();
    let adapters = adapter_names();
    let mut presets = Vec::new();
    for p in PRESETS {
        let config = preset(p)?;
        let (tokenizer, model) = crate::train::all_plans(&config, &caps)?;
        let bytes = (model.total_bytes() + tokenizer.layout.bytes()).max(tokenizer.total_bytes());
        let flops = model.micro.cost().flops * model.accumulate as u64;
        presets.push(json!({
            "preset": p,
            "parameters": model.layout.parameters(),
            "bytes": bytes,
            "gflop_per_update": flops as f64 / 1e9,
        }));
    }
    if args.json {
        println!("{:#}", json!({"device": name, "adapters": adapters, "caps": caps, "presets": presets}));
        return Ok(ExitCode::SUCCESS);
    }
    println!("device      {name}");
    println!("adapters    {}", if adapters.is_empty() { "none".into() } else { adapters.join("; ") });
    println!(
        "limits      storage binding {} MiB, buffer {} MiB, {} storage buffers a stage, subgroups of {}, f16 {}",
        caps.max_binding >> 20,
        caps.max_buffer >> 20,
        caps.max_storage_buffers,
        caps.subgroup_size,
        caps.f16
    );
    choice.note.iter().for_each(|n| println!("note        {n}"));
    println!("presets     (memory of training on this device, work of one update)");
    for p in presets {
        println!(
            "  {:6} {:>12} parameters {:>9.1} MiB {:>12.1} GFLOP",
            p["preset"].as_str().unwrap_or_default(),
            p["parameters"].as_u64().unwrap_or_default(),
            p["bytes"].as_f64().unwrap_or_default() / f64::from(1 << 20),
            p["gflop_per_update"].as_f64().unwrap_or_default()
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "gpu")]
fn adapter_names() -> Vec<String> {
    crate::gpu::list_adapters().into_iter().map(|a| a.name).collect()
}

#[cfg(not(feature = "gpu"))]
fn adapter_names() -> Vec<String> {
    vec![]
}
