//! `beit tokenizer encode`: pictures to token ids.

use super::{Choice, pictures};
use crate::data::ids::{self, Container, FORMAT, IdsKey, IdsWriter, Stand};
use crate::data::{Filter, Source, resize, to_dvae_nhwc};
use crate::error::{Error, Result};
use crate::session::{Data, PlanId, Session};
use crate::tasks::tokenizer::{encode_plan, view_filter};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Pictures of a batch, and pictures between two syncs of the files: what a kill can cost.
const BATCH: usize = 16;
const BLOCK: usize = 256;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit tokenizer encode --tokenizer runs/pretrain-0001 --data photos --out photo-ids
  beit tokenizer encode --tokenizer runs/pretrain-0001 --data photos --format safetensors --out photo-ids
  python3 -c \"import numpy; print(numpy.load('photo-ids/ids.npy').shape)\"

The folder holds ids.npy or ids.safetensors [rows, h, w], index.jsonl (a line for each picture: its name, its row, its class) and ids.json
(what the ids were made from). A call that was interrupted goes on where it was; the bytes are the same.")]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// A folder, a tar file, CIFAR files, a picture or `synthetic:N`; of each the centred square is taken
    #[arg(long, visible_alias = "image", value_name = "DIR|FILE")]
    data: String,
    /// Folder of the result
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Kind of the file of the ids
    #[arg(long, value_enum, default_value_t = Format::Npy, value_name = "KIND")]
    format: Format,
    /// Seed of the built-in pictures
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Stop in an orderly way after N pictures of this call
    #[arg(long, value_name = "N")]
    stop_after: Option<usize>,
    /// Say nothing
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum Format {
    /// NumPy, 16-bit words (32-bit ones above 65,536 ids)
    Npy,
    /// A tensor `ids` of I32
    Safetensors,
}

impl Format {
    fn container(self) -> Container {
        match self {
            Format::Npy => Container::Npy,
            Format::Safetensors => Container::Safetensors,
        }
    }
}

struct Encoder {
    session: Box<dyn Session>,
    plan: PlanId,
    side: usize,
    filter: Filter,
    row: usize,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut loaded = args.choice.load()?;
    let (sources, warnings) = pictures(&args.data, args.seed)?;
    let t = &loaded.tokenizer;
    let grid = loaded.grid();
    let key = IdsKey {
        format: FORMAT,
        container: args.format.container(),
        tokenizer: t.hash()?,
        vocab: t.config.vocab(),
        data: sources.iter().map(|s| s.fingerprint()).collect::<Vec<_>>().join("+"),
        pictures: sources.iter().map(|s| s.len()).sum(),
        grid,
        cell: t.config.stride(),
        views: 1,
        augmentation: "centre".into(),
        seed: args.seed,
    };
    if ids::stand(&args.out, &key)? == Stand::Finished {
        println!("{}: finished already, {} pictures", args.out.display(), key.pictures);
        return Ok(ExitCode::SUCCESS);
    }
    let side = loaded.side;
    let plan = encode_plan(&t.config, &t.layout, (side, side), BATCH, &loaded.session.caps())?;
    let filter = view_filter(&t.config);
    let plan = loaded.session.load(Arc::new(plan))?;
    let mut encoder = Encoder { session: loaded.session, plan, side, filter, row: key.row() };
    let writer = IdsWriter::open(&args.out, &key)?;
    if !args.quiet {
        warnings.iter().for_each(|w| eprintln!("{w}"));
    }
    let all: Vec<(&Arc<dyn Source>, usize)> =
        sources.iter().flat_map(|s| (0..s.len()).map(move |i| (s, i))).collect();
    encoder.encode(args, &all, writer)
}

impl Encoder {
    fn encode(
        &mut self,
        args: &Args,
        all: &[(&Arc<dyn Source>, usize)],
        mut writer: IdsWriter,
    ) -> Result<ExitCode> {
        let first = writer.pictures();
        let last = args.stop_after.map_or(all.len(), |n| (first + n).min(all.len()));
        let mut bad = 0;
        for from in (first..last).step_by(BLOCK) {
            let block = &all[from..(from + BLOCK).min(last)];
            let (mut ids, mut lines) = (Vec::new(), Vec::new());
            for (b, batch) in block.chunks(BATCH).enumerate() {
                let number = from + b * BATCH;
                bad += self.batch(batch, number, writer.rows(), &mut ids, &mut lines)?;
            }
            writer.append(&ids, &lines)?;
            if !args.quiet {
                eprintln!("{} of {} pictures", writer.pictures(), all.len());
            }
        }
        if last < all.len() {
            eprintln!("stopped after {last} of {} pictures; the same command goes on", all.len());
            return Ok(ExitCode::SUCCESS);
        }
        if writer.rows() == 0 {
            return Err(Error::data("none of the pictures can be read").at(args.data.clone()));
        }
        let rows = writer.rows();
        writer.finish()?;
        if bad > 0 {
            eprintln!("warning: {bad} unreadable pictures have no row; index.jsonl names them");
        }
        println!("{}: {rows} rows", args.out.display());
        Ok(ExitCode::SUCCESS)
    }

    /// Encodes up to a batch of pictures; returns how many could not be read.
    fn batch(
        &mut self,
        batch: &[(&Arc<dyn Source>, usize)],
        number: usize,
        rows: usize,
        ids: &mut Vec<u32>,
        lines: &mut Vec<serde_json::Value>,
    ) -> Result<usize> {
        let (mut views, mut count, mut bad) = (Vec::new(), 0, 0);
        let first = rows + ids.len() / self.row;
        for (i, (source, index)) in batch.iter().enumerate() {
            let name = source.name(*index);
            match source.load(*index) {
                Ok(sample) => {
                    let p = &sample.picture;
                    let view = resize(p, p.centre_square(), self.side, self.side, self.filter);
                    views.extend(to_dvae_nhwc(&view));
                    let class = sample.label.map(|l| source.classes().get(l as usize).cloned());
                    let mut line = json!({"picture": number + i, "row": first + count, "name": name});
                    if let Some(label) = sample.label {
                        line["label"] = json!(label);
                        line["class"] = json!(class.flatten());
                    }
                    lines.push(line);
                    count += 1;
                }
                Err(e) => {
                    bad += 1;
                    lines.push(json!({"picture": number + i, "name": name, "error": e.to_string()}));
                }
            }
        }
        views.resize(BATCH * self.side * self.side * 3, 0.5);
        self.session.write(self.plan, "image", Data::F32(&views))?;
        self.session.run(self.plan)?;
        let all = self.session.read(self.plan, "ids")?.u32();
        ids.extend(&all[..count * self.row]);
        Ok(bad)
    }
}
