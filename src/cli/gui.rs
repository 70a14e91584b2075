//! `beit gui`: starts the desktop window, a program of its own that lies beside this one.

use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const EXAMPLES: &str = "Examples:
  beit gui                              the built-in model
  beit gui runs/pretrain-0001           a run's newest checkpoint
  beit gui runs/pretrain-0001 cat.png   and a picture to look at

The window is the program beit-egui; it comes from the same repository:
  cargo build --release -p beit-egui    puts it beside beit
  cargo run --release -p beit-egui      builds and starts it";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A run folder, a checkpoint folder or a weights file [default: the built-in model]
    #[arg(value_name = "RUN")]
    model: Option<PathBuf>,
    /// A picture to look at [default: a built-in scene]
    #[arg(value_name = "PICTURE")]
    picture: Option<PathBuf>,
}

/// Runs the command: waits for the window and gives its exit status.
pub fn run(args: &Args) -> Result<ExitCode> {
    for path in args.model.iter().chain(&args.picture) {
        std::fs::metadata(path).map_err(|e| Error::io("cannot open", path, &e))?;
    }
    let here = std::env::current_exe()
        .map_err(|e| Error::io("cannot tell where beit lies", Path::new("beit"), &e))?;
    let program = here.with_file_name(format!("beit-egui{}", std::env::consts::EXE_SUFFIX));
    if !program.is_file() {
        return Err(Error::new(ErrorKind::Io, "the window is not installed")
            .at(program.display().to_string())
            .hint("`cargo build --release -p beit-egui` puts it beside beit"));
    }
    let status = Command::new(&program).args(args.model.iter().chain(&args.picture)).status();
    let status = status.map_err(|e| Error::io("cannot start", &program, &e))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
