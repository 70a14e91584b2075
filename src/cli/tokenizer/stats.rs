//! `beit tokenizer stats`: the health of the codebook.

use super::{Choice, Loaded};
use crate::config::{RunConfig, TaskConfig, preset};
use crate::data::decode::encode_png;
use crate::data::{Samples, TokenBatches, Views};
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::io::atomic::write_file;
use crate::models::TokenizerNetwork;
use crate::pictures::codebook::board;
use crate::tasks::atlas::Atlas;
use crate::tasks::codebook::{self, CodebookReport, Relaxing};
use crate::tasks::tokenizer::view_filter;
use crate::train::Pictures;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Bytes of logits of a batch.
const LOGITS_BYTES: usize = 64 << 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit tokenizer stats --tokenizer runs/pretrain-0001
  beit tokenizer stats --tokenizer runs/pretrain-0001 --data photos --images 5000 --atlas atlas.png --json stats.json")]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// Pictures to measure on; the held-out part is taken as in training
    #[arg(long, visible_alias = "image", default_value = "synthetic", value_name = "DIR|FILE|synthetic")]
    data: String,
    /// Pictures to look at, at most
    #[arg(long, default_value_t = 256, value_name = "N")]
    images: usize,
    /// Temperature of the relaxed reconstruction
    #[arg(long, default_value_t = 0.0625, value_name = "T")]
    tau: f64,
    /// Seed of the split and of the relaxation
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Draw what each id decodes to, the most used first
    #[arg(long, value_name = "FILE")]
    atlas: Option<PathBuf>,
    /// The same as numbers; `-` prints them instead of the text
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    for (flag, wrong) in
        [("--images", args.images == 0), ("--tau", !(args.tau > 0.0 && args.tau.is_finite()))]
    {
        if wrong {
            return Err(Error::config("wrong value").at(flag).expected("a number above 0"));
        }
    }
    let mut loaded = args.choice.load()?;
    let config = RunConfig { data: args.data.clone(), seed: args.seed, ..preset("nano")? };
    let pictures = Pictures::open(&config.data_choice())?;
    let report = measure(args, &mut loaded, &pictures)?;
    let to_stdout = args.json.as_deref().is_some_and(|p| p.as_os_str() == "-");
    if !to_stdout {
        print!("{}", text(&report, &args.data));
    }
    if let Some(path) = &args.atlas {
        write_file(path, &atlas(args, &mut loaded, &report)?)?;
    }
    if let Some(path) = &args.json {
        let mut numbers = json!(report);
        numbers["data"] = json!(args.data);
        numbers["hard_gap"] = json!(report.hard_gap());
        numbers["collapsed"] = json!(report.collapsed());
        numbers["advice"] = json!(report.advice());
        let text = format!("{numbers:#}\n");
        if to_stdout { print!("{text}") } else { write_file(path, text.as_bytes())? }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &Args, loaded: &mut Loaded, pictures: &Pictures) -> Result<CodebookReport> {
    let (config, side) = (loaded.tokenizer.config.clone(), loaded.side);
    let cells = loaded.grid().0 * loaded.grid().1;
    let images = args.images.min(pictures.val.len());
    let batch = (LOGITS_BYTES / (4 * cells * config.vocab())).clamp(1, 32).min(images).max(1);
    let caps = loaded.session.caps();
    let plan =
        codebook::plan(&config, &loaded.tokenizer.layout, (side, side), batch, &caps, PageKind::Param)?;
    let plan = loaded.session.load(Arc::new(plan))?;
    let samples = Samples::in_order(pictures.val.clone(), args.seed, pictures.bad.clone())?;
    let views = Views {
        patch_side: side,
        token_side: side,
        token_filter: view_filter(&config),
        augment: None,
        normalization: crate::data::Normalization::HALF,
    };
    let maker = TokenBatches::new(samples, batch, views)?;
    let batches = (0..(images / batch).max(1) as u64).map(|i| Ok(maker.make(i)?.token_view));
    let relaxing = Relaxing { tau: args.tau, seed: args.seed };
    codebook::measure(loaded.session.as_mut(), plan, &config, (side, side), relaxing, batches)
}

fn text(r: &CodebookReport, data: &str) -> String {
    let v = r.vocab as f64;
    let mut out = format!(
        "{} pictures of {data}, {} cells, {} ids\n\
         perplexity               {:8.1}   of {} ({:.0} %)\n\
         ids in use               {:8}   {} dead ({:.0} % in use)\n\
         entropy of the ids       {:8.3}   nat, at most {:.3}\n\
         commonest id             {:8.3}   of all cells\n",
        r.images,
        r.cells,
        r.vocab,
        r.perplexity,
        r.vocab,
        100.0 * r.perplexity / v,
        r.used,
        r.dead,
        100.0 * r.used as f64 / v,
        r.entropy,
        v.ln(),
        r.commonest,
    );
    out += &if r.relaxed.is_some() { text_of_dvae(r) } else { text_of_vq_kd(r) };
    for line in r.advice() {
        out += &format!("advice: {line}\n");
    }
    out
}

fn text_of_dvae(r: &CodebookReport) -> String {
    let Some(q) = &r.relaxed else { return String::new() };
    let measure = match r.network {
        TokenizerNetwork::Custom => ("squared error, hard ids", "a value in -1..1"),
        _ => ("likelihood, hard ids", "nat a value"),
    };
    format!(
        "KL from uniform          {:8.3}   nat a cell; the chosen id has probability {:.3}\n\
         error from hard ids      {:8.4}   mean absolute, pixels 0..1; a flat colour a picture {:.4}, a cell {:.4}\n\
         error from relaxed ids   {:8.4}   at temperature {}; hard ids are {:+.1} %\n\
         {:24} {:8.3}   {}; relaxed {:.3}\n",
        q.kl,
        q.max_probability,
        r.mae.unwrap_or(f64::NAN),
        r.flat_picture_mae,
        r.flat_mae,
        q.relaxed_mae,
        q.tau,
        100.0 * r.hard_gap().unwrap_or(f64::NAN),
        measure.0,
        q.distortion,
        measure.1,
        q.relaxed_distortion,
    )
}

fn text_of_vq_kd(r: &CodebookReport) -> String {
    let cosine = r.code_cosine.unwrap_or(f64::NAN);
    let mut out =
        format!("cosine of cell and code  {cosine:8.3}   mean; 1 where nothing is lost in rounding\n");
    out += &match r.mae {
        Some(mae) => format!(
            "error of mean patches    {mae:8.4}   mean absolute, pixels 0..1; a flat colour a picture {:.4}, a cell {:.4}\n",
            r.flat_picture_mae, r.flat_mae
        ),
        None => "This file has no mean patches, so that its ids cannot be shown as pictures.\n".to_owned(),
    };
    out + "A VQ-KD tokenizer is trained on a teacher's features and draws no pictures: there is no likelihood, no distribution over \
           ids and no temperature to report.\n"
}

fn atlas(args: &Args, loaded: &mut Loaded, report: &CodebookReport) -> Result<Vec<u8>> {
    let t = &loaded.tokenizer;
    let session = loaded.session.as_mut();
    let atlas = Atlas::load(session, &t.config, &t.layout, PageKind::Param, t.config.vocab())?;
    let ids: Vec<u32> = (0..t.config.vocab() as u32).collect();
    let tokens = atlas.pictures(session, &ids)?;
    let name = args.choice.tokenizer.display().to_string();
    encode_png(&board(report, &tokens, &name, &args.data).draw()?)
}
