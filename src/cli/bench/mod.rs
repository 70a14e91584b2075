//! `beit bench`: a training step or one of the fixed workloads, timed.

mod measure;
mod process;
mod soak;

use super::settings::Settings;
use crate::config::{Method, RunConfig};
use crate::device::{Choice, Device};
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::models::mim::TOKENIZER;
use crate::ops::Fusions;
use crate::session::{HostData, Session};
use crate::tasks::pretrain::MaskedInputs;
use crate::tasks::workload::{Inputs, Prepared, WORKLOADS, Workload, masked_inputs};
use measure::{About, Measurement, PRODUCT, measure, once};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit bench                                     a nano step on the default device
  beit bench --adapter llvmpipe --json           the same through the shaders
  beit bench --preset tiny --batch-size 8 --bench-steps 3
  beit bench --workload t-micro --adapter cpu    one of the workloads of docs/performance.md
  beit bench --suite --out bench.json            all of them, with the adapter and its limits, in one file
  beit bench --soak 10000 --adapter llvmpipe     many small steps: memory must stay as it is")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Part of an adapter's name, or `cpu`
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Runs to time, after two that are not counted
    #[arg(long, default_value_t = 5, value_name = "K")]
    bench_steps: usize,
    /// A fixed workload instead of a preset's step: matmul, t-micro, t-tiny, f, f-micro, d
    #[arg(long, value_name = "NAME", conflicts_with = "preset")]
    workload: Option<String>,
    /// All fixed workloads, written to one JSON file
    #[arg(long, conflicts_with_all = ["workload", "preset"])]
    suite: bool,
    /// File of --suite
    #[arg(long, value_name = "FILE", default_value = "bench.json", requires = "suite")]
    out: PathBuf,
    /// Take this many steps of a toy network and report memory before and after
    #[arg(long, value_name = "K", conflicts_with_all = ["workload", "preset", "suite"])]
    soak: Option<usize>,
    /// What is joined to matrix products: all, none, or some of gelu, relu, add, residual; left out, all on a GPU and
    /// none on a software adapter
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    fuse: Vec<String>,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.bench_steps == 0 {
        return Err(Error::config("wrong value").at("--bench-steps").expected("1 or more").got("0"));
    }
    let workloads = match &args.workload {
        Some(name) => named(name)?,
        None if args.suite => WORKLOADS.iter().flat_map(|name| Workload::by_name(name)).collect(),
        None => vec![],
    };
    let device = fusing(Device::choose(args.adapter.as_deref())?.device, &args.fuse)?;
    let precision = args.settings.recipe.precision.unwrap_or_default();
    let chosen = Choice { device, note: None }.in_precision(precision)?;
    chosen.note.iter().for_each(|note| eprintln!("{note}"));
    let device = chosen.device;
    if let Some(steps) = args.soak {
        return soak::run(&device, steps, args.json);
    }
    let mut session = device.session()?;
    let (name, caps) = (session.device(), session.caps());
    if !args.json {
        println!("{name}");
    }
    let mut all = Vec::new();
    if workloads.is_empty() {
        all.push(preset_step(args, session)?);
    } else {
        session.finish()?;
        for w in workloads {
            all.push(workload(args, &device, w)?);
        }
    }
    if !args.json {
        all.iter().for_each(Measurement::print);
    }
    let report = json!({
        "device": name,
        "limits": caps,
        "version": env!("CARGO_PKG_VERSION"),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
        "workloads": all.iter().map(Measurement::json).collect::<Vec<_>>(),
    });
    if args.suite {
        let io = |e: std::io::Error| Error::io("the report could not be written", &args.out, &e);
        std::fs::write(&args.out, format!("{report:#}\n")).map_err(io)?;
    }
    if args.json {
        println!("{report:#}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The device with these fusions instead of its own, if any are named.
fn fusing(device: Device, names: &[String]) -> Result<Device> {
    if names.is_empty() {
        return Ok(device);
    }
    let mut fusions = Fusions::NONE;
    for name in names {
        let known = fusions.switch_on(name);
        if !known {
            return Err(Error::config("no such fusion")
                .at("--fuse")
                .expected("all, none, gelu, relu, add, residual")
                .got(name.clone()));
        }
    }
    Ok(match device {
        #[cfg(feature = "gpu")]
        Device::Gpu(gpu) => Device::Gpu(gpu.with_fusions(fusions)),
        other => other,
    })
}

fn named(name: &str) -> Result<Vec<Workload>> {
    let found = Workload::by_name(name);
    if found.is_empty() {
        return Err(Error::config("no such workload")
            .at("--workload")
            .expected(WORKLOADS.join(", "))
            .got(name));
    }
    Ok(found)
}

/// The product that runs between the runs of a workload, already warm.
fn product(device: &Device) -> Result<Prepared> {
    let mut product = PRODUCT.prepare(device.session()?)?;
    once(&mut product)?;
    Ok(product)
}

fn workload(args: &Args, device: &Device, w: Workload) -> Result<Measurement> {
    let about = About { name: w.label(), images: w.images(), flops: w.flops() };
    let is_product = matches!(w, Workload::Matmul { .. });
    let between = || if is_product { Ok(None) } else { product(device).map(Some) };
    measure(about, args.bench_steps, between, || w.prepare(device.session()?))
}

/// A step of a preset with its tokenizer.
fn preset_step(args: &Args, session: Box<dyn Session>) -> Result<Measurement> {
    let mut config = args.settings.merged()?;
    if args.settings.recipe.batch_size.is_some() && args.settings.recipe.accumulate.is_none() {
        config.training.accumulate = 1;
    }
    if config.method != Method::Beit {
        return Err(Error::config("bench times the step of BEiT")
            .at("--method")
            .got(config.method.name())
            .hint("`beit plan --method` says what a step of another method does"));
    }
    let (_, plans) = crate::train::all_plans(&config, &session.caps())?;
    let about = About {
        name: format!("step of preset {}", config.preset),
        images: config.training.micro_batch(),
        flops: plans.micro.cost().flops,
    };
    measure(about, args.bench_steps, || Ok(None), || prepare_preset(&config, session))
}

fn prepare_preset(config: &RunConfig, mut session: Box<dyn Session>) -> Result<Prepared> {
    let caps = session.caps();
    let (_, plans) = crate::train::all_plans(config, &caps)?;
    let frozen = crate::train::Tokenizer::layout(&config.tokenizer, crate::train::page_bytes(&caps))?;
    session.add_store(&frozen, &[PageKind::Param])?;
    for (p, page) in frozen.initial(config.seed).iter().enumerate() {
        session.write_page(TOKENIZER, PageKind::Param, p, page)?;
    }
    let mut prepared = Prepared::step(session, plans, config.training.hyper(1), config.seed, inputs(config))?;
    prepared.planned_bytes += frozen.bytes();
    Ok(prepared)
}

/// Random pictures and a mask of the usual size.
fn inputs(config: &RunConfig) -> Inputs {
    use crate::rng::{Key, Stream};
    let images = config.training.micro_batch();
    let key = Key::new(config.seed, Stream::Test, 0);
    let pixels = |n: usize| (0..n as u32).map(|i| 0.1 + 0.8 * key.uniform(i)).collect::<Vec<f32>>();
    let (image, view) = (config.model.image, config.token_side());
    let mask: Vec<bool> =
        (0..images as u32).flat_map(|i| crate::data::generate(&config.mask_spec(), key.child(i))).collect();
    let count = mask.iter().filter(|&&m| m).count();
    let slots = images * config.mask_slots();
    let mut all = masked_inputs(MaskedInputs::new(&mask, config.model.patches(), slots, count));
    all.push(("image", HostData::F32(pixels(images * image.0 * image.1 * 3))));
    all.push(("token_view", HostData::F32(pixels(images * view.0 * view.1 * 3))));
    all.push(("drop_key", HostData::U32(key.0.to_vec())));
    all
}
