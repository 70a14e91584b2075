//! `beit forward`: a model on given tensors, to compare its numbers with those of another program.

use crate::device::Device;
use crate::error::{Error, Result};
use crate::interop::{self, OpenOptions, Want};
use crate::io::atomic;
use crate::io::limits::FileLimits;
use crate::io::tensors::{pt_metadata, read_safetensors, write_safetensors};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str =
    "The input is a safetensors file with pixel_values [B,3,H,W], prepared as the network wants them, and
for a masked image model bool_masked_pos [B,n]. The output has logits and last_hidden_state.

Example:
  beit forward hf/ --input io.safetensors --out numbers.safetensors --adapter cpu";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run folder, checkpoint, file or folder of a model
    #[arg(value_name = "RUN_OR_FILE")]
    model: PathBuf,
    /// Tensors to feed
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The tokenizer of a run that has both
    #[arg(long)]
    tokenizer: bool,
    /// Attention heads, for a file that does not say
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let want = if args.tokenizer { Want::Tokenizer } else { Want::Any };
    let options = OpenOptions { heads: args.heads, ..OpenOptions::default() };
    let model = interop::open_with(&args.model, want, &options)?;
    let bytes = std::fs::read(&args.input).map_err(|e| Error::io("cannot read", &args.input, &e))?;
    let inputs = read_safetensors(&bytes, &FileLimits::native())
        .map_err(|e| e.at(args.input.display().to_string()))?
        .tensors;
    let mut session = Device::choose(args.adapter.as_deref())?.device.session()?;
    let outputs = interop::forward(&model, session.as_mut(), &inputs)?;
    atomic::write_file(&args.out, &write_safetensors(&outputs, &pt_metadata()))?;
    for (name, tensor) in &outputs {
        println!("{name} {:?}", tensor.shape);
    }
    Ok(ExitCode::SUCCESS)
}
