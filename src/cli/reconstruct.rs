//! `beit reconstruct`: what a model makes of hidden patches.

use crate::data::decode::encode_png;
use crate::data::mask_input::{mask_of_picture, parse_cells, parse_patch};
use crate::data::source::PICTURE_EXTENSIONS;
use crate::data::{MaskKind, MaskSpec, Picture, generate, open};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::io::atomic::write_file;
use crate::models::TokenizerNetwork;
use crate::pictures::reconstruction::{Words, board, shown_ids, telling_patches};
use crate::rng::{Key, Stream};
use crate::session::Session;
use crate::tasks::atlas::Atlas;
use crate::tasks::reconstruct::{Reconstruction, Sampling, Viewer};
use crate::train::{Pair, Tokenizer, page_bytes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit reconstruct --model runs/pretrain-0001 --image cat.png --out sheet.png
  beit reconstruct --model runs/pretrain-0001 --image synthetic:8 --out sheets         the first built-in scenes
  beit reconstruct --model runs/pretrain-0001 --image cat.png --mask 2:2-5:5 --rounds 8 --out sheet.png
  beit reconstruct --model runs/pretrain-0001 --image cat.png --mask hole.png --attention 3:4 --json cat.json --out sheet.png";

/// Patches whose tokens a sheet shows.
const STRIPS: usize = 8;

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The transformer: a run folder, a checkpoint folder or a weights file
    #[arg(long, value_name = "RUN_OR_FILE")]
    model: PathBuf,
    /// The tokenizer [default: the one beside the model]
    #[arg(long, value_name = "RUN_OR_FILE")]
    tokenizer: Option<PathBuf>,
    /// A picture of any size (its centred square is taken), or a folder, a tar file or `synthetic:N`: a sheet for each
    #[arg(long, visible_alias = "data", value_name = "FILE|DIR")]
    image: String,
    /// What to hide: block, random, a picture (bright = hidden), or cells: numbers `0,5,8-11`, places `ROW:COLUMN`,
    /// rectangles `2:2-5:5`
    #[arg(long, default_value = "block", value_name = "block|random|FILE|CELLS")]
    mask: String,
    /// Share of the patches that block and random masks hide [default: 0.4, as in pre-training]
    #[arg(long, value_name = "X", conflicts_with = "num_mask_patches")]
    ratio: Option<f64>,
    /// Patches that block and random masks hide, at most
    #[arg(long, value_name = "N")]
    num_mask_patches: Option<usize>,
    /// Seed of masks and draws
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Also draw tokens at this temperature instead of taking the most probable ones
    #[arg(long, value_name = "T")]
    temperature: Option<f32>,
    /// Also decode in N rounds, the most certain patches first
    #[arg(long, default_value_t = 1, value_name = "N")]
    rounds: usize,
    /// Guesses listed for each patch
    #[arg(long, default_value_t = 5, value_name = "K")]
    top: usize,
    /// Also show attention from this patch: a number or ROW:COLUMN
    #[arg(long, value_name = "PATCH")]
    attention: Option<String>,
    /// The sheet; a folder if --image is one
    #[arg(long, value_name = "FILE|DIR")]
    out: PathBuf,
    /// Everything as numbers: figures, a table of all patches, attention
    #[arg(long, value_name = "FILE|DIR")]
    json: Option<PathBuf>,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    adapter: Option<String>,
    /// Say nothing about each sheet
    #[arg(long, short)]
    quiet: bool,
}

/// What stays the same for all pictures of a call.
struct Looker<'a> {
    args: &'a Args,
    session: Box<dyn Session>,
    viewer: Viewer,
    atlas: Atlas,
    model: String,
    mask: Mask,
    attention: Option<usize>,
}

