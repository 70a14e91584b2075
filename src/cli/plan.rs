//! `beit plan`: what one training step will do, before doing it.

use super::settings::Settings;
use crate::config::to_toml;
use crate::device::Device;
use crate::error::Result;
use crate::ops::{Caps, Precision, Tier};
use crate::plan::Plan;
use crate::train::StepPlans;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit plan --preset base                     memory and work of a step
  beit plan --preset base --recompute --json  the same as JSON
  beit plan --preset small --method dino      the same of another method
  beit plan --steps-of                        every op of the nano step")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Plan for this adapter, or for `webgpu`: any GPU at WebGPU's guaranteed limits [default: webgpu]
    #[arg(long, value_name = "NAME|cpu|webgpu")]
    adapter: Option<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
    /// List every step with its buffers
    #[arg(long)]
    steps_of: bool,
    /// Write the plans' text to a file
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let config = args.settings.merged()?;
    let caps = match args.adapter.as_deref() {
        None | Some("webgpu") => Caps::guaranteed(Tier::Hardware),
        name => Device::choose(name)?.device.caps(),
    };
    let half = config.training.precision == Precision::F16 && caps.tier != Tier::Cpu;
    let caps = Caps { half, ..caps };
    let (tokenizer, model) = crate::train::method_plans(&config, &caps)?;
    let frozen = tokenizer.as_ref().map_or(0, |t| t.layout.bytes());
    let all: Vec<&Plan> = tokenizer.iter().chain([&model]).flat_map(|p| [&p.micro, &p.update]).collect();
    if args.json {
        let mut out = json!({
            "preset": config.preset,
            "parameters": {"model": model.layout.parameters()},
            "bytes": {"pretraining": model.total_bytes() + frozen},
            "plans": all.iter().map(|p| p.summary()).collect::<Vec<_>>(),
        });
        if let Some(t) = &tokenizer {
            out["parameters"]["tokenizer"] = t.layout.parameters().into();
            out["bytes"]["tokenizer_training"] = t.total_bytes().into();
        }
        println!("{out:#}");
    } else {
        println!("{}", to_toml(&config)?);
        if let Some(t) = &tokenizer {
            show("tokenizer training", t, config.tokenizer_training.batch, 0);
        }
        let title = format!("pre-training ({})", config.method.name());
        show(&title, &model, config.training.micro_batch(), frozen);
        if args.steps_of {
            tokenizer.iter().chain([&model]).for_each(|p| println!("{}", p.micro));
        }
    }
    if let Some(path) = &args.write {
        let text: String = all.iter().map(|p| format!("{p}\n")).collect();
        std::fs::write(path, text).map_err(|e| crate::Error::io("cannot write", path, &e))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn show(title: &str, plans: &StepPlans, images: usize, frozen: u64) {
    let (m, s) = (plans.micro.memory(), plans.micro.summary());
    println!("{title}: {} parameters, {images} images in a micro-batch", plans.layout.parameters());
    println!(
        "  {:>10.2} GFLOP a micro-batch, {} ops, {} dispatches",
        s.flops as f64 / 1e9,
        s.steps,
        s.dispatches
    );
    println!(
        "  {:>10.1} MiB transients in {} buffers ({:.1} without reuse, {:.1} alive at once, {:.2} an image)",
        mib(m.slots),
        s.slots,
        mib(m.without_reuse),
        mib(m.peak_live),
        mib(m.slots) / images as f64
    );
    println!("  {:>10.1} MiB parameters, gradients, moments, averages", mib(plans.page_bytes()));
    if frozen > 0 {
        println!("  {:>10.1} MiB frozen tokenizer", mib(frozen));
    }
    println!("  {:>10.1} MiB in all\n", mib(plans.total_bytes() + frozen));
    top_ops(&plans.micro);
}

/// The ops that take most of the work.
fn top_ops(plan: &Plan) {
    let summary = plan.summary();
    let mut ops: Vec<_> = summary.ops.iter().collect();
    ops.sort_by_key(|(_, (_, flops, _))| std::cmp::Reverse(*flops));
    for (name, (count, flops, bytes)) in ops.into_iter().take(8) {
        println!(
            "    {name:24} x{count:<4} {:>10.3} GFLOP {:>10.1} MB moved",
            *flops as f64 / 1e9,
            *bytes as f64 / 1e6
        );
    }
    println!();
}
