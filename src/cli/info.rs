//! `beit info`: adapters, limits, and which presets fit.

use crate::config::{PRESETS, preset};
use crate::device::Device;
use crate::error::Result;
use crate::ops::{Caps, ProductVariant, ShapeClass, Tier};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  beit info --json\n  beit info --adapter llvmpipe --tune    time the variants of matrix products and keep the fastest"
)]
pub struct Args {
    /// Look at this adapter instead of the default one
    #[arg(long, value_name = "NAME|cpu")]
    adapter: Option<String>,
    /// Time the variants of matrix products on the adapter and keep the fastest right ones for later runs
    #[arg(long)]
    tune: bool,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut choice = Device::choose(args.adapter.as_deref())?;
    if args.tune {
        choice.device = tuned(choice.device, args.json)?;
    }
    let caps = choice.device.caps();
    let name = choice.device.session()?.device();
    let adapters = adapter_names();
    let mut presets = Vec::new();
    for p in PRESETS {
        let config = preset(p)?;
        let (tokenizer, model) = crate::train::all_plans(&config, &caps)?;
        let bytes = tokenizer.map_or(0, |t| (model.total_bytes() + t.layout.bytes()).max(t.total_bytes()));
        let flops = model.micro.cost().flops * model.accumulate as u64;
        presets.push(json!({
            "preset": p,
            "parameters": model.layout.parameters(),
            "bytes": bytes,
            "gflop_per_update": flops as f64 / 1e9,
        }));
    }
    if args.json {
        println!(
            "{:#}",
            json!({"device": name, "adapters": adapters, "caps": caps, "presets": presets, "products": products(&caps)})
        );
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
    for p in products(&caps) {
        let text = |key: &str| p[key].as_str().unwrap_or_default().to_string();
        println!("products    {}: {} ({})", text("class"), text("variant"), text("by"));
    }
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

/// The variant of matrix products for each class of shapes and what decided; none on the CPU session.
fn products(caps: &Caps) -> Vec<serde_json::Value> {
    if caps.tier == Tier::Cpu {
        return vec![];
    }
    let product = |class: &ShapeClass| {
        let by = if caps.products[class.index()].is_some() { "timed" } else { "rule" };
        let variant = ProductVariant::choose(caps, class.example(), true).to_string();
        json!({"class": class.to_string(), "variant": variant, "by": by})
    };
    ShapeClass::ALL.iter().map(product).collect()
}

/// Times the variants, keeps the choices, and prints the times.
#[cfg(feature = "gpu")]
fn tuned(device: Device, quiet: bool) -> Result<Device> {
    use crate::gpu::tune;
    let Device::Gpu(gpu) = device else { return Ok(device) };
    let found = tune::tune(&gpu)?;
    tune::keep(&gpu, &found)?;
    for t in found.timings.iter().filter(|_| !quiet) {
        let (class, error) =
            (ShapeClass::ALL[t.class], t.error.map_or("wrong".into(), |e| format!("{e:.0e}")));
        let (m, n, k) = class.example();
        let rate = 2e-9 * (m * n * k) as f64 / t.seconds;
        println!("{class}: {:16} {:>8.2} ms {rate:>8.1} GFLOP/s, error {error}", t.variant, 1e3 * t.seconds);
    }
    Ok(Device::Gpu(gpu.with_products(found.choices)))
}

#[cfg(not(feature = "gpu"))]
fn tuned(device: Device, _: bool) -> Result<Device> {
    Ok(device)
}

#[cfg(feature = "gpu")]
fn adapter_names() -> Vec<String> {
    crate::gpu::list_adapters().into_iter().map(|a| a.name).collect()
}

#[cfg(not(feature = "gpu"))]
fn adapter_names() -> Vec<String> {
    vec![]
}
