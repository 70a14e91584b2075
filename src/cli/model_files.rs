//! Flags and output that `import` and `export` share.

use crate::error::{Error, Result};
use crate::interop::{
    self, Changes, Format, Head, ModelFile, Network, OpenOptions, Resize, Want, files_of, preset_of,
};
use crate::io::atomic;
use crate::io::tensors::Precision;
use crate::models::segmenter::SegmentHead;
use crate::models::{DvaeNetwork, TokenizerModel};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Flags of reading, changing and writing a model.
#[derive(clap::Args, Debug, Clone)]
pub struct ModelFlags {
    /// Element type of the written weights
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = Dtype::Keep)]
    dtype: Dtype,
    /// Side of the picture in pixels: position tables are resampled
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    image_size: Option<usize>,
    /// How relative position tables are resampled
    #[arg(long, value_name = "WAY", value_enum, default_value_t = ResizeFlag::Geometric)]
    resize_tables: ResizeFlag,
    /// Copy a shared relative position table into every block, as for fine-tuning
    #[arg(long)]
    table_per_block: bool,
    /// Keep the backbone only
    #[arg(long)]
    drop_head: bool,
    /// Attention heads, for a file that does not say
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Accept NaN and infinite weights
    #[arg(long)]
    allow_non_finite: bool,
    /// What is in the model and what was done, as JSON
    #[arg(long)]
    json: bool,
}

/// Element types of files.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum Dtype {
    /// That of the source.
    Keep,
    /// 32 bits.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

/// The ways of [`Resize`].
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum ResizeFlag {
    /// The official way: splines over geometrically spaced offsets
    Geometric,
    /// The same spacing, linear between the offsets (timm)
    GeometricLinear,
    /// Bilinear over evenly spaced offsets (transformers)
    Uniform,
}

impl ModelFlags {
    /// Opens a model, changes it as the flags say, and writes it; without `out` it is only looked at.
    pub fn convert(&self, path: &Path, want: Want, format: Format, out: Option<&Path>) -> Result<()> {
        let options = OpenOptions {
            allow_non_finite: self.allow_non_finite,
            heads: self.heads,
            ..OpenOptions::default()
        };
        out.map_or(Ok(()), check_free)?;
        let model = interop::open_with(path, want, &options)?;
        let changes = Changes {
            image: self.image_size.map(|side| (side, side)),
            table_per_block: self.table_per_block,
            drop_head: self.drop_head,
        };
        let resize = match self.resize_tables {
            ResizeFlag::Geometric => Resize::Geometric,
            ResizeFlag::GeometricLinear => Resize::GeometricLinear,
            ResizeFlag::Uniform => Resize::Uniform,
        };
        let (model, mut steps) = interop::change(model, &changes, resize)?;
        let mut files = vec![];
        if let Some(out) = out {
            let precision = match self.dtype {
                Dtype::Keep => Precision::Unset,
                Dtype::F32 => Precision::F32,
                Dtype::F16 => Precision::F16,
                Dtype::Bf16 => Precision::Bf16,
            };
            let written = files_of(&model, format, precision)?;
            steps.extend(written.notes);
            write_out(out, &written.files)?;
            files = written.files.iter().map(|(name, bytes)| (out.join(name), bytes.len())).collect();
        }
        self.report(&model, &steps, &files);
        Ok(())
    }

    fn report(&self, model: &ModelFile, steps: &[String], files: &[(PathBuf, usize)]) {
        if self.json {
            let files: Vec<Value> = files
                .iter()
                .map(|(path, n)| json!({"path": path.display().to_string(), "bytes": n}))
                .collect();
            println!("{:#}", json!({"model": describe(model), "steps": steps, "files": files}));
            return;
        }
        println!("{}: {}", model.path.display(), model.kind());
        println!("  names        {}", model.layout);
        println!("  elements     {}", precision_name(model.precision));
        for (key, value) in sizes(model) {
            println!("  {key:12} {value}");
        }
        model.notes.iter().chain(steps).for_each(|note| println!("  note         {note}"));
        files.iter().for_each(|(path, bytes)| println!("  wrote        {} ({bytes} bytes)", path.display()));
    }
}

