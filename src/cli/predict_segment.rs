//! The part of `beit predict` that colours pictures by the classes of a segmenter.

use super::eval_segment::Flags;
use crate::data::open;
use crate::data::picture::Picture;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::runs::sheet::{Sheet, SheetRow, Tile};
use crate::segmenter::{Loaded, colour, legend, overlay};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What is predicted.
pub struct Task<'a> {
    /// The segmenter.
    pub model: &'a Path,
    /// A picture, a folder, or what --data of other commands takes.
    pub pictures: &'a str,
    /// Folder of the results.
    pub out: &'a Path,
    /// Classes in the legend, at most.
    pub top: usize,
    /// Part of an adapter's name.
    pub adapter: Option<&'a str>,
    /// One JSON object a line.
    pub json: bool,
}

/// Segments pictures: for each an overlay with a legend, and the label map itself as a grey PNG.
///
/// # Errors
/// If the model cannot be used or results cannot be written.
pub fn run(task: &Task<'_>, flags: &Flags) -> Result<ExitCode> {
    let device = Device::choose(task.adapter)?.device;
    let mut model = Loaded::open(task.model, device.session()?)?;
    let slide = flags.slide(&model.description.slide)?;
    let opened = open(task.pictures, 0)?;
    std::fs::create_dir_all(task.out).map_err(|e| Error::io("cannot create", task.out, &e))?;
    let (mut failed, mut all) = (0, 0);
    for source in [Some(opened.source), opened.held_out].into_iter().flatten() {
        for i in 0..source.len() {
            all += 1;
            let sample = match source.load(i) {
                Ok(sample) => sample,
                Err(e) => {
                    failed += 1;
                    eprintln!("warning: {e}");
                    continue;
                }
            };
            let labels = model.labels(&sample.picture, &slide)?;
            let name = source.name(i);
            let shares = legend(&labels);
            let (sheet, map) = (file(task.out, &name, "overlay", all), file(task.out, &name, "labels", all));
            write(&sheet, &draw(&sample.picture, &labels, &name, &model.description.names, task.top)?)?;
            write(&map, &grey_png(&sample.picture, &labels)?)?;
            let named: Vec<(&str, f64)> =
                shares.iter().map(|&(c, s)| (model.description.names[c as usize].as_str(), s)).collect();
            if task.json {
                let classes: Vec<_> = named.iter().map(|(n, s)| json!({"class": n, "share": s})).collect();
                println!("{}", json!({"picture": name, "overlay": sheet, "labels": map, "classes": classes}));
            } else {
                let shown: Vec<String> =
                    named.iter().take(task.top).map(|(n, s)| format!("{n} {:.1} %", 100.0 * s)).collect();
                println!("{name}: {}\n  {}", shown.join(", "), sheet.display());
            }
        }
    }
    Ok(if failed == all { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A file name from that of a picture; a number keeps apart what would collide.
fn file(out: &Path, name: &str, what: &str, number: usize) -> PathBuf {
    let own = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let clean: String =
        own.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    out.join(format!("{number:04}-{clean}-{what}.png"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| Error::io("cannot write", path, &e))
}

fn draw(picture: &Picture, labels: &[u32], name: &str, names: &[String], top: usize) -> Result<Vec<u8>> {
    let (w, h) = (picture.width, picture.height);
    let tiles = vec![Tile::new(w, h, picture.rgb.clone())?, Tile::new(w, h, overlay(picture, labels).rgb)?];
    let columns = vec!["picture".into(), "prediction".into()];
    let title = name.rsplit('/').next().unwrap_or(name).to_string();
    let sheet = Sheet { title, columns, rows: vec![SheetRow { caption: String::new(), tiles }] };
    let entries: Vec<([u8; 3], String)> = legend(labels)
        .into_iter()
        .take(top.max(1))
        .map(|(c, share)| (colour(c), format!("{} {:.1} %", names[c as usize], 100.0 * share)))
        .collect();
    Ok(sheet.to_png_with(&entries)?.png)
}

/// The label map itself: a grey PNG whose values are the classes.
fn grey_png(picture: &Picture, labels: &[u32]) -> Result<Vec<u8>> {
    let failed = |e: png::EncodingError| Error::data("label map cannot be written").got(e.to_string());
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Grayscale);
    let values: Vec<u8> = labels.iter().map(|&l| l as u8).collect();
    encoder.write_header().and_then(|mut w| w.write_image_data(&values)).map_err(failed)?;
    Ok(bytes)
}
