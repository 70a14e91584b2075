//! `beit pretrain`: the main job.

use super::progress::Progress;
use super::settings::Settings;
use crate::config::{RunConfig, from_toml, to_toml};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::runs::{RunFolder, RunState, newest_unfinished};
use crate::train::{Outcome, Pictures, Run, RunOptions, Tokenizer, check_memory, page_bytes};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Folder of runs without `--out`.
const BASE: &str = "runs";

const EXAMPLES: &str = "Examples:
  beit pretrain                                     built-in pictures, preset nano
  beit pretrain --data photos --out runs/photos     your own pictures
  beit pretrain --data digits --no-flip --jitter 0  pictures that must not be mirrored
  beit pretrain --tokenizer runs/pretrain-0001      reuse a tokenizer
  beit pretrain --resume                            go on with the newest unfinished run
  beit pretrain --adapter llvmpipe                  run the shaders on a software driver";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// Reuse a trained tokenizer: a run folder, a checkpoint folder or a tokenizer.safetensors
    #[arg(long, value_name = "RUN_OR_FILE")]
    tokenizer: Option<PathBuf>,
    /// Run folder [default: a fresh one under runs/]
    #[arg(long, visible_alias = "output-dir", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in --out, or with the newest unfinished one under runs/
    #[arg(long, visible_alias = "auto-resume")]
    resume: bool,
    /// Stop in an orderly way after N updates of this start, as Ctrl-C would
    #[arg(long, value_name = "N")]
    stop_after: Option<u64>,
    /// Threads that prepare batches (they do not change results) [default: 1 on two cores, up to 4]
    #[arg(long, visible_alias = "num-workers", value_name = "N")]
    workers: Option<usize>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Print the merged config and stop
    #[arg(long)]
    print_config: bool,
    /// Show warnings and results only
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    if args.print_config {
        print!("{}", to_toml(&args.settings.merged()?)?);
        return Ok(ExitCode::SUCCESS);
    }
    if args.stop_after == Some(0) {
        return Err(Error::config("wrong value").at("--stop-after").expected("1 or more").got("0"));
    }
    let stop = stop_on_signals();
    let (folder, mut config) = if args.resume { reopen(&args)? } else { (None, args.settings.merged()?) };
    let choice = Device::choose(args.adapter.as_deref())?;
    let pictures = Pictures::open(&config)?;
    if !args.resume {
        args.settings.apply_epochs(&mut config, pictures.train.len())?;
    }
    let caps = choice.device.caps();
    if let Some(path) = &args.tokenizer {
        config.tokenizer = Tokenizer::open(path, page_bytes(&caps))?.config;
        config.check()?;
    }
    check_memory(&config, &caps)?;
    let folder = match folder {
        Some(folder) => folder,
        None => create(&args, &config)?,
    };
    let mut progress = Progress::new(args.quiet);
    if !args.quiet {
        eprintln!("run folder {}", folder.dir().display());
        choice.note.iter().for_each(|note| eprintln!("{note}"));
    }
    train(&args, folder, config, pictures, choice.device, stop, &mut progress)
}

fn train(
    args: &Args,
    folder: RunFolder,
    config: RunConfig,
    pictures: Pictures,
    device: Device,
    stop: Arc<AtomicBool>,
    progress: &mut Progress,
) -> Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.unwrap_or((cores / 2).clamp(1, 4));
    let options = RunOptions {
        tokenizer: args.tokenizer.as_deref(),
        workers,
        stop_after: args.stop_after,
        stop: stop.clone(),
    };
    let dir = folder.dir().to_path_buf();
    let mut make_session = || device.session();
    let mut observer = |event: &crate::train::events::Event| progress.show(event);
    let outcome =
        Run::new(folder, config, pictures, &options, &mut make_session, &mut observer).train(&options)?;
    match outcome {
        Outcome::Finished => {
            super::runs::print_result(&dir)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => {
            eprintln!("stopped; go on with: beit pretrain --resume --out {}", dir.display());
            // 130 is what a shell expects after Ctrl-C
            Ok(ExitCode::from(if stop.load(Ordering::Relaxed) { 130 } else { 0 }))
        }
    }
}

/// The run folder and config of a run to go on with.
fn reopen(args: &Args) -> Result<(Option<RunFolder>, RunConfig)> {
    if args.settings.given() {
        return Err(Error::config("flags that change training cannot be combined with --resume")
            .at("--resume")
            .hint(
                "a run goes on as it was started; start a new run, with --tokenizer to reuse its tokenizer",
            ));
    }
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None => newest_unfinished(Path::new(BASE))?.ok_or_else(|| {
            Error::config("no unfinished run to resume")
                .at(BASE)
                .hint("name one with --out, or start without --resume")
        })?,
    };
    let folder = RunFolder::open(&dir)?;
    let file = dir.join(crate::runs::CONFIG).display().to_string();
    let mut config = from_toml(&folder.read_config()?, &file)?;
    if let Some(n) = args.settings.save_every {
        config.schedule.save_every = n;
    }
    config.check()?;
    if folder.status()?.is_some_and(|s| s.state == RunState::Finished) {
        return Err(Error::config("the run is finished")
            .at(dir.display().to_string())
            .hint("start a new run"));
    }
    Ok((Some(folder), config))
}

fn create(args: &Args, config: &RunConfig) -> Result<RunFolder> {
    let folder = match &args.out {
        Some(dir) => RunFolder::create(dir)?,
        None => RunFolder::new_default(Path::new(BASE), "pretrain")?,
    };
    folder.write_config(&to_toml(config)?)?;
    folder.write_status(RunState::Running, "tokenizer", 0)?;
    Ok(folder)
}

/// A flag that the first interrupt sets; the second one ends the process at once.
fn stop_on_signals() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // Without a handler an interrupt just ends the process, which loses only what follows the last checkpoint.
    let _ = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nfinishing this update and saving; interrupt again to stop at once");
    });
    stop
}
