//! `preprocess`: decoding, resizing, crops and normalisation of pictures in many formats.

use beit::data::decode::decode_ignoring_orientation;
use beit::data::{Crop, Filter, ImageLimits, Picture};
use beit::data::{decode, resize, to_dvae_nhwc, to_f32_nhwc};
use serde_json::Value;

use super::case::{Array, Arrays, Case, Outcome};
use super::report::Report;

/// Most levels and mean of levels that a resized picture may differ by.
const RESIZED: (f64, f64) = (2.0, 0.1);
/// The same for one that comes from a JPEG file, whose decoders differ.
const RESIZED_JPEG: (f64, f64) = (24.0, 1.5);
struct Preprocess<'a> {
    case: &'a Value,
    image: &'a Value,
    file: String,
    tensors: &'a Arrays,
    stored: Picture,
    upright: Picture,
    jpeg: bool,
    subsampled: bool,
    resized: (f64, f64),
}

/// Every stage of every picture within the tolerances of the case.
pub fn check(case: &Case, report: &mut Report<'_>) -> Outcome {
    within(case, RESIZED, report)
}

/// As [`check`], with the tolerance of resized pictures (most levels, mean of levels) given.
pub fn within(case: &Case, resized: (f64, f64), report: &mut Report<'_>) -> Outcome {
    let images = case.json["images"].as_array().ok_or("case.json lists no images")?;
    for image in images {
        let file = image["file"].as_str().ok_or("case.json lists an image without a file")?.to_string();
        let bytes = std::fs::read(case.dir.join(&file)).map_err(|e| format!("{file}: {e}"))?;
        let limits = ImageLimits::native();
        let stored = decode_ignoring_orientation(&bytes, &limits).map_err(|e| format!("{file}: {e}"))?;
        let upright = decode(&bytes, &limits).map_err(|e| format!("{file}: {e}"))?;
        let size = (image["width"].as_u64(), image["height"].as_u64());
        if size != (Some(stored.width as u64), Some(stored.height as u64)) {
            report.fail(format!("{file}: decoded as {}x{}", stored.width, stored.height));
        }
        let jpeg = bytes.starts_with(&[0xff, 0xd8]);
        let subsampled = jpeg && is_subsampled(&bytes);
        let prefix = format!("{file}.");
        let p = Preprocess {
            case: &case.json,
            image,
            file,
            tensors: &case.io,
            stored,
            upright,
            jpeg,
            subsampled,
            resized,
        };
        for name in report.family_names(&prefix) {
            if let Some(wrong) = p.check(&name[prefix.len()..], &case.io[&name]) {
                report.fail(format!("{name}: {wrong}"));
            }
            report.claim([name]);
        }
    }
    Ok(())
}

impl Preprocess<'_> {
    /// What is wrong with one stage, or nothing.
    fn check(&self, stage: &str, expected: &Array) -> Option<String> {
        match stage {
            "decoded" => compare(&self.stored, expected, self.decoding_tolerance()),
            "decoded_upright" => compare(&self.upright, expected, self.decoding_tolerance()),
            // The reference's clipping of 16-bit grey is not followed; pictures resized from it are still checked.
            "decoded_peer_clipped" => None,
            "pixel_values" => self.check_pixel_values(expected),
            "dvae_input" => self.check_dvae_input(expected),
            _ => self.check_resized(stage, expected),
        }
    }

    fn decoding_tolerance(&self) -> (f64, f64) {
        match (self.jpeg, self.subsampled) {
            (false, _) => (0.0, 0.0),
            (true, false) => (6.0, 1.5),
            (true, true) => (48.0, 1.5),
        }
    }

    /// `[viewN.]FILTER_SIDE[_crop_SIDE][_upright|_peer_clipped]`
    fn check_resized(&self, stage: &str, expected: &Array) -> Option<String> {
        let (view, rest) = match stage.split_once('.') {
            Some((view, rest)) => (view.strip_prefix("view").and_then(|v| v.parse::<usize>().ok()), rest),
            None => (None, stage),
        };
        let (upright, rest) = cut_suffix(rest, "_upright");
        let (clipped, rest) = cut_suffix(rest, "_peer_clipped");
        let (filter, sizes) = rest.split_once('_')?;
        let Some(filter) = filter_named(filter) else { return Some("unknown filter".into()) };
        let sizes: Vec<&str> = sizes.split("_crop_").collect();
        let make = |picture: &Picture| match (view, sizes.as_slice()) {
            (Some(n), _) => self.view(picture, n, filter, expected),
            (None, [side, _]) => centre(picture, side.parse().unwrap(), filter, expected),
            _ => resize(picture, picture.whole(), expected.shape[1], expected.shape[0], filter),
        };
        let suffix = if upright { "_upright" } else { "" };
        let given = if clipped { "decoded_peer_clipped".to_string() } else { format!("decoded{suffix}") };
        let given = self.tensors.get(&format!("{}.{given}", self.file)).map(picture_of);
        let own = if upright { &self.upright } else { &self.stored };
        let from_given = given.as_ref().and_then(|g| compare(&make(g), expected, self.resized));
        if clipped {
            return if given.is_none() { Some("no decoded picture given".into()) } else { from_given };
        }
        let tolerance = if self.jpeg { RESIZED_JPEG } else { self.resized };
        from_given.or_else(|| compare(&make(own), expected, tolerance).map(|e| format!("from the file: {e}")))
    }

    fn view(&self, picture: &Picture, number: usize, filter: Filter, expected: &Array) -> Picture {
        let view = &self.image["views"][number];
        let n = |key: &str| view[key].as_u64().unwrap() as usize;
        let crop = Crop { left: n("left"), top: n("top"), width: n("width"), height: n("height") };
        let flipped = view["flip_first"].as_bool() == Some(true);
        let picture = if flipped { picture.mirrored() } else { picture.clone() };
        resize(&picture, crop, expected.shape[1], expected.shape[0], filter)
    }

    fn check_pixel_values(&self, expected: &Array) -> Option<String> {
        let config = &self.case["config"];
        let triple = |key: &str| [0, 1, 2].map(|i| config[key][i].as_f64().unwrap() as f32);
        let (mean, std) = (triple("image_mean"), triple("image_std"));
        let resized = self.resized_for(expected, "resample");
        let got = to_f32_nhwc(&resized, mean, std);
        let smallest = std.iter().copied().fold(f32::MAX, f32::min);
        compare_planes(&got, expected, 2e-3 + self.levels() / 255.0 / f64::from(smallest))
    }

    fn check_dvae_input(&self, expected: &Array) -> Option<String> {
        let got = to_dvae_nhwc(&self.resized_for(expected, "second_resample"));
        compare_planes(&got, expected, 1e-6 + 0.8 / 255.0 * self.levels())
    }

    fn levels(&self) -> f64 {
        if self.jpeg { RESIZED_JPEG.0 } else { self.resized.0 }
    }

    /// The whole picture at the size of a `[3, H, W]` tensor with the filter of the configuration.
    fn resized_for(&self, expected: &Array, key: &str) -> Picture {
        let described = self.case["config"][key].as_str().unwrap_or("");
        let filter = filter_named(described.split(' ').next().unwrap_or("")).expect("filter in config");
        resize(&self.stored, self.stored.whole(), expected.shape[2], expected.shape[1], filter)
    }
}

