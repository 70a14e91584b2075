//! `beit bench`: a training step, timed.

use super::settings::Settings;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::models::mim::TOKENIZER;
use crate::ops::Hyper;
use crate::plan::Plan;
use crate::session::Data;
use crate::tasks::pretrain::MaskedInputs;
use crate::train::{State, Stepper};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit bench                                a nano step on the default device
  beit bench --adapter llvmpipe --json      the same through the shaders
  beit bench --preset tiny --batch-size 8 --bench-steps 3")]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Part of an adapter's name, or `cpu`
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Updates to time, after one that is not counted
    #[arg(long, default_value_t = 5, value_name = "K")]
    bench_steps: usize,
    /// Machine-readable
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.bench_steps == 0 {
        return Err(Error::config("wrong value").at("--bench-steps").expected("1 or more").got("0"));
    }
    let mut config = args.settings.merged()?;
    if args.settings.batch_size.is_some() && args.settings.accumulate.is_none() {
        config.training.accumulate = 1;
    }
    let choice = Device::choose(args.adapter.as_deref())?;
    let started = Instant::now();
    let mut session = choice.device.session()?;
    let caps = session.caps();
    let (_, plans) = crate::train::all_plans(&config, &caps)?;
    let frozen = crate::train::Tokenizer::layout(&config.tokenizer, crate::train::page_bytes(&caps))?;
    session.add_store(&frozen, &[PageKind::Param])?;
    for (p, page) in frozen.initial(config.seed).iter().enumerate() {
        session.write_page(TOKENIZER, PageKind::Param, p, page)?;
    }
    let flops = plans.micro.cost().flops;
    let state = State::initial(&plans.layout, &plans.kinds, config.seed);
    let (steps, dispatches) = (plans.micro.steps.len(), plans.micro.summary().dispatches);
    let micro = plans.micro.clone();
    let mut stepper = Stepper::new(session, plans)?;
    stepper.restore(&state)?;
    write_inputs(&mut stepper, &config)?;
    let hyper = config.training.hyper(1);
    one(&mut stepper, &hyper)?;
    let first_step = started.elapsed().as_secs_f64();
    let mut times = Vec::new();
    let mut host = Vec::new();
    for _ in 0..args.bench_steps {
        let start = Instant::now();
        stepper.run_micro()?;
        stepper.run_update(&hyper)?;
        host.push(start.elapsed().as_secs_f64());
        stepper.session.finish()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    host.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let images = config.training.micro_batch();
    let plan = stepper.micro();
    let kernels = stepper.session.profile(plan)?.map(|seconds| shares(&micro, &seconds)).unwrap_or_default();
    let report = json!({
        "preset": config.preset,
        "device": stepper.session.device(),
        "images": images,
        "gflop": flops as f64 / 1e9,
        "ops": steps,
        "dispatches": dispatches,
        "seconds_to_first_step": first_step,
        "seconds_per_step": {"min": times[0], "median": median, "max": times[times.len() - 1]},
        "host_seconds_per_step": host[host.len() / 2],
        "images_per_second": images as f64 / median,
        "gflops": flops as f64 / 1e9 / median,
        "allocated_bytes": stepper.session.allocated(),
        "kernels": kernels.iter().map(|k| json!({
            "op": k.op, "count": k.count, "seconds": k.seconds, "share": k.share, "gflops": k.gflops, "gbytes_per_second": k.gbs,
        })).collect::<Vec<_>>(),
    });
    if args.json {
        println!("{report:#}");
    } else {
        println!("{}", stepper.session.device());
        println!(
            "{} step of {images} images: median {median:.3} s ({:.3} to {:.3}), {:.1} images/s, {:.1} GFLOP/s",
            config.preset,
            times[0],
            times[times.len() - 1],
            images as f64 / median,
            flops as f64 / 1e9 / median
        );
        println!(
            "{:.2} GFLOP in {steps} ops, {dispatches} dispatches; first step after {first_step:.2} s; {:.1} MiB allocated",
            flops as f64 / 1e9,
            stepper.session.allocated() as f64 / f64::from(1 << 20)
        );
        for k in kernels.iter().take(14) {
            println!(
                "  {:24} x{:<4} {:>5.1} % {:>9.2} ms {:>8.1} GFLOP/s {:>7.1} GB/s",
                k.op,
                k.count,
                100.0 * k.share,
                1e3 * k.seconds,
                k.gflops,
                k.gbs
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Time of all applications of one op in a step.
struct Share {
    op: &'static str,
    count: usize,
    seconds: f64,
    share: f64,
    gflops: f64,
    gbs: f64,
}

/// Sums the times of steps by op, largest first.
fn shares(plan: &Plan, seconds: &[f64]) -> Vec<Share> {
    let mut by_op: BTreeMap<&'static str, (usize, f64, u64, u64)> = BTreeMap::new();
    for (step, s) in plan.steps.iter().zip(seconds) {
        let e = by_op.entry(step.op.name()).or_default();
        *e = (e.0 + 1, e.1 + s, e.2 + step.cost.flops, e.3 + step.cost.bytes);
    }
    let total: f64 = seconds.iter().sum();
    let mut all: Vec<Share> = by_op
        .into_iter()
        .map(|(op, (count, s, flops, bytes))| Share {
            op,
            count,
            seconds: s,
            share: s / total,
            gflops: flops as f64 / s / 1e9,
            gbs: bytes as f64 / s / 1e9,
        })
        .collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}

fn one(stepper: &mut Stepper, hyper: &Hyper) -> Result<()> {
    stepper.run_micro()?;
    stepper.run_update(hyper)?;
    stepper.session.finish()
}

/// Random pictures and a mask of the usual size.
fn write_inputs(stepper: &mut Stepper, config: &crate::config::RunConfig) -> Result<()> {
    use crate::rng::{Key, Stream};
    let images = config.training.micro_batch();
    let key = Key::new(config.seed, Stream::Test, 0);
    let pixels = |n: usize| (0..n as u32).map(|i| 0.1 + 0.8 * key.uniform(i)).collect::<Vec<f32>>();
    let (image, view) = (config.model.image, config.token_side());
    stepper.write("image", Data::F32(&pixels(images * image.0 * image.1 * 3)))?;
    stepper.write("token_view", Data::F32(&pixels(images * view.0 * view.1 * 3)))?;
    let mask: Vec<bool> =
        (0..images as u32).flat_map(|i| crate::data::generate(&config.mask_spec(), key.child(i))).collect();
    let count = mask.iter().filter(|&&m| m).count();
    let masked = MaskedInputs::new(&mask, config.model.patches(), images * config.mask_slots(), count);
    let plan = stepper.micro();
    masked.write(stepper.session.as_mut(), plan)?;
    if config.model.drop_path > 0.0 {
        stepper.write("drop_key", Data::U32(&key.0))?;
    }
    Ok(())
}
