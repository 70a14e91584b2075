//! Checks of decoding, resizing and masking against the cases of kinds `preprocess` and `masking`.
//!
//! Sizes, pictures, crops and grids are read from the case, so other cases run without a change here.

use std::collections::BTreeMap;
use std::path::Path;

use beit::data::decode::decode_ignoring_orientation;
use beit::data::{Crop, Filter, ImageLimits, MaskKind, MaskSpec, Picture};
use beit::data::{decode, generate, resize, to_dvae_nhwc, to_f32_nhwc};
use beit::rng::{Key, Stream};
use serde_json::Value;

use super::tensors::{Tensor, read};

/// Most levels and mean of levels that a resized picture may differ by.
const RESIZED: (f64, f64) = (2.0, 0.1);
/// The same for one that comes from a JPEG file, whose decoders differ.
const RESIZED_JPEG: (f64, f64) = (24.0, 1.5);
/// Masks drawn per case.
const MASKS: u32 = 50_000;

fn case(dir: &Path) -> Value {
    let text = std::fs::read(dir.join("case.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

struct Preprocess<'a> {
    case: &'a Value,
    image: &'a Value,
    file: String,
    tensors: &'a BTreeMap<String, Tensor>,
    stored: Picture,
    upright: Picture,
    jpeg: bool,
    subsampled: bool,
    resized: (f64, f64),
}

/// All mismatches of a case of kind `preprocess`, with the tolerance of resized pictures (most levels, mean of
/// levels) given; also counts the comparisons in `checked`.
pub fn check_preprocess_within(dir: &Path, resized: (f64, f64), checked: &mut usize) -> Vec<String> {
    let case = case(dir);
    let tensors = read(&dir.join("io.safetensors"));
    let mut failures = Vec::new();
    let mut claimed = 0;
    for image in case["images"].as_array().unwrap() {
        let file = image["file"].as_str().unwrap().to_string();
        let bytes = std::fs::read(dir.join(&file)).unwrap();
        let limits = ImageLimits::native();
        let (stored, upright) = match (decode_ignoring_orientation(&bytes, &limits), decode(&bytes, &limits))
        {
            (Ok(a), Ok(b)) => (a, b),
            (Err(e), _) | (_, Err(e)) => {
                failures.push(format!("{file}: {e}"));
                continue;
            }
        };
        let size = (image["width"].as_u64(), image["height"].as_u64());
        if size != (Some(stored.width as u64), Some(stored.height as u64)) {
            failures.push(format!("{file}: decoded as {}x{}", stored.width, stored.height));
        }
        let jpeg = bytes.starts_with(&[0xff, 0xd8]);
        let subsampled = jpeg && is_subsampled(&bytes);
        let p = Preprocess {
            case: &case,
            image,
            file,
            tensors: &tensors,
            stored,
            upright,
            jpeg,
            subsampled,
            resized,
        };
        let own: Vec<_> = tensors.iter().filter(|(n, _)| n.starts_with(&format!("{}.", p.file))).collect();
        claimed += own.len();
        for (name, tensor) in own {
            *checked += 1;
            failures.extend(p.check(&name[p.file.len() + 1..], tensor).map(|e| format!("{name}: {e}")));
        }
    }
    if claimed != tensors.len() {
        failures.push(format!("{} tensors belong to no picture", tensors.len() - claimed));
    }
    failures
}

/// All mismatches of a case of kind `preprocess`.
pub fn check_preprocess(dir: &Path) -> Vec<String> {
    check_preprocess_within(dir, RESIZED, &mut 0)
}

impl Preprocess<'_> {
    /// What is wrong with one stage, or nothing.
    fn check(&self, stage: &str, expected: &Tensor) -> Option<String> {
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
    fn check_resized(&self, stage: &str, expected: &Tensor) -> Option<String> {
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

    fn view(&self, picture: &Picture, number: usize, filter: Filter, expected: &Tensor) -> Picture {
        let view = &self.image["views"][number];
        let n = |key: &str| view[key].as_u64().unwrap() as usize;
        let crop = Crop { left: n("left"), top: n("top"), width: n("width"), height: n("height") };
        let flipped = view["flip_first"].as_bool() == Some(true);
        let picture = if flipped { picture.mirrored() } else { picture.clone() };
        resize(&picture, crop, expected.shape[1], expected.shape[0], filter)
    }

    fn check_pixel_values(&self, expected: &Tensor) -> Option<String> {
        let config = &self.case["config"];
        let triple = |key: &str| [0, 1, 2].map(|i| config[key][i].as_f64().unwrap() as f32);
        let (mean, std) = (triple("image_mean"), triple("image_std"));
        let resized = self.resized_for(expected, "resample");
        let got = to_f32_nhwc(&resized, mean, std);
        let smallest = std.iter().copied().fold(f32::MAX, f32::min);
        compare_planes(&got, expected, 2e-3 + self.levels() / 255.0 / f64::from(smallest))
    }

    fn check_dvae_input(&self, expected: &Tensor) -> Option<String> {
        let got = to_dvae_nhwc(&self.resized_for(expected, "second_resample"));
        compare_planes(&got, expected, 1e-6 + 0.8 / 255.0 * self.levels())
    }

    fn levels(&self) -> f64 {
        if self.jpeg { RESIZED_JPEG.0 } else { self.resized.0 }
    }

    /// The whole picture at the size of a `[3, H, W]` tensor with the filter of the configuration.
    fn resized_for(&self, expected: &Tensor, key: &str) -> Picture {
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
fn centre(picture: &Picture, side: usize, filter: Filter, expected: &Tensor) -> Picture {
    let (height, width) = (expected.shape[0], expected.shape[1]);
    let whole = resize(picture, picture.whole(), side, side, filter);
    whole.cut(Crop { left: (side - width) / 2, top: (side - height) / 2, width, height })
}

fn picture_of(tensor: &Tensor) -> Picture {
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
fn compare(got: &Picture, expected: &Tensor, (max, mean): (f64, f64)) -> Option<String> {
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
fn compare_planes(got: &[f32], expected: &Tensor, tolerance: f64) -> Option<String> {
    let plane = expected.shape[1] * expected.shape[2];
    if got.len() != expected.values.len() || expected.shape[0] != 3 {
        return Some(format!("{} values, expected shape {:?}", got.len(), expected.shape));
    }
    let difference = |i: usize, g: f32| (f64::from(g) - expected.values[i % 3 * plane + i / 3]).abs();
    let largest = got.iter().enumerate().map(|(i, &g)| difference(i, g)).fold(0.0, f64::max);
    (largest > tolerance).then(|| format!("differs by up to {largest:e} (allowed {tolerance:e})"))
}

/// Sums over the drawn masks.
#[derive(Default)]
struct Statistics {
    count: Vec<f64>,
    components: Vec<f64>,
    inner: f64,
    outer: f64,
    cells: Vec<f64>,
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
    horizontal: f64,
    vertical: f64,
}

/// All mismatches of a case of kind `masking`.
pub fn check_masking(dir: &Path) -> Vec<String> {
    let case = case(dir);
    let tensors = read(&dir.join("io.safetensors"));
    let n = |key: &str| case["config"][key].as_u64().unwrap() as usize;
    let spec = MaskSpec {
        rows: n("rows"),
        columns: n("columns"),
        target: n("num_masking_patches"),
        min_block: n("min_num_patches"),
        max_block: n("max_num_patches"),
        min_aspect: case["config"]["min_aspect"].as_f64().unwrap(),
        kind: MaskKind::Blockwise,
    };
    if let Err(e) = spec.validate() {
        return vec![e.to_string()];
    }
    let statistics = draw(&spec);
    let test = MaskTest { case: &case, samples: n("samples") as f64, failures: Vec::new() };
    test.run(&spec, &statistics, &tensors)
}

fn draw(spec: &MaskSpec) -> Statistics {
    let (r, c) = (spec.rows, spec.columns);
    let mut s = Statistics { cells: vec![0.0; r * c], ..Statistics::default() };
    s.rows = vec![vec![0.0; c + 1]; r];
    s.columns = vec![vec![0.0; r + 1]; c];
    for i in 0..MASKS {
        let mask = generate(spec, Key::new(20, Stream::Mask, i));
        add(&mut s.count, mask.iter().filter(|m| **m).count());
        add(&mut s.components, components(&mask, c));
        for (cell, &m) in s.cells.iter_mut().zip(&mask) {
            *cell += f64::from(u8::from(m));
        }
        for (row, fill) in s.rows.iter_mut().enumerate() {
            fill[(0..c).filter(|x| mask[row * c + x]).count()] += 1.0;
        }
        for (column, fill) in s.columns.iter_mut().enumerate() {
            fill[(0..r).filter(|y| mask[y * c + column]).count()] += 1.0;
        }
        borders(&mut s, &mask, r, c);
    }
    s
}

fn borders(s: &mut Statistics, mask: &[bool], rows: usize, columns: usize) {
    let at = |y: usize, x: usize| mask[y * columns + x];
    for y in 0..rows {
        for x in 0..columns {
            let right = x + 1 < columns && at(y, x + 1);
            let down = y + 1 < rows && at(y + 1, x);
            s.horizontal += f64::from(u8::from(at(y, x) && right));
            s.vertical += f64::from(u8::from(at(y, x) && down));
            let differ =
                u8::from(x + 1 < columns && at(y, x) != right) + u8::from(y + 1 < rows && at(y, x) != down);
            s.inner += f64::from(differ);
            let edges = [x == 0, x + 1 == columns, y == 0, y + 1 == rows];
            s.outer += if at(y, x) { edges.iter().filter(|e| **e).count() as f64 } else { 0.0 };
        }
    }
}

fn add(histogram: &mut Vec<f64>, value: usize) {
    histogram.resize(histogram.len().max(value + 1), 0.0);
    histogram[value] += 1.0;
}

/// Number of 4-connected parts.
fn components(mask: &[bool], columns: usize) -> usize {
    let mut left = mask.to_vec();
    let mut parts = 0;
    while let Some(start) = left.iter().position(|m| *m) {
        parts += 1;
        let mut open = vec![start];
        while let Some(i) = open.pop() {
            if !std::mem::take(&mut left[i]) {
                continue;
            }
            let x = i % columns;
            open.extend((x > 0).then(|| i - 1));
            open.extend((x + 1 < columns).then_some(i + 1));
            open.extend(i.checked_sub(columns));
            open.extend((i + columns < left.len()).then_some(i + columns));
        }
    }
    parts
}

struct MaskTest<'a> {
    case: &'a Value,
    /// Masks behind the expected values.
    samples: f64,
    failures: Vec<String>,
}

impl MaskTest<'_> {
    fn run(mut self, spec: &MaskSpec, s: &Statistics, tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
        let n = f64::from(MASKS);
        let mean = |h: &[f64]| h.iter().enumerate().map(|(k, c)| k as f64 * c).sum::<f64>() / n;
        if s.count.len() > spec.target + 1 || s.count[0] > 0.0 {
            self.failures.push(format!("counts from 0 to {}", s.count.len() - 1));
        }
        self.mean("masked_count", mean(&s.count));
        self.mean("components", mean(&s.components));
        self.mean("perimeter_inside_grid", s.inner / n);
        self.mean("perimeter_with_grid_border", (s.inner + s.outer) / n);
        let (r, c) = (spec.rows as f64, spec.columns as f64);
        let expected = &self.case["expected"];
        let exact = expected["masked_count"]["fraction_exactly_target"].as_f64();
        let both = &expected["probability_both_masked"];
        let (horizontal, vertical) =
            (both["horizontal_neighbours"].as_f64(), both["vertical_neighbours"].as_f64());
        let fraction = expected["masked_fraction"].as_f64();
        self.probability("exactly target", s.count.get(spec.target).copied().unwrap_or(0.0) / n, exact);
        self.probability("horizontal neighbours", s.horizontal / n / (r * (c - 1.0)), horizontal);
        self.probability("vertical neighbours", s.vertical / n / ((r - 1.0) * c), vertical);
        self.probability("masked fraction", s.cells.iter().sum::<f64>() / n / (r * c), fraction);
        for (i, p) in tensors["out.cell_probability"].values.iter().enumerate() {
            self.probability(&format!("cell {i}"), s.cells[i] / n, Some(*p));
        }
        self.histogram("masked count", &s.count, &tensors["out.masked_count_histogram"].values);
        self.histogram("components", &s.components, &tensors["out.component_histogram"].values);
        for (what, got) in [("row", &s.rows), ("column", &s.columns)] {
            let expected = &tensors[&format!("out.{what}_fill_histogram")];
            for (i, h) in expected.values.chunks_exact(expected.shape[1]).enumerate() {
                self.histogram(&format!("{what} {i}"), &got[i], h);
            }
        }
        self.failures
    }

    /// Standard error of a difference of means in units of the standard deviation.
    fn scale(&self) -> f64 {
        (1.0 / f64::from(MASKS) + 1.0 / self.samples).sqrt()
    }

    fn mean(&mut self, what: &str, got: f64) {
        let expected = &self.case["expected"][what];
        let (mean, std) = (expected["mean"].as_f64().unwrap(), expected["std"].as_f64().unwrap());
        if (got - mean).abs() > 5.0 * std * self.scale() {
            self.failures.push(format!("mean {what} {got}, expected {mean}"));
        }
    }

    fn probability(&mut self, what: &str, got: f64, expected: Option<f64>) {
        let p = expected.unwrap_or_else(|| panic!("no expected probability of {what}"));
        if (got - p).abs() > 5.0 * (p * (1.0 - p)).sqrt() * self.scale() {
            self.failures.push(format!("probability of {what} {got}, expected {p}"));
        }
    }

    /// Chi-square of two histograms at significance 1e-6; cells with few expected are pooled.
    fn histogram(&mut self, what: &str, got: &[f64], expected: &[f64]) {
        let (n, m) = (f64::from(MASKS), self.samples);
        let mut pools = vec![(0.0, 0.0)];
        for k in 0..got.len().max(expected.len()) {
            let cell = |h: &[f64]| h.get(k).copied().unwrap_or(0.0);
            let last = pools.last_mut().unwrap();
            *last = (last.0 + cell(got), last.1 + cell(expected));
            // Expected in the smaller of the two samples.
            if (last.0 + last.1) * n.min(m) / (n + m) >= 20.0 {
                pools.push((0.0, 0.0));
            }
        }
        let rest = pools.pop().unwrap();
        if let Some(last) = pools.last_mut() {
            *last = (last.0 + rest.0, last.1 + rest.1);
        }
        let term = |(a, b): &(f64, f64)| ((m / n).sqrt() * a - (n / m).sqrt() * b).powi(2) / (a + b);
        let chi2: f64 = pools.iter().map(term).sum();
        let bound = chi_square_bound(pools.len().saturating_sub(1) as f64);
        if chi2 > bound {
            self.failures.push(format!("histogram of {what}: chi-square {chi2:.1} over {bound:.1}"));
        }
    }
}

/// Upper quantile of chi-square at 1e-6, by the cube-root normal approximation.
fn chi_square_bound(freedom: f64) -> f64 {
    if freedom == 0.0 {
        return 1e-9;
    }
    let v = 2.0 / (9.0 * freedom);
    freedom * (1.0 - v + 4.7534 * v.sqrt()).powi(3)
}
