//! `beit tokenizer reconstruct`: what is left of pictures in their tokens.

use super::{Choice, own_name, pictures, readable};
use crate::data::decode::encode_png;
use crate::data::{Picture, resize, to_dvae_nhwc};
use crate::error::Result;
use crate::graph::PageKind;
use crate::io::atomic::write_file;
use crate::pictures::cells::{ids_map, of_decoded, of_difference};
use crate::pictures::{Band, Board, Panel};
use crate::session::Data;
use crate::tasks::tokenizer::{round_trip_plan, view_filter};
use crate::train::from_tokens;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  beit tokenizer reconstruct --tokenizer runs/pretrain-0001 --image cat.png --out cat-tokens.png
  beit tokenizer reconstruct --tokenizer runs/pretrain-0001 --image synthetic:8 --out scenes.png")]
pub struct Args {
    #[command(flatten)]
    choice: Choice,
    /// A picture, a folder, a tar file or `synthetic:N`
    #[arg(long, visible_alias = "data", value_name = "FILE|DIR")]
    image: String,
    /// Pictures on the sheet, at most
    #[arg(long, default_value_t = 12, value_name = "N")]
    most: usize,
    /// The sheet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let mut loaded = args.choice.load()?;
    let (sources, _) = pictures(&args.image, 0)?;
    let found = readable(&sources, args.most.max(1))?;
    let (side, grid) = (loaded.side, loaded.grid());
    let (config, layout) = (&loaded.tokenizer.config, &loaded.tokenizer.layout);
    let caps = loaded.session.caps();
    let plan = round_trip_plan(config, layout, (side, side), 1, &caps, PageKind::Param)?;
    let plan = loaded.session.load(Arc::new(plan))?;
    let mut panels = Vec::new();
    for (name, picture) in &found {
        let view = resize(picture, picture.centre_square(), side, side, view_filter(config));
        loaded.session.write(plan, "image", Data::F32(&to_dvae_nhwc(&view)))?;
        loaded.session.run(plan)?;
        let ids = loaded.session.read(plan, "ids")?.u32();
        let back = of_decoded(&loaded.session.read(plan, "decoded")?.f32(), (side, side));
        let error = mean_error(&view, &back);
        println!("{}: mean absolute error {error:.4}, {} different ids", own_name(name), distinct(&ids));
        let map = ids_map(&ids, config.vocab(), grid, side);
        panels.extend([
            Panel::photo(own_name(name), view.clone()),
            Panel::photo(from_tokens(config), back.clone()),
            Panel::new("difference, four times", of_difference(&view, &back))
                .caption(format!("mean {error:.4}")),
            Panel::new("ids, a colour each", map).caption(format!("{} different ids", distinct(&ids))),
        ]);
    }
    let board = Board {
        title: "Pictures and their tokens".into(),
        subtitles: vec![format!(
            "{} | {} ids | {} x {} cells of {} pixels",
            args.choice.tokenizer.display(),
            config.vocab(),
            grid.0,
            grid.1,
            config.stride()
        )],
        bands: vec![Band {
            side: 160,
            gap: 16,
            columns: Some(if found.len() > 3 { 8 } else { 4 }),
            panels,
            ..Band::default()
        }],
        width: 1400,
    };
    write_file(&args.out, &encode_png(&board.draw()?)?)?;
    Ok(ExitCode::SUCCESS)
}

fn mean_error(a: &Picture, b: &Picture) -> f64 {
    let sum: u64 = a.rgb.iter().zip(&b.rgb).map(|(&x, &y)| u64::from(x.abs_diff(y))).sum();
    sum as f64 / 255.0 / a.rgb.len().max(1) as f64
}

fn distinct(ids: &[u32]) -> usize {
    ids.iter().collect::<std::collections::BTreeSet<_>>().len()
}
