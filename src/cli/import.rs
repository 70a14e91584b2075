//! `beit import`: a model of another library, looked at, checked, and taken over.

use super::model_files::ModelFlags;
use crate::error::Result;
use crate::interop::{Format, Want};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str =
    "Reads transformers, timm, the official code (.pth), OpenAI's dVAE and the customised one, and runs and
checkpoints of beit. Every command that takes a model reads these files directly; import is for a look, a check, or a copy.

Examples:
  beit import beit-base-patch16-224-pt22k                     what is in it, and whether it is whole
  beit import beit_base_patch16_224_pt22k.pth --out base      as a folder that beit and transformers read
  beit import openai-dvae/ --out tokenizer                    encoder.* and decoder.* of OpenAI's dVAE
  beit import base --image-size 384 --table-per-block --out base384";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// File or folder of the model
    #[arg(value_name = "FILE|DIR")]
    model: PathBuf,
    /// Folder to write; it must not exist yet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    args.flags.convert(&args.model, Want::Any, Format::Transformers, args.out.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
