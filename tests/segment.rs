//! `finetune segment`, `eval` and `predict` from end to end on the built-in scenes and on folders; bad label maps.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{checkpoint_files, run as beit, text};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

/// A small segmentation run on the CPU session.
fn segment(dir: &Path, args: &[&str]) -> Output {
    let mut all = vec!["finetune", "segment", "--adapter", "cpu", "--quiet"];
    all.extend_from_slice(args);
    beit(dir, &all)
}

/// Eight updates of four crops.
const SHORT: [&str; 8] = ["--steps", "8", "--batch-size", "4", "--val-images", "4", "--eval-every", "8"];

fn ok(output: &Output) -> String {
    let said = text(output);
    assert!(output.status.success(), "{said}");
    said
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "exit status: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(said.lines().filter(|l| l.starts_with("error:")).count(), 1, "one message: {said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

/// Folders `images` and `maps` with pictures of `side` pixels, whose left half has class `low` and right half `high`.
fn pairs(dir: &Path, count: usize, side: u32, (low, high): (u8, u8)) {
    for folder in ["images", "maps"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for i in 0..count {
        let left = |x: u32| x < side / 2;
        let colour = |x: u32, y: u32| {
            let noise = ((x * 7 + y * 13 + i as u32 * 5) % 40) as u8;
            image::Rgb(if left(x) { [200 - noise, 40, noise] } else { [noise, 60, 210 - noise] })
        };
        image::RgbImage::from_fn(side, side, colour).save(dir.join(format!("images/{i}.png"))).unwrap();
        let class = |x: u32, _| image::Luma([if left(x) { low } else { high }]);
        image::GrayImage::from_fn(side, side, class).save(dir.join(format!("maps/{i}.png"))).unwrap();
    }
}

#[test]
fn trains_evaluates_and_predicts_on_scenes() {
    let dir = tempfile::tempdir().unwrap();
    let data = ["--data", "synthetic:80:32", "--out", "run"];
    ok(&segment(dir.path(), &[&data[..], &SHORT[..]].concat()));
    let run = dir.path().join("run");
    let table: Value = serde_json::from_slice(&std::fs::read(run.join("classes.json")).unwrap()).unwrap();
    assert_eq!(table["classes"].as_array().unwrap().len(), 11);
    assert!(run.join("report.html").is_file());

    let eval = ["eval", "--adapter", "cpu", "--model", "run", "--data", "synthetic:80:32", "--json"];
    let found: Value = serde_json::from_slice(&ok_stdout(&beit(dir.path(), &eval))).unwrap();
    // All held-out scenes are the four that training looked at last: the same counts.
    for key in ["mIoU", "mAcc", "aAcc", "pixelsCounted"] {
        assert_eq!(found[key], table[key], "{key}");
    }
    let multi = beit(dir.path(), &[&eval[..], &["--multi-scale"]].concat());
    let multi: Value = serde_json::from_slice(&ok_stdout(&multi)).unwrap();
    assert_eq!(multi["pixelsCounted"], table["pixelsCounted"]);

    pairs(dir.path(), 1, 40, (0, 1));
    let predict = ["predict", "--adapter", "cpu", "--model", "run", "images", "--out", "seen", "--json"];
    let said: Value = serde_json::from_slice(&ok_stdout(&beit(dir.path(), &predict))).unwrap();
    let map = image::open(dir.path().join(said["labels"].as_str().unwrap())).unwrap().into_luma8();
    assert_eq!(map.dimensions(), (40, 40));
    assert!(map.pixels().all(|p| p.0[0] < 11));
    assert!(image::open(dir.path().join(said["overlay"].as_str().unwrap())).unwrap().width() > 80);
    let shares = said["classes"].as_array().unwrap().iter().map(|c| c["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9);

    // A segmenter is no start for a classifier.
    let classify =
        ["finetune", "classify", "--adapter", "cpu", "--model", "run", "--data", "synthetic:80:32"];
    refused(&beit(dir.path(), &classify), 1, &["cannot start a classifier", "segmenter"]);
}

fn ok_stdout(output: &Output) -> Vec<u8> {
    ok(output);
    output.stdout.clone()
}

/// Batch norm's running statistics belong to the state: a run that was stopped ends with the same bytes.
#[test]
fn stopped_and_resumed_runs_end_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = ["--data", "synthetic:80:32", "--save-every", "3"];
    let short = [&data[..], &SHORT[..]].concat();
    ok(&segment(dir.path(), &[&short[..], &["--out", "whole"]].concat()));
    ok(&segment(dir.path(), &[&short[..], &["--out", "parts", "--stop-after", "3"]].concat()));
    ok(&segment(dir.path(), &["--resume", "--out", "parts"]));
    let last = |run: &str| -> Vec<(String, Vec<u8>)> {
        let files = checkpoint_files(&dir.path().join(run));
        files.into_iter().filter(|f| f.0.contains("step-00000008")).collect()
    };
    let (whole, parts) = (last("whole"), last("parts"));
    assert!(whole.iter().any(|f| f.0.ends_with("model.safetensors")), "{:?}", whole.iter().map(|f| &f.0));
    for (a, b) in whole.iter().zip(&parts) {
        assert!(a == b, "{} differs", a.0);
    }
    assert_eq!(whole.len(), parts.len());
}

/// Two classes that differ in colour are learned in a few updates, by either head.
#[test]
fn learns_two_colours_from_folders() {
    let dir = tempfile::tempdir().unwrap();
    pairs(dir.path(), 12, 32, (1, 2));
    let data = ["--data", "images", "--labels", "maps", "--reduce-zero-label", "--no-photometric"];
    let train =
        ["--steps", "30", "--batch-size", "4", "--eval-every", "30", "--warmup-steps", "3", "--lr", "2e-3"];
    for head in ["upernet", "setr-pup"] {
        let flags = ["--head", head, "--out", head];
        ok(&segment(dir.path(), &[&data[..], &train[..], &flags[..]].concat()));
        let table = std::fs::read(dir.path().join(head).join("classes.json")).unwrap();
        let table: Value = serde_json::from_slice(&table).unwrap();
        assert!(table["mIoU"].as_f64().unwrap() > 0.8, "{head}: {table}");
    }
}

#[test]
fn bad_label_maps_are_refused_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let data = ["--data", "images", "--labels", "maps", "--out", "run"];
    let with = |extra: &[&str]| segment(dir.path(), &[&data[..], extra].concat());
    pairs(dir.path(), 3, 32, (0, 1));
    let map = dir.path().join("maps/1.png");
    let whole = std::fs::read(&map).unwrap();
    let restore = || std::fs::write(&map, &whole).unwrap();

    image::GrayImage::new(32, 30).save(&map).unwrap();
    refused(&with(&[]), 1, &["maps/1.png", "another size", "32 x 32", "32 x 30"]);
    image::RgbImage::new(32, 32).save(&map).unwrap();
    refused(&with(&[]), 1, &["maps/1.png", "colours instead of class numbers"]);
    std::fs::write(&map, b"no picture").unwrap();
    refused(&with(&[]), 1, &["maps/1.png", "label map"]);
    std::fs::remove_file(&map).unwrap();
    refused(&with(&[]), 1, &["without a label map", "1 of 3"]);
    image::GrayImage::from_pixel(32, 32, image::Luma([9])).save(&map).unwrap();
    refused(&with(&["--classes", "2"]), 1, &["no class", "0 to 1", "9"]);
    restore();

    pairs(dir.path(), 3, 32, (4, 4));
    refused(&with(&[]), 1, &["a single class"]);
    pairs(dir.path(), 3, 32, (0, 1));
    refused(&with(&["--reduce-zero-label"]), 1, &["a single class"]);
    refused(&segment(dir.path(), &["--data", "images"]), 1, &["label maps", "--labels"]);
    refused(&segment(dir.path(), &["--data", "nowhere"]), 1, &["nowhere", "no such folder"]);
    assert!(!dir.path().join("run").exists(), "a refused command must leave nothing behind");

    refused(&with(&["--lr", "0"]), 2, &["lr", "above 0"]);
    refused(&with(&["--classes", "1"]), 2, &["classes"]);
    refused(&with(&["--image-size", "30"]), 2, &["image side", "multiple"]);
    refused(&segment(dir.path(), &["--labels", "maps"]), 2, &["built-in scenes"]);
}

/// A folder in the layout of ADE20K, its maps with palettes.
#[test]
fn the_layout_of_ade20k_with_palettes() {
    let dir = tempfile::tempdir().unwrap();
    for (part, n) in [("training", 4u8), ("validation", 2)] {
        let (images, maps) =
            (dir.path().join("ade/images").join(part), dir.path().join("ade/annotations").join(part));
        std::fs::create_dir_all(&images).unwrap();
        std::fs::create_dir_all(&maps).unwrap();
        for i in 0..n {
            image::RgbImage::from_fn(48, 36, |x, y| image::Rgb([x as u8 * 5, y as u8 * 7, i * 30]))
                .save(images.join(format!("{i}.jpg")))
                .unwrap();
            let file = std::fs::File::create(maps.join(format!("{i}.png"))).unwrap();
            let mut encoder = png::Encoder::new(file, 48, 36);
            encoder.set_color(png::ColorType::Indexed);
            encoder.set_palette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255].to_vec());
            let classes: Vec<u8> = (0..48 * 36).map(|p| (p % 48 / 12) as u8).collect();
            encoder.write_header().unwrap().write_image_data(&classes).unwrap();
        }
    }
    let flags = ["--data", "ade", "--reduce-zero-label", "--out", "run", "--steps", "2", "--batch-size", "2"];
    ok(&segment(dir.path(), &flags));
    let table: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("run/classes.json")).unwrap()).unwrap();
    assert_eq!(table["classes"].as_array().unwrap().len(), 3);
    assert_eq!(table["pixelsIgnored"], 2 * 12 * 36);
    let eval =
        ["eval", "--adapter", "cpu", "--model", "run", "--data", "ade", "--reduce-zero-label", "--json"];
    let found: Value = serde_json::from_slice(&ok_stdout(&beit(dir.path(), &eval))).unwrap();
    assert_eq!(found["mIoU"], table["mIoU"]);
}
