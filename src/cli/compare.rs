//! `beit compare`: the report's tables on the user's own data.

use super::launch::{stop_on_signals, workers};
use super::progress::Progress;
use crate::compare::{Cell, CompareConfig, Comparison, Route, Table, Task, check_data};
use crate::config::preset;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io::atomic;
use crate::models::DvaeNetwork;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

const EXAMPLES: &str = "Examples:
  beit compare                                                  built-in scenes, six methods, four tasks
  beit compare --seeds 3                                        with spread; finished cells are kept
  beit compare --budget 0.1 --out runs/quick                    a tenth of all updates
  beit compare --methods scratch,beit --tasks classify,linear   some of the cells
  beit compare --methods all                                    and masked patch colour, pixels
  beit compare --data photos --labels-per-class 10 --out runs/photos   your own pictures: a folder per class
  beit compare --data photos --segment-data scans --segment-labels maps --out runs/both

The same command goes on where a comparison was stopped or killed, in the middle of a cell.";

/// Built-in scenes: enough for pre-training, few of them labelled.
const SCENES: &str = "synthetic:3000:32";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Folder of the comparison: runs, results, table.md, table.json, table.html
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    out: PathBuf,
    /// Labelled pictures: a folder with a folder per class, tar shards, CIFAR files, `synthetic`
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic", default_value = SCENES)]
    data: String,
    /// Held-out pictures [default: the part that the data names, or a tenth]
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    val: String,
    /// Pictures with label maps, for segmentation [default: the built-in scenes, if they are the data]
    #[arg(long, value_name = "DIR|synthetic")]
    segment_data: Option<String>,
    /// Their label maps, if not in a folder beside them
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    segment_labels: String,
    /// Preset of the network and of all recipes: nano, micro, tiny, small, base, large
    #[arg(long, value_name = "NAME", default_value = "nano")]
    preset: String,
    /// Methods: scratch, supervised, dino, moco-v3, masked-patch-colour, pixels, beit, beit-intermediate, or all
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "scratch,supervised,dino,moco-v3,beit,beit-intermediate"
    )]
    methods: Vec<String>,
    /// Tasks: classify, segment, linear, knn, or all [default: all that the data allow]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Number of seeds: repeats everything and gives the spread
    #[arg(long, value_name = "N", default_value_t = 1)]
    seeds: u64,
    /// First seed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Training pictures of each class whose label the tasks see; 0 = all
    #[arg(long, value_name = "N", default_value_t = 100)]
    labels_per_class: usize,
    /// Training pictures whose label map segmentation sees; 0 = all
    #[arg(long, value_name = "N", default_value_t = 300)]
    maps: usize,
    /// Multiplies all numbers of updates below
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    budget: f64,
    /// Updates of pre-training
    #[arg(long, value_name = "N", default_value_t = 500)]
    steps: u64,
    /// Network of BEiT's tokenizer: openai or custom [default: custom for nano, openai for the other presets]
    #[arg(long, value_name = "NAME", value_parser = network)]
    network: Option<DvaeNetwork>,
    /// Updates of BEiT's tokenizer
    #[arg(long, value_name = "N", default_value_t = 1600)]
    tokenizer_steps: u64,
    /// Updates on all labels between BEiT's pre-training and the tasks
    #[arg(long, value_name = "N", default_value_t = 250)]
    intermediate_steps: u64,
    /// Updates of fine-tuning for classification
    #[arg(long, value_name = "N", default_value_t = 300)]
    finetune_steps: u64,
    /// Updates of fine-tuning for segmentation
    #[arg(long, value_name = "N", default_value_t = 500)]
    segment_steps: u64,
    /// Do not mirror pictures (digits, text)
    #[arg(long)]
    no_flip: bool,
    /// Threads that prepare batches (they do not change results)
    #[arg(long, visible_alias = "num-workers", value_name = "N")]
    workers: Option<usize>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Show warnings and results only
    #[arg(long, short)]
    quiet: bool,
}

fn network(name: &str) -> std::result::Result<DvaeNetwork, String> {
    serde_json::from_value(name.into()).map_err(|_| "expected openai or custom".to_owned())
}

/// File that says what a folder compares.
const CONFIG: &str = "compare.json";

/// Some of a list by their names, in the order of the list; `all` is all of it.
fn chosen<T: Copy>(all: &[T], name: fn(T) -> &'static str, flag: &str, given: &[String]) -> Result<Vec<T>> {
    if given.iter().any(|g| g == "all") {
        return Ok(all.to_vec());
    }
    let known: Vec<&str> = all.iter().map(|&t| name(t)).collect();
    if let Some(unknown) = given.iter().find(|g| !known.contains(&g.as_str())) {
        let e =
            Error::config("no such name").at(flag).expected(format!("all, or some of {}", known.join(", ")));
        return Err(e.got(unknown.clone()));
    }
    Ok(all.iter().copied().filter(|&t| given.iter().any(|g| g == name(t))).collect())
}

