//! `beit export`: a model in the files of another library.

use super::model_files::ModelFlags;
use crate::error::Result;
use crate::interop::{Format, Want};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit export runs/pretrain-0001 --format transformers --out hf      for BeitForMaskedImageModeling.from_pretrained
  beit export runs/finetune-0001 --format timm --out timm            for timm.create_model('local-dir:timm')
  beit export runs/pretrain-0001 --format official --out official    model.pth for the official fine-tuning code
  beit export runs/pretrain-0001/tokenizer --format official --out tokens   a customised tokenizer, as nano trains
  beit export runs/pretrain-0001/tokenizer --format dalle --out dvae        one of the released network, for dall_e
  beit export runs/pretrain-0001 --format timm --drop-head --table-per-block --out backbone";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Run folder, checkpoint, file or folder of a model
    #[arg(value_name = "RUN_OR_FILE")]
    model: PathBuf,
    /// Library to write for
    #[arg(long, value_enum)]
    format: FormatFlag,
    /// Folder to write; it must not exist yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    flags: ModelFlags,
}

/// The formats.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum FormatFlag {
    /// Hugging Face transformers
    Transformers,
    /// timm
    Timm,
    /// The official code
    Official,
    /// OpenAI's dVAE
    Dalle,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (format, want) = match args.format {
        FormatFlag::Transformers => (Format::Transformers, Want::Any),
        FormatFlag::Timm => (Format::Timm, Want::Vit),
        FormatFlag::Official => (Format::Official, Want::Any),
        FormatFlag::Dalle => (Format::Dalle, Want::Tokenizer),
    };
    args.flags.convert(&args.model, want, format, Some(&args.out))?;
    Ok(ExitCode::SUCCESS)
}