fn cut_suffix<'a>(text: &'a str, suffix: &str) -> (bool, &'a str) {
    text.strip_suffix(suffix).map_or((false, text), |rest| (true, rest))
}

fn filter_named(name: &str) -> Option<Filter> {
    Some(match name {
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        "bilinear" => Filter::Bilinear,
        "box" => Filter::Box,
        _ => return None,
    })
}

/// Resizes to a square, then cuts out the middle.
fn centre(picture: &Picture, side: usize, filter: Filter, expected: &Array) -> Picture {
    let (height, width) = (expected.shape[0], expected.shape[1]);
    let whole = resize(picture, picture.whole(), side, side, filter);
    whole.cut(Crop { left: (side - width) / 2, top: (side - height) / 2, width, height })
}

fn picture_of(tensor: &Array) -> Picture {
    let rgb = tensor.values.iter().map(|&v| v as u8).collect();
    Picture { width: tensor.shape[1], height: tensor.shape[0], rgb }
}

/// Chroma stored coarser than luma: not all sampling factors in the frame header are equal.
fn is_subsampled(bytes: &[u8]) -> bool {
    let mut at = 2;
    while at + 9 < bytes.len() {
        let (marker, length) = (bytes[at + 1], usize::from(bytes[at + 2]) << 8 | usize::from(bytes[at + 3]));
        if matches!(marker, 0xc0..=0xc2) {
            let count = usize::from(bytes[at + 9]);
            let factors: Vec<u8> = (0..count).map(|i| bytes[at + 11 + 3 * i]).collect();
            return factors.iter().any(|f| *f != factors[0]);
        }
        at += 2 + length;
    }
    false
}

/// Compares samples; the tolerance is the largest and the mean difference in levels.
fn compare(got: &Picture, expected: &Array, (max, mean): (f64, f64)) -> Option<String> {
    if expected.shape != [got.height, got.width, 3] {
        return Some(format!("shape [{}, {}, 3], expected {:?}", got.height, got.width, expected.shape));
    }
    let differences = got.rgb.iter().zip(&expected.values).map(|(&g, &e)| (f64::from(g) - e).abs());
    let (sum, largest) = differences.fold((0.0, 0.0f64), |(s, m), d| (s + d, m.max(d)));
    let average = sum / got.rgb.len() as f64;
    (largest > max || average > mean).then(|| {
        format!("differs by up to {largest} (allowed {max}), {average:.4} on average (allowed {mean})")
    })
}

/// Compares `[H, W, 3]` values with a `[3, H, W]` tensor.
fn compare_planes(got: &[f32], expected: &Array, tolerance: f64) -> Option<String> {
    let plane = expected.shape[1] * expected.shape[2];
    if got.len() != expected.values.len() || expected.shape[0] != 3 {
        return Some(format!("{} values, expected shape {:?}", got.len(), expected.shape));
    }
    let difference = |i: usize, g: f32| (f64::from(g) - expected.values[i % 3 * plane + i / 3]).abs();
    let largest = got.iter().enumerate().map(|(i, &g)| difference(i, g)).fold(0.0, f64::max);
    (largest > tolerance).then(|| format!("differs by up to {largest:e} (allowed {tolerance:e})"))
}