fn precision_name(precision: Precision) -> &'static str {
    match precision {
        Precision::F16 => "F16",
        Precision::Bf16 => "BF16",
        Precision::F32 | Precision::Unset => "F32",
    }
}

fn sizes(model: &ModelFile) -> Vec<(&'static str, String)> {
    let parameters: usize = model.tensors.values().filter(|t| t.as_f32().is_ok()).map(|t| t.data.len()).sum();
    let mut out = match &model.network {
        Network::Tokenizer(t) => {
            let widths = match t {
                TokenizerModel::Dvae(d) => match d.network {
                    DvaeNetwork::Openai => format!(
                        "encoder {}, decoder {}, {} groups of {} blocks",
                        d.n_hid, d.n_init, d.groups, d.blocks
                    ),
                    DvaeNetwork::Custom => format!(
                        "{}, codes of {}, {} stages of {} residual blocks",
                        d.n_hid, d.n_init, d.groups, d.blocks
                    ),
                },
                TokenizerModel::VqKd(v) => format!(
                    "{}, codes of {}, {} blocks of {} heads and {} of the decoder, features of {}",
                    v.width, v.code, v.depth, v.heads, v.decoder_depth, v.target
                ),
            };
            let mut lines = vec![
                ("ids", t.vocab().to_string()),
                ("cells", format!("{0} x {0} pixels", t.stride())),
                ("widths", widths),
            ];
            if let Some((rows, columns)) = t.fixed_grid() {
                lines.push(("grid", format!("{rows} x {columns} cells, no other")));
                lines.push(("pictures", if t.draws() { "mean patch of each id" } else { "none" }.to_owned()));
            }
            lines
        }
        Network::Vit { config: c, head } => {
            let mut lines = vec![
                ("picture", format!("{} x {} pixels, patches of {}", c.image.0, c.image.1, c.patch)),
                ("sizes", format!("width {}, {} blocks, {} heads, MLP {}", c.width, c.depth, c.heads, c.mlp)),
                ("positions", format!("absolute {}, relative {:?}", c.abs_pos, c.rel_pos)),
                ("preset", preset_of(c).unwrap_or("none").to_owned()),
            ];
            match head {
                Head::None => {}
                Head::MaskedImage => lines.push(("ids", c.vocab.to_string())),
                Head::Classifier { classes, pool } => lines.push(("classes", format!("{classes}, {pool:?}"))),
                Head::Segmenter(s) => {
                    let decoder = match &s.head {
                        SegmentHead::Upernet(u) => {
                            format!("UPerNet of {} channels on blocks {:?}", u.channels, u.taps)
                        }
                        SegmentHead::SetrPup(u) => format!("SETR-PUP of {} channels", u.channels),
                    };
                    lines.push(("classes", format!("{}, {decoder}", s.classes)));
                }
            }
            lines
        }
    };
    out.push(("parameters", parameters.to_string()));
    out
}

fn describe(model: &ModelFile) -> Value {
    let sizes: serde_json::Map<String, Value> =
        sizes(model).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    json!({
        "file": model.path.display().to_string(),
        "kind": model.kind(),
        "names": model.layout,
        "elements": precision_name(model.precision),
        "sizes": sizes,
        "labels": model.labels,
        "notes": model.notes,
    })
}

/// Refuses a folder in the way before anything is read.
fn check_free(out: &Path) -> Result<()> {
    let taken = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => fs::symlink_metadata(out).is_ok(),
    };
    if taken {
        return Err(Error::config("the output folder is not empty")
            .at(out.display().to_string())
            .expected("a new or an empty folder"));
    }
    Ok(())
}

/// All files or none: the folder appears when everything is written.
fn write_out(out: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    if let Some(parent) = out.parent().filter(|p| *p != Path::new("")) {
        fs::create_dir_all(parent).map_err(|e| Error::io("cannot create", parent, &e))?;
    }
    if out.is_dir() {
        fs::remove_dir(out).map_err(|e| Error::io("cannot replace the empty folder", out, &e))?;
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    atomic::write_folder(out, &files)
}
