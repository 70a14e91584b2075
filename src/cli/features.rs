//! `beit features`: features of a frozen transformer, written for other programs.

use super::frozen::FrozenFlags;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::inference::FeatureSet;
use crate::io::atomic;
use crate::io::tensors::{Tensor, TensorData, Tensors, pt_metadata, write_safetensors};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "Examples:
  beit features --model runs/pretrain-0001 --data photos --out photos.npy                 last layer, mean of patches
  beit features --model beit-base/ --data photos --layer all --out photos.safetensors    every layer, both features";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    frozen: FrozenFlags,
    /// File to write: .npy or .safetensors
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Layer, counted from 1, or `all` (.safetensors only) [default: the last]
    #[arg(long, value_name = "N|all")]
    layer: Option<String>,
    /// Which feature goes into a .npy file
    #[arg(long, value_name = "NAME", default_value = "mean", value_parser = ["mean", "cls", "both"])]
    pool: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode> {
    let extension = args.out.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !matches!(extension.as_str(), "npy" | "safetensors") {
        return Err(Error::config("no such format")
            .at("--out")
            .expected("a file that ends in .npy or .safetensors")
            .got(args.out.display().to_string()));
    }
    let device = Device::choose(args.frozen.adapter.as_deref())?.device;
    let mut backbone = args.frozen.backbone(&device)?;
    let layers = layers(args, backbone.depth(), extension == "npy")?;
    let pictures = args.frozen.pictures()?;
    // features of all pictures: the held-out part too where the data names one
    let opened = crate::data::open(&args.frozen.data, args.frozen.seed)?;
    for (part, source) in [("", Some(opened.source)), ("held-out", opened.held_out)] {
        let Some(source) = source else { continue };
        let set = args.frozen.features(&mut backbone, source.clone(), &pictures)?;
        let names: Vec<String> = set.samples.iter().map(|&i| source.name(i)).collect();
        let path = with_part(&args.out, part);
        match extension.as_str() {
            "npy" => write_npy_files(&path, &set, layers[0], &args.pool)?,
            _ => atomic::write_file(&path, &safetensors(&set, &layers)?)?,
        }
        let list = path.with_extension("txt");
        atomic::write_file(&list, format!("{}\n", names.join("\n")).as_bytes())?;
        println!("{} pictures: {} (names in {})", set.len(), path.display(), list.display());
    }
    pictures.unreadable().iter().for_each(|text| eprintln!("warning: {text}"));
    Ok(ExitCode::SUCCESS)
}

/// `photos.npy` → `photos.held-out.npy`.
fn with_part(path: &Path, part: &str) -> PathBuf {
    if part.is_empty() {
        return path.to_path_buf();
    }
    let name = |p: Option<&std::ffi::OsStr>| p.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!("{}.{part}.{}", name(path.file_stem()), name(path.extension())))
}

fn layers(args: &Args, depth: usize, single: bool) -> Result<Vec<usize>> {
    let wrong = |expected: String| {
        let got = args.layer.clone().unwrap_or_default();
        Err(Error::config("no such layer").at("--layer").expected(expected).got(got))
    };
    match args.layer.as_deref() {
        None => Ok(vec![depth - 1]),
        Some("all") if single => {
            wrong("one layer for a .npy file (or an --out that ends in .safetensors)".into())
        }
        Some("all") => Ok((0..depth).collect()),
        Some(text) => match text.parse::<usize>() {
            Ok(n) if (1..=depth).contains(&n) => Ok(vec![n - 1]),
            _ => wrong(format!("1 to {depth}, or all")),
        },
    }
}

fn safetensors(set: &FeatureSet, layers: &[usize]) -> Result<Vec<u8>> {
    let mut tensors = Tensors::new();
    for &l in layers {
        for (kind, rows) in [("cls", &set.cls[l]), ("mean", &set.mean[l])] {
            tensors.insert(
                format!("layer{}.{kind}", l + 1),
                Tensor::f32(vec![set.len(), set.width], rows.clone())?,
            );
        }
    }
    tensors.insert("labels".into(), Tensor::new(vec![set.len()], TensorData::I64(labels(set)))?);
    Ok(write_safetensors(&tensors, &pt_metadata()))
}

/// Labels, −1 where there is none.
fn labels(set: &FeatureSet) -> Vec<i64> {
    set.labels.iter().map(|l| l.map_or(-1, i64::from)).collect()
}

fn write_npy_files(path: &Path, set: &FeatureSet, layer: usize, pool: &str) -> Result<()> {
    let (rows, cols) = match pool {
        "cls" => (set.cls[layer].clone(), set.width),
        "both" => (set.both(layer), 2 * set.width),
        _ => (set.mean[layer].clone(), set.width),
    };
    let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    atomic::write_file(path, &npy("<f4", &format!("({}, {cols})", set.len()), &bytes))?;
    let bytes: Vec<u8> = labels(set).iter().flat_map(|v| v.to_le_bytes()).collect();
    atomic::write_file(&path.with_extension("labels.npy"), &npy("<i8", &format!("({},)", set.len()), &bytes))
}

/// An array in NumPy's format, version 1.0: magic, length of the header, header padded to 64 bytes, data.
fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    let unpadded = 10 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npy_headers_are_aligned() {
        let file = npy("<f4", "(2, 3)", &[0; 24]);
        assert_eq!(&file[..8], b"\x93NUMPY\x01\x00");
        let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
        assert_eq!((10 + header) % 64, 0);
        assert_eq!(file.len(), 10 + header + 24);
        assert_eq!(file[10 + header - 1], b'\n');
    }
}
