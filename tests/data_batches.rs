//! Batches: independent of threads, tolerant of bad files, clear about them.

use std::path::Path;
use std::sync::Arc;

use beit::data::decode::encode_png;
use beit::data::{
    Augment, BadSamples, Filter, ImageLimits, Loader, LoaderOptions, MaskSpec, MimBatch, MimBatches,
    Normalization, Picture, Samples, SyntheticSource, TokenBatches, Views, decode, open,
};

const VIEWS: Views = Views {
    patch_side: 32,
    token_side: 16,
    token_filter: Filter::Lanczos,
    augment: None,
    normalization: Normalization::HALF,
};

fn views() -> Views {
    Views { augment: Some(Augment::default()), ..VIEWS }
}

fn batches(samples: Samples, batch: usize) -> MimBatches {
    MimBatches::new(samples, batch, views(), MaskSpec::blockwise(8, 8, 25, 4)).unwrap()
}

fn scenes(count: usize) -> Samples {
    Samples::shuffled(Arc::new(SyntheticSource::new(1, count, 40)), 7, Arc::default()).unwrap()
}

fn folder(path: &Path, seed: u64, bad: &Arc<BadSamples>) -> Samples {
    let opened = open(&path.display().to_string(), 0).unwrap();
    Samples::shuffled(opened.source, seed, bad.clone()).unwrap()
}

/// A valid start of a PNG: the header chunk of a picture of this size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encode_png(&Picture::flat(1, 1, [0; 3])).unwrap();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&crc.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0u32, |crc, &b| (0..8).fold(crc ^ u32::from(b), |c, _| step(c)))
}

fn jpeg() -> Vec<u8> {
    std::fs::read("tests/fixtures/preprocess/jpeg444_250x187.jpg").unwrap()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let run = |threads: usize| -> Vec<MimBatch> {
        let maker = Arc::new(batches(scenes(20), 6));
        let options = LoaderOptions::new(threads, 3, 12);
        let mut loader = Loader::new(options, Arc::new(move |step| maker.make(step))).unwrap();
        std::iter::from_fn(|| loader.next()).map(|batch| batch.unwrap().unwrap()).collect()
    };
    let expected = run(0);
    assert_eq!(expected.len(), 9);
    for threads in [1, 2, 4] {
        assert!(run(threads) == expected, "{threads} threads");
    }
}

#[test]
fn shapes_and_ranges() {
    let batch = batches(scenes(20), 5).make(2).unwrap();
    assert_eq!(batch.patch_view.len(), 5 * 32 * 32 * 3);
    assert_eq!(batch.token_view.len(), 5 * 16 * 16 * 3);
    assert_eq!((batch.mask.len(), batch.samples.len()), (5 * 64, 5));
    assert!(batch.mask.chunks(64).all(|m| (1..=25).contains(&m.iter().filter(|x| **x).count())));
    assert!(batch.patch_view.iter().all(|v| (-1.0..=1.0).contains(v)));
    assert!(batch.token_view.iter().all(|v| (0.1..=0.9).contains(v)));
    let tokens = TokenBatches::new(scenes(20), 5, views()).unwrap().make(2).unwrap();
    assert_eq!(tokens.token_view, batch.token_view);
}

#[test]
fn a_set_smaller_than_a_batch_repeats_with_fresh_crops() {
    let samples = scenes(3);
    assert!(samples.warning(8).unwrap().contains("gone through again"));
    assert_eq!(samples.warning(3), None);
    let batch = batches(samples, 8).make(0).unwrap();
    let pictures: Vec<&[f32]> = batch.patch_view.chunks(32 * 32 * 3).collect();
    for i in 0..8 {
        for j in 0..i {
            assert!(pictures[i] != pictures[j]);
        }
    }
}

#[test]
fn impossible_settings_are_refused() {
    let mask = MaskSpec::blockwise(8, 8, 25, 4);
    let at = |r: beit::Result<MimBatches>| r.err().unwrap().at.unwrap();
    assert_eq!(at(MimBatches::new(scenes(3), 0, views(), mask.clone())), "batch-size");
    let no_side = Views { patch_side: 0, ..views() };
    assert_eq!(at(MimBatches::new(scenes(3), 1, no_side, mask.clone())), "image-size");
    let none = MaskSpec { target: 0, ..mask };
    assert_eq!(at(MimBatches::new(scenes(3), 1, views(), none)), "num-mask-patches");
}