impl Args {
    fn config(&self) -> Result<CompareConfig> {
        if !(self.budget > 0.0 && self.budget.is_finite()) {
            let e = Error::config("wrong value").at("--budget").expected("a number above 0");
            return Err(e.got(self.budget.to_string()));
        }
        let scaled =
            |steps: u64| if steps == 0 { 0 } else { ((steps as f64 * self.budget).round() as u64).max(1) };
        let synthetic = self.data.starts_with("synthetic");
        let segment_data = self.segment_data.clone().or_else(|| synthetic.then(|| self.data.clone()));
        let tasks = match (self.tasks.is_empty(), &segment_data) {
            (true, None) => vec![Task::Classify, Task::Linear, Task::Knn],
            (true, Some(_)) => Task::ALL.to_vec(),
            (false, _) => chosen(&Task::ALL, Task::name, "--tasks", &self.tasks)?,
        };
        if tasks.contains(&Task::Segment) && segment_data.is_none() {
            return Err(Error::config("segmentation needs pictures with label maps")
                .at("--tasks segment")
                .hint("name them with --segment-data (and --segment-labels)"));
        }
        let config = CompareConfig {
            preset: self.preset.clone(),
            data: self.data.clone(),
            val: self.val.clone(),
            segment_data: segment_data.unwrap_or_default(),
            segment_labels: self.segment_labels.clone(),
            methods: chosen(&Route::ALL, Route::name, "--methods", &self.methods)?,
            tasks,
            seed: self.seed,
            seeds: self.seeds,
            labels_per_class: self.labels_per_class,
            maps: self.maps,
            network: match self.network {
                Some(network) => network,
                None => preset(&self.preset)?.tokenizer.dvae()?.network,
            },
            tokenizer_steps: scaled(self.tokenizer_steps),
            steps: scaled(self.steps),
            intermediate_steps: scaled(self.intermediate_steps),
            finetune_steps: scaled(self.finetune_steps),
            segment_steps: scaled(self.segment_steps),
            flip: !self.no_flip,
        };
        config.check()?;
        Ok(config)
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let config = args.config()?;
    check_data(&config)?;
    let choice = Device::choose(args.adapter.as_deref())?;
    keep(&args.out, &config)?;
    if !args.quiet {
        eprintln!("comparison in {}", args.out.display());
        choice.note.iter().for_each(|note| eprintln!("{note}"));
    }
    let stop = stop_on_signals();
    let (mut progress, quiet, mut last) = (Progress::new(args.quiet), args.quiet, String::new());
    let mut observer = |cell: &str, event: &crate::train::events::Event| {
        if !quiet && cell != last {
            eprintln!("== {cell}");
            last = cell.to_string();
        }
        progress.show(event);
    };
    let sessions = || choice.device.session();
    let mut comparison = Comparison {
        config: config.clone(),
        dir: args.out.clone(),
        sessions: &sessions,
        caps: choice.device.caps(),
        observer: &mut observer,
        workers: args.workers.unwrap_or_else(workers),
        stop: stop.clone(),
    };
    let cells = comparison.run(&mut |_| Ok(()))?;
    let Some(cells) = cells else {
        eprintln!("stopped; the same command goes on with it");
        return Ok(ExitCode::from(if stop.load(Ordering::Relaxed) { 130 } else { 0 }));
    };
    let mean = |v: Vec<f64>| v.iter().sum::<f64>() / v.len().max(1) as f64;
    let seconds: Vec<f64> =
        config.methods.iter().map(|&m| Ok(mean(comparison.seconds(m)?))).collect::<Result<_>>()?;
    write(&args.out, config, cells, &seconds, &choice.device.describe())?;
    Ok(ExitCode::SUCCESS)
}

fn write(out: &Path, config: CompareConfig, cells: Vec<Cell>, seconds: &[f64], device: &str) -> Result<()> {
    let table = Table::new(config, cells, seconds, device);
    // plain numbers and strings always serialise
    let json = serde_json::to_vec_pretty(&table).unwrap_or_default();
    atomic::write_file(&out.join("table.md"), table.markdown().as_bytes())?;
    atomic::write_file(&out.join("table.json"), &json)?;
    atomic::write_file(&out.join("table.html"), table.html().as_bytes())?;
    println!("{}", table.markdown());
    println!("table: {}", out.join("table.html").display());
    Ok(())
}

/// Writes what the folder compares; refuses a folder that compares something else. More seeds, methods or tasks are
/// fine.
fn keep(out: &Path, config: &CompareConfig) -> Result<()> {
    let file = out.join(CONFIG);
    if let Ok(bytes) = std::fs::read(&file) {
        let before: CompareConfig = serde_json::from_slice(&bytes)
            .map_err(|e| Error::data("not a comparison").at(file.display().to_string()).got(e.to_string()))?;
        if !config.compatible(&before) {
            return Err(Error::config("the folder holds a comparison with other settings")
                .at(out.display().to_string())
                .hint("choose another --out, or the same flags as before"));
        }
    }
    std::fs::create_dir_all(out).map_err(|e| Error::io("cannot create", out, &e))?;
    atomic::write_file(&file, &serde_json::to_vec_pretty(config).unwrap_or_default())
}