enum Mask {
    Drawn(MaskSpec),
    Cells(Vec<bool>),
    Picture(Picture, String),
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let device = Device::choose(args.adapter.as_deref())?.device;
    let pair = Pair::open(&args.model, args.tokenizer.as_deref(), page_bytes(&device.caps()))?;
    if let Some(warning) = another_tokenizer(args, &pair)? {
        eprintln!("{warning}");
    }
    let mut looker = Looker::new(args, device.session()?, &pair)?;
    let opened = open(&args.image, args.seed)?;
    // A data set's held-out pictures are looked at as well as its training pictures.
    let sources: Vec<_> = std::iter::once(opened.source).chain(opened.held_out).collect();
    let single = Path::new(&args.image).is_file() && is_picture(Path::new(&args.image));
    if single {
        let sample = sources[0].load(0)?;
        let (sheet, numbers) = looker.look(&file_stem(&args.image), 0, &sample.picture)?;
        looker.write(&args.out, &sheet, args.json.as_deref(), &numbers)?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut made, mut bad, mut number) = (0, vec![], 0);
    for source in &sources {
        for i in 0..source.len() {
            let name = source.name(i);
            let stem = format!("{number:05}-{}", file_stem(&name));
            number += 1;
            let sample = match source.load(i) {
                Ok(sample) => sample,
                Err(e) => {
                    bad.push(format!("{name}: {e}"));
                    continue;
                }
            };
            let (sheet, numbers) = looker.look(&file_stem(&name), number as u32 - 1, &sample.picture)?;
            if made == 0 {
                for dir in std::iter::once(&args.out).chain(&args.json) {
                    std::fs::create_dir_all(dir).map_err(|e| Error::io("cannot create", dir, &e))?;
                }
            }
            made += 1;
            let json = args.json.as_ref().map(|dir| dir.join(format!("{stem}.json")));
            looker.write(&args.out.join(format!("{stem}.png")), &sheet, json.as_deref(), &numbers)?;
        }
    }
    for line in &bad {
        eprintln!("warning: skipped {line}");
    }
    if made == 0 {
        return Err(Error::data("none of the pictures can be read")
            .at(args.image.clone())
            .got(format!("{} unreadable", bad.len())));
    }
    Ok(ExitCode::SUCCESS)
}

