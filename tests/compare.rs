//! `beit compare` through the command line: killed and started again it ends with the same numbers, finished cells are
//! kept, and the table comes in three forms.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{beit, run as finish, text};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// A comparison of seconds.
const SHORT: [&str; 20] = [
    "compare",
    "--adapter",
    "cpu",
    "--data",
    "synthetic:100:32",
    "--labels-per-class",
    "2",
    "--maps",
    "6",
    "--steps",
    "3",
    "--tokenizer-steps",
    "3",
    "--intermediate-steps",
    "2",
    "--finetune-steps",
    "2",
    "--segment-steps",
    "2",
    "--quiet",
];

fn cells(out: &Path) -> Vec<Value> {
    let table: Value = serde_json::from_slice(&std::fs::read(out.join("table.json")).unwrap()).unwrap();
    table["cells"].as_array().unwrap().clone()
}

fn compare(dir: &Path, more: &[&str]) -> String {
    let output = finish(dir, &[&SHORT[..], more].concat());
    assert!(output.status.success(), "{}", text(&output));
    text(&output)
}

#[test]
fn killed_and_started_again() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let methods = ["--methods", "scratch,beit,beit-intermediate"];
    let said = compare(dir, &[&methods[..], &["--out", "straight"]].concat());
    for word in
        ["| from scratch |", "| BEiT + intermediate fine-tuning | all |", "segmentation, mIoU", "91.8"]
    {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    let straight = cells(&dir.join("straight"));
    assert_eq!(straight.len(), 3 * 4, "methods × tasks");
    assert!(straight.iter().all(|c| (0.0..=1.0).contains(&c["value"].as_f64().unwrap())));
    let page = std::fs::read_to_string(dir.join("straight/table.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<td>BEiT</td>"));
    assert_eq!(std::fs::read_to_string(dir.join("straight/table.md")).unwrap().lines().count(), 9);

    // killed in the middle of pre-training, and once more in a fine-tuning
    for moment in ["seed-0/beit/pretrain/metrics.jsonl", "seed-0/beit/segment/metrics.jsonl"] {
        let args = [&SHORT[..], &methods, &["--out", "killed"]].concat();
        let mut child = beit(dir, &args).spawn().unwrap();
        let (file, started) = (dir.join("killed").join(moment), Instant::now());
        while !file.is_file() && child.try_wait().unwrap().is_none() {
            assert!(started.elapsed() < Duration::from_secs(300), "nothing happens");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    compare(dir, &[&methods[..], &["--out", "killed"]].concat());
    assert_eq!(cells(&dir.join("killed")), straight);

    // finished cells are kept when a method or a seed comes in
    let file = dir.join("straight/seed-0/beit/knn.json");
    let before = std::fs::metadata(&file).unwrap().modified().unwrap();
    let more = ["--methods", "scratch,masked-patch-colour,beit", "--tasks", "knn", "--out", "straight"];
    let said = compare(dir, &[&more[..], &["--seeds", "2"]].concat());
    assert!(said.contains(" ± "), "spread over seeds: {said}");
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), before);
    assert_eq!(cells(&dir.join("straight")).len(), 3 * 2);
}

#[test]
fn what_does_not_fit_is_said_before_anything_runs() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let refused = |more: &[&str], words: &[&str]| {
        let output = finish(dir, &[&["compare", "--adapter", "cpu", "--out", "x"][..], more].concat());
        let said = text(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in: {said}"));
    };
    refused(&["--methods", "beit,mae"], &["--methods", "mae", "moco-v3"]);
    refused(&["--tasks", "detect"], &["--tasks", "segment"]);
    refused(&["--budget", "0"], &["--budget"]);
    refused(&["--steps", "0"], &["--steps"]);
    refused(&["--data", "photos", "--tasks", "segment"], &["--segment-data"]);
    refused(&["--preset", "huge"], &["nano"]);
    refused(&["--network", "vq-kd"], &["--network", "openai or custom"]);
    // labels that are not there are missed before anything is trained
    std::fs::create_dir_all(dir.join("plain")).unwrap();
    (0..4u8).for_each(|i| {
        image::RgbImage::from_pixel(9, 9, image::Rgb([i; 3]))
            .save(dir.join(format!("plain/{i}.png")))
            .unwrap()
    });
    let output =
        finish(dir, &["compare", "--adapter", "cpu", "--out", "z", "--data", "plain", "--methods", "beit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no classes") && !dir.join("z").exists(), "{}", text(&output));
    // a folder that compares something else
    std::fs::create_dir_all(dir.join("x")).unwrap();
    let small = [
        "--methods",
        "scratch",
        "--tasks",
        "knn",
        "--data",
        "synthetic:60:32",
        "--out",
        "y",
        "--adapter",
        "cpu",
    ];
    let output = finish(dir, &[&["compare"][..], &small].concat());
    assert!(output.status.success(), "{}", text(&output));
    for other in [["--labels-per-class", "3"], ["--network", "openai"]] {
        let output = finish(dir, &[&["compare"][..], &other, &small].concat());
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains("other settings"), "{}", text(&output));
    }
}
