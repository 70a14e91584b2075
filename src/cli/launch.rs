//! What all commands that train share: the flags around a run, its folder, resuming, signals, the last words.

use super::progress::Progress;
use crate::config::{TaskConfig, from_toml, to_toml};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::ops::Caps;
use crate::runs::{RunFolder, RunState, newest_unfinished};
use crate::train::{Job, Outcome, Pictures, Run, RunOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Folder of runs without `--out`.
const BASE: &str = "runs";

/// Flags around a run; they do not change what is learned.
#[derive(clap::Args, Debug, Clone)]
pub struct RunFlags {
    /// Run folder [default: a fresh one under runs/]
    #[arg(long, visible_alias = "output-dir", value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on with the run in --out, or with the newest unfinished one under runs/
    #[arg(long, visible_alias = "auto-resume")]
    pub resume: bool,
    /// Stop in an orderly way after N updates of this start, as Ctrl-C would
    #[arg(long, value_name = "N")]
    pub stop_after: Option<u64>,
    /// Threads that prepare batches (they do not change results) [default: 1 on two cores, up to 4]
    #[arg(long, visible_alias = "num-workers", value_name = "N")]
    pub workers: Option<usize>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Print the merged config and stop
    #[arg(long)]
    pub print_config: bool,
    /// Show warnings and results only
    #[arg(long, short)]
    pub quiet: bool,
}

/// A command that trains.
pub trait Command {
    /// Config of its runs.
    type Config: TaskConfig;
    /// How a person calls it, such as `pretrain`.
    const CALL: &'static str;
    /// The config as preset, file and flags give it.
    ///
    /// # Errors
    /// If a file cannot be read or a value cannot work.
    fn merged(&self) -> Result<Self::Config>;
    /// Whether a flag was given that changes training.
    fn given(&self) -> bool;
    /// `--save-every`, which may change when a run is resumed.
    fn save_every(&self) -> Option<u64>;
    /// Opens the pictures that a config names.
    ///
    /// # Errors
    /// If there are none that the command can use.
    fn pictures(&self, config: &Self::Config) -> Result<Pictures> {
        Pictures::open(&config.data_choice())
    }
    /// The job, after everything was checked that can be checked without training; `fresh` unless resumed.
    ///
    /// # Errors
    /// If data, device and config do not fit together.
    fn job(&self, config: Self::Config, pictures: Pictures, caps: &Caps, fresh: bool)
    -> Result<Box<dyn Job>>;
    /// Says what a finished run found.
    ///
    /// # Errors
    /// If files of the run cannot be read.
    fn print_result(&self, dir: &Path) -> Result<()>;
}

/// Starts or resumes the run of a command.
///
/// # Errors
/// If anything does not fit, before a run folder is made; or if training fails.
pub fn launch<C: Command>(command: &C, flags: &RunFlags) -> Result<ExitCode> {
    if flags.print_config {
        print!("{}", to_toml(&command.merged()?)?);
        return Ok(ExitCode::SUCCESS);
    }
    if flags.stop_after == Some(0) {
        return Err(Error::config("wrong value").at("--stop-after").expected("1 or more").got("0"));
    }
    let stop = stop_on_signals();
    let (folder, config) = match flags.resume {
        true => reopen(command, flags).map(|(folder, config)| (Some(folder), config))?,
        false => (None, command.merged()?),
    };
    let mut choice = Device::choose(flags.adapter.as_deref())?.in_precision(config.precision())?;
    if let Some(kept) = folder.as_ref().map(RunFolder::read_kernels).transpose()?.flatten() {
        choice.device = choice.device.with_kernel_choices(&kept);
    }
    let pictures = command.pictures(&config)?;
    let job = command.job(config, pictures, &choice.device.caps(), folder.is_none())?;
    let folder = match folder {
        Some(folder) => folder,
        None => create(flags, C::Config::TASK, job.as_ref(), &choice.device)?,
    };
    if !flags.quiet {
        eprintln!("run folder {}", folder.dir().display());
        choice.note.iter().for_each(|note| eprintln!("{note}"));
    }
    let dir = folder.dir().to_path_buf();
    match work(flags, folder, job, &choice.device, stop.clone())? {
        Outcome::Finished => {
            command.print_result(&dir)?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Stopped => {
            eprintln!("stopped; go on with: beit {} --resume --out {}", C::CALL, dir.display());
            // 130 is what a shell expects after Ctrl-C
            Ok(ExitCode::from(if stop.load(Ordering::Relaxed) { 130 } else { 0 }))
        }
    }
}

fn work(
    flags: &RunFlags,
    folder: RunFolder,
    mut job: Box<dyn Job>,
    device: &Device,
    stop: Arc<AtomicBool>,
) -> Result<Outcome> {
    let options =
        RunOptions { workers: flags.workers.unwrap_or_else(workers), stop_after: flags.stop_after, stop };
    let mut progress = Progress::new(flags.quiet);
    let mut make_session = || device.session();
    let mut observer = |event: &crate::train::events::Event| progress.show(event);
    let schedule = job.schedule().clone();
    Run::new(folder, schedule, &options, &mut make_session, &mut observer).work(job.as_mut())
}

/// Threads that prepare batches unless a flag says otherwise.
pub fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 4)
}

/// The run folder and config of a run to go on with.
fn reopen<C: Command>(command: &C, flags: &RunFlags) -> Result<(RunFolder, C::Config)> {
    if command.given() {
        return Err(Error::config("flags that change training cannot be combined with --resume")
            .at("--resume")
            .hint(
                "a run goes on as it was started; start a new run, with --tokenizer to reuse its tokenizer",
            ));
    }
    let dir = match &flags.out {
        Some(dir) => dir.clone(),
        None => newest_unfinished(Path::new(BASE), C::Config::TASK)?.ok_or_else(|| {
            Error::config("no unfinished run to resume")
                .at(BASE)
                .hint("name one with --out, or start without --resume")
        })?,
    };
    let folder = RunFolder::open(&dir)?;
    if folder.task() != C::Config::TASK {
        return Err(Error::config("a run of another command")
            .at(dir.display().to_string())
            .expected(format!("a run of {}", C::Config::TASK))
            .got(format!("a run of {}", folder.task())));
    }
    let file = dir.join(crate::runs::CONFIG).display().to_string();
    let mut config: C::Config = from_toml(&folder.read_config()?, &file)?;
    if let Some(n) = command.save_every() {
        config.schedule_mut().save_every = n;
    }
    config.check()?;
    if folder.status()?.is_some_and(|s| s.state == RunState::Finished) {
        return Err(Error::config("the run is finished")
            .at(dir.display().to_string())
            .hint("start a new run"));
    }
    Ok((folder, config))
}

fn create(flags: &RunFlags, task: &str, job: &dyn Job, device: &Device) -> Result<RunFolder> {
    let folder = match &flags.out {
        Some(dir) => RunFolder::create(dir, task)?,
        None => RunFolder::new_default(Path::new(BASE), task)?,
    };
    folder.write_config(&job.config()?)?;
    device.kernel_choices().map_or(Ok(()), |choices| folder.write_kernels(&choices))?;
    folder.write_status(RunState::Running, task, 0)?;
    Ok(folder)
}

/// A flag that the first interrupt sets; the second one ends the process at once.
pub fn stop_on_signals() -> Arc<AtomicBool> {
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