/// A word where the named tokenizer is not the one whose ids a model of ours has learned.
fn another_tokenizer(args: &Args, pair: &Pair) -> Result<Option<String>> {
    let (Some(path), Some(model)) = (&args.tokenizer, &pair.from) else { return Ok(None) };
    let state = std::fs::read(model.with_file_name("state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&state).unwrap_or_default();
    let Some(learned) = state["tokenizer"].as_str() else { return Ok(None) };
    let (config, layout) = (pair.dvae.clone(), pair.tokenizer.clone());
    let given = Tokenizer { config, layout, pages: pair.tokenizer_pages.clone() }.hash()?;
    Ok((given != learned).then(|| {
        format!(
            "warning: {} is another tokenizer than the one that {} was trained with: equal ids mean other things",
            path.display(),
            model.display()
        )
    }))
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    !matches!(extension.as_str(), "tar" | "bin") || PICTURE_EXTENSIONS.contains(&extension.as_str())
}

/// The last part of a name without its extension, with nothing in it that a file name cannot have.
fn file_stem(name: &str) -> String {
    let own = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = own.rsplit_once('.').map_or(own, |(stem, _)| stem);
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let stem: String = stem.chars().map(plain).take(80).collect();
    if stem.is_empty() { "picture".into() } else { stem }
}

impl<'a> Looker<'a> {
    fn new(args: &'a Args, mut session: Box<dyn Session>, pair: &Pair) -> Result<Self> {
        let grid = pair.vit.grid();
        let mask = Mask::parse(args, grid)?;
        let attention = args.attention.as_deref().map(|a| parse_patch(a, grid)).transpose();
        let attention = attention.map_err(|e| e.at("--attention"))?;
        let models = pair.viewed(PageKind::Param);
        let viewer = Viewer::open(session.as_mut(), &models, &pair.model_pages, &pair.tokenizer_pages)?;
        let most = STRIPS * (args.top + 1);
        let atlas = Atlas::load(session.as_mut(), &pair.dvae, &pair.tokenizer, PageKind::Param, most)?;
        let model = pair.from.as_deref().unwrap_or(&args.model).display().to_string();
        Ok(Looker { args, session, viewer, atlas, model, mask, attention })
    }

    /// The sheet and the numbers of one picture.
    fn look(&mut self, name: &str, number: u32, picture: &Picture) -> Result<(Vec<u8>, Value)> {
        let args = self.args;
        let mask = self.mask.of(picture, args.seed, number, self.viewer.grid())?;
        let mut request = self.viewer.request(picture, mask);
        request.top = args.top;
        request.rounds = args.rounds;
        request.sampling = args.temperature.map(|temperature| Sampling { temperature, seed: args.seed });
        request.attention = self.attention.is_some();
        let found = self.viewer.look(self.session.as_mut(), request)?;
        let patches = telling_patches(&found, STRIPS);
        let tokens = self.atlas.pictures(self.session.as_mut(), &shown_ids(&found, &patches))?;
        let words = Words {
            title: name.to_string(),
            lines: vec![format!("model {} | mask {} | seed {}", self.model, args.mask, args.seed)],
            temperature: args.temperature.unwrap_or(1.0),
            rounds: args.rounds,
        };
        let words = self.with_note(words);
        let sheet = board(&found, &words, &patches, &tokens, self.attention).draw()?;
        if !args.quiet {
            let f = &found.figures;
            println!(
                "{name}: {} of {} patches hidden, loss {:.3}, accuracy {:.3}, top-5 {:.3}, error {:.3} (tokenizer's best {:.3})",
                f.masked,
                found.mask.len(),
                f.loss,
                f.accuracy,
                f.accuracy_top5,
                f.mae,
                f.ceiling_mae
            );
        }
        Ok((encode_png(&sheet)?, self.numbers(name, &found)))
    }

    /// Says what the pictures of tokens are, where no decoder drew them.
    fn with_note(&self, mut words: Words) -> Words {
        if self.viewer.tokenizer().network() == TokenizerNetwork::VqKd {
            words.lines.push(
                "tokens are shown as the mean training patch of their id: a VQ-KD tokenizer is not trained to draw".into(),
            );
        }
        words
    }

    fn numbers(&self, name: &str, r: &Reconstruction) -> Value {
        let mut all = json!({
            "picture": name,
            "model": self.model,
            "mask_spec": self.args.mask,
            "seed": self.args.seed,
            "grid": [r.grid.0, r.grid.1],
            "vocab": r.vocab,
            "ln_v": (r.vocab as f64).ln(),
            "mask": r.mask.iter().map(|&m| u8::from(m)).collect::<Vec<_>>(),
            "figures": r.figures,
            "patches": r.patches,
        });
        if let (Some(maps), Some(patch)) = (&r.attention, self.attention) {
            let heads = |l: usize| (0..maps.heads).map(|h| maps.from_patch(l, h, patch)).collect::<Vec<_>>();
            all["attention"] = json!({
                "from": patch,
                "rollout": maps.rollout_from(patch),
                "blocks": (0..maps.layers).map(heads).collect::<Vec<_>>(),
            });
        }
        all
    }

    fn write(&self, out: &Path, sheet: &[u8], json: Option<&Path>, numbers: &Value) -> Result<()> {
        write_file(out, sheet)?;
        if let Some(path) = json {
            write_file(path, format!("{numbers:#}\n").as_bytes())?;
        }
        Ok(())
    }
}

impl Mask {
    fn parse(args: &Args, (rows, columns): (usize, usize)) -> Result<Mask> {
        let n = rows * columns;
        let kind = match args.mask.as_str() {
            "block" | "blockwise" => Some(MaskKind::Blockwise),
            "random" => Some(MaskKind::Random),
            _ => None,
        };
        if let Some(kind) = kind {
            let share = args.ratio.unwrap_or(0.4);
            if !(share > 0.0 && share <= 1.0) {
                let e = Error::config("wrong value").at("--ratio").expected("a share above 0, up to 1");
                return Err(e.got(share.to_string()));
            }
            let target = args.num_mask_patches.unwrap_or(((share * n as f64) as usize).max(1));
            // The published smallest block is 16 of 196 patches.
            let most = target.min(rows.saturating_sub(1) * columns.saturating_sub(1)).max(1);
            let smallest = (n * 16 / 196).clamp(1, most);
            let spec = MaskSpec { kind, ..MaskSpec::blockwise(rows, columns, target, smallest) };
            spec.validate()?;
            return Ok(Mask::Drawn(spec));
        }
        if args.ratio.is_some() || args.num_mask_patches.is_some() {
            return Err(Error::config("--ratio and --num-mask-patches are for block and random masks")
                .at("--mask")
                .got(args.mask.clone()));
        }
        let path = Path::new(&args.mask);
        if path.is_file() {
            let source = open(&args.mask, 0)?.source;
            return Ok(Mask::Picture(source.load(0)?.picture, args.mask.clone()));
        }
        let looks_like_a_file = path.extension().is_some() || args.mask.contains('/');
        if looks_like_a_file {
            return Err(Error::data("no such mask file").at(args.mask.clone()));
        }
        let cells = parse_cells(&args.mask, (rows, columns)).map_err(|e| e.at("--mask"))?;
        if !cells.contains(&true) {
            let e = Error::config("the mask hides nothing").at("--mask").expected("at least one patch");
            return Err(e.got(args.mask.clone()));
        }
        Ok(Mask::Cells(cells))
    }

    /// The mask of picture `number`.
    fn of(&self, picture: &Picture, seed: u64, number: u32, grid: (usize, usize)) -> Result<Vec<bool>> {
        Ok(match self {
            Mask::Drawn(spec) => generate(spec, Key::new(seed, Stream::Mask, number)),
            Mask::Cells(cells) => cells.clone(),
            Mask::Picture(mask, file) => {
                let mask = mask_of_picture(mask, picture, grid).map_err(|e| e.at(file.clone()))?;
                if !mask.contains(&true) {
                    return Err(Error::data("the mask hides nothing")
                        .at(file.clone())
                        .expected("a bright pixel, or a patch of which more than half is bright"));
                }
                mask
            }
        })
    }
}