#[test]
fn every_kind_of_bad_file_gets_a_clear_error() {
    let limits = ImageLimits::native();
    let error = |bytes: &[u8]| decode(bytes, &limits).unwrap_err().to_string();
    assert!(error(b"").contains("0 bytes"));
    assert!(error(b"plain text, renamed").contains("not a picture"));
    assert!(error(&png_header(40_000, 40_000)).contains("40000x40000"));
    assert!(error(&png_header(1_000_000_000, 1)).contains("too large"));
    // Wrong sizes that the limits allow are refused for missing data or as suspicious.
    assert!(!error(&png_header(9000, 9000)).is_empty());
    let whole = jpeg();
    for end in (1..whole.len()).step_by(131).chain([whole.len() - 1, whole.len() - 2]) {
        let text = error(&whole[..end]);
        assert!(!text.is_empty());
        if end > 1000 {
            assert!(text.contains("cut off"), "{text}");
        }
    }
    let small = encode_png(&Picture::flat(9, 9, [1, 2, 3])).unwrap();
    for end in 1..small.len() - 12 {
        assert!(decode(&small[..end], &limits).is_err(), "PNG cut at {end}");
    }
    let huge = ImageLimits { file_bytes: 10, ..limits };
    assert!(decode(&small, &huge).unwrap_err().to_string().contains("file too large"));
    assert!(decode(&png_header(5000, 10), &ImageLimits::web()).is_err());
}

#[test]
fn broken_bytes_never_panic() {
    let small = encode_png(&Picture::flat(9, 9, [1, 2, 3])).unwrap();
    for original in [small, jpeg()] {
        for i in 0..300usize {
            let mut bytes = original.clone();
            let at = i * 7919 % bytes.len();
            bytes[at] ^= 1 << (i % 8);
            let _ = decode(&bytes, &ImageLimits::web());
        }
    }
}

#[test]
fn bad_files_are_replaced_named_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let whole = jpeg();
    for i in 0..12 {
        let name = dir.path().join(format!("good{i:02}.png"));
        std::fs::write(name, encode_png(&Picture::flat(40, 40, [i * 9, 1, 2])).unwrap()).unwrap();
    }
    let bad: [(&str, &[u8]); 4] = [
        ("a.png", b""),
        ("b.jpg", &whole[..whole.len() / 2]),
        ("c.png", &png_header(40_000, 40_000)),
        ("d.png", b"text"),
    ];
    for (name, bytes) in bad {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let run = |threads: usize| {
        let bad = Arc::new(BadSamples::default());
        let maker = batches(folder(dir.path(), 5, &bad), 8);
        let mut loader =
            Loader::new(LoaderOptions::new(threads, 0, 8), Arc::new(move |s| maker.make(s))).unwrap();
        let all: Vec<MimBatch> = std::iter::from_fn(|| loader.next()).map(|b| b.unwrap().unwrap()).collect();
        (all, bad.report())
    };
    let (expected, report) = run(0);
    assert_eq!((report.bad, report.tried), (4, 16));
    let names: Vec<&str> = report.named.iter().map(|b| b.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.png", "b.jpg", "c.png", "d.png"]);
    assert!(report.named[2].reason.contains("40000x40000"));
    assert!(expected.iter().flat_map(|b| &b.samples).all(|&i| i >= 4));
    assert!(run(3) == (expected, report));
}

#[test]
fn stops_when_none_or_too_few_are_usable() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..3 {
        std::fs::write(dir.path().join(format!("{i}.png")), b"text").unwrap();
    }
    let make = |path: &Path| batches(folder(path, 1, &Arc::default()), 4).make(0).unwrap_err().to_string();
    assert!(make(dir.path()).contains("no picture can be read"));
    for i in 3..40 {
        std::fs::write(dir.path().join(format!("{i}.png")), b"text").unwrap();
    }
    assert!(make(dir.path()).contains("too many unreadable"));
}
