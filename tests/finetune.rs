//! Fine-tuning through the command line: resumed bit for bit, from any start, measured and used; bad input is refused
//! before the first step.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{checkpoint_files, metrics, pretrain, run as beit, text};
use std::path::Path;
use std::process::Output;

/// Flags of a run of a second: six updates, an evaluation and a checkpoint after every third.
const SHORT: [&str; 12] = [
    "--steps",
    "6",
    "--batch-size",
    "8",
    "--eval-every",
    "3",
    "--save-every",
    "3",
    "--warmup-steps",
    "2",
    "--lr",
    "1e-2",
];

fn classify(dir: &Path, args: &[&str]) -> Output {
    let mut all = vec!["finetune", "classify", "--adapter", "cpu"];
    // flags of the caller replace those of the short run
    SHORT.chunks(2).filter(|pair| !args.contains(&pair[0])).for_each(|pair| all.extend(pair));
    all.extend(args);
    beit(dir, &all)
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "exit status: {said}");
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "one message: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in: {said}"));
}

/// Pictures of one colour per class with a stripe: `root/class/i.png`.
fn folder(root: &Path, classes: &[(&str, [u8; 3])], each: u32) {
    for (name, colour) in classes {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        for i in 0..each {
            let pixel = |x: u32, y: u32| {
                let stripe = if (x + i) % 5 == 0 || y % 7 == i { 40 } else { 0 };
                image::Rgb(colour.map(|c| c.saturating_add(stripe)))
            };
            image::RgbImage::from_fn(20, 16, pixel).save(dir.join(format!("{i}.png"))).unwrap();
        }
    }
}

fn three(root: &Path) {
    folder(root, &[("blue", [0, 0, 200]), ("green", [0, 200, 0]), ("red", [200, 0, 0])], 12);
}

/// Everything at once: mixing, RandAugment, erasing, jitter, drop path, an average of the weights, micro-batches.
#[test]
fn stopped_anywhere_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    three(&dir.join("data"));
    let all = [
        "--data",
        "data",
        "--mixup",
        "0.8",
        "--cutmix",
        "1",
        "--aa",
        "rand-m9-mstd0.5-inc1",
        "--reprob",
        "0.5",
        "--drop-path",
        "0.3",
        "--model-ema-decay",
        "0.9",
        "--accumulate",
        "2",
        "--image-size",
        "16",
    ];
    let with = |more: &[&str]| classify(dir, &[&all[..], more].concat());
    ok(&with(&["--out", "straight"]));
    ok(&with(&["--out", "threads", "--workers", "3"]));
    assert!(checkpoint_files(&dir.join("straight")) == checkpoint_files(&dir.join("threads")));
    for n in ["1", "3", "5"] {
        let output = with(&["--out", n, "--stop-after", n]);
        assert!(text(&output).contains("beit finetune classify --resume"), "{}", text(&output));
        ok(&beit(dir, &["finetune", "classify", "--adapter", "cpu", "--resume", "--out", n]));
        assert_eq!(metrics(&dir.join("straight")), metrics(&dir.join(n)), "stopped after {n}");
        for name in ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"] {
            let of = |run: &str| {
                std::fs::read(dir.join(run).join("checkpoints/step-00000006").join(name)).unwrap()
            };
            assert!(of("straight") == of(n), "{name} differs after stopping at {n}");
        }
    }
    // a run of another command is not taken up
    refused(&beit(dir, &["pretrain", "--resume", "--out", "straight"]), 2, &["classify"]);
}

/// Pre-training, fine-tuning at another size, fine-tuning again on other classes, and everything that uses the result.
#[test]
fn from_pretraining_to_predictions() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    three(&dir.join("data/train"));
    folder(&dir.join("data/val"), &[("green", [0, 180, 20]), ("red", [180, 0, 20])], 4);
    folder(&dir.join("other"), &[("black", [0; 3]), ("white", [255; 3])], 10);
    ok(&pretrain(dir, &["--out", "pre", "--steps", "4"]));
    let said = text(&classify(
        dir,
        &["--model", "pre", "--data", "data", "--image-size", "24", "--steps", "40", "--out", "first"],
    ));
    for word in ["copied", "resized", "top-1"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    run::assert_data_wait(&dir.join("first"), "classify", &said);
    let config = std::fs::read_to_string(dir.join("first/config.toml")).unwrap();
    assert!(config.contains("per-layer") && config.contains("width = 16"), "{config}");
    // the evaluation of the run and `eval` agree
    let json: serde_json::Value = serde_json::from_str(&ok(&beit(
        dir,
        &["eval", "--model", "first", "--data", "data", "--json", "--adapter", "cpu"],
    )))
    .unwrap();
    let last = metrics(&dir.join("first")).into_iter().rev().find(|r| r.get("val_acc1").is_some()).unwrap();
    assert_eq!(json["top1"], last["val_acc1"]);
    assert!((json["loss"].as_f64().unwrap() - last["val_loss"].as_f64().unwrap()).abs() < 1e-5);
    assert_eq!(json["count"], 8, "classes are matched by name: {json}");
    assert!(json["top1"].as_f64().unwrap() >= 0.75, "two plain colours are told apart: {json}");
    let said = ok(&beit(
        dir,
        &["predict", "--model", "first", "data/val/red/0.png", "--top", "1", "--adapter", "cpu"],
    ));
    assert!(said.contains("red") && said.lines().count() == 1, "{said}");
    // intermediate fine-tuning: the same command again
    let said = text(&classify(dir, &["--model", "first", "--data", "other", "--out", "second"]));
    assert!(said.contains("head.weight") && said.contains("top-1"), "{said}");
    for kind in ["linear", "knn"] {
        let said = ok(&beit(
            dir,
            &["probe", kind, "--model", "pre", "--data", "data", "--json", "--adapter", "cpu"],
        ));
        assert_eq!(said.lines().count(), 2, "one line a layer: {said}");
    }
    ok(&beit(
        dir,
        &["features", "--model", "first", "--data", "other", "--out", "f.npy", "--adapter", "cpu"],
    ));
    assert!(std::fs::read(dir.join("f.npy")).unwrap().starts_with(b"\x93NUMPY"));
    assert!(beit(dir, &["runs", "--dir", "."]).status.success());
}

#[test]
fn bad_input_is_refused_before_the_first_step() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    three(&dir.join("good"));
    folder(&dir.join("single"), &[("only", [9; 3])], 3);
    std::fs::create_dir_all(dir.join("flat")).unwrap();
    image::RgbImage::new(9, 9).save(dir.join("flat/a.png")).unwrap();
    image::RgbImage::new(9, 9).save(dir.join("flat/b.png")).unwrap();
    three(&dir.join("hollow"));
    std::fs::create_dir_all(dir.join("hollow/nothing")).unwrap();
    folder(&dir.join("alien"), &[("red", [200, 0, 0]), ("purple", [200, 0, 200])], 3);
    let refuse = |args: &[&str], code, words: &[&str]| {
        refused(&classify(dir, &[args, &["--out", "run"]].concat()), code, words);
        assert!(!dir.join("run").exists(), "a refused command must leave nothing behind");
    };
    refuse(&["--data", "single"], 1, &["classify", "class"]);
    refuse(&["--data", "flat"], 1, &["classify", "no classes"]);
    refuse(&["--data", "hollow"], 1, &["nothing", "without pictures"]);
    refuse(&["--data", "good", "--val", "alien"], 1, &["purple", "does not know"]);
    refuse(&["--data", "good", "--model", "nowhere"], 1, &["nowhere"]);
    refuse(&["--data", "good", "--layer-decay", "2"], 2, &["layer-decay"]);
    refuse(&["--data", "good", "--aa", "magic"], 2, &["--aa", "rand-m9"]);
    refuse(&["--data", "good", "--pool", "max"], 2, &["--pool", "mean"]);
    refuse(&["--data", "good", "--mixup", "-1"], 2, &["mixup"]);
    std::fs::write(dir.join("my.toml"), "[training]\nlayer-deacy = 0.5\n").unwrap();
    refuse(&["--data", "good", "--config", "my.toml"], 2, &["my.toml", "layer-deacy"]);
    // a label byte beyond the ten classes is found among all records, not when its batch comes
    std::fs::create_dir_all(dir.join("cifar")).unwrap();
    let record = |label: u8| [&[label][..], &[90; 3072]].concat();
    let records: Vec<u8> = (0..21).flat_map(|i| record(if i == 17 { 12 } else { i % 10 })).collect();
    std::fs::write(dir.join("cifar/data_batch_1.bin"), records).unwrap();
    refuse(&["--data", "cifar"], 1, &["label out of range", "record 17", "0 to 9", "12"]);
    // a masked model is no classifier
    ok(&pretrain(dir, &["--out", "pre", "--steps", "2"]));
    refused(&beit(dir, &["eval", "--model", "pre", "--data", "good"]), 1, &["not a classifier"]);
    ok(&classify(dir, &["--data", "good", "--out", "run"]));
    refused(&beit(dir, &["eval", "--model", "run", "--data", "alien"]), 1, &["purple"]);
    // a head of another class count, and names that say nothing
    folder(&dir.join("four"), &[("a", [1; 3]), ("b", [2; 3]), ("c", [3; 3]), ("d", [4; 3])], 2);
    refused(&beit(dir, &["eval", "--model", "run", "--data", "four"]), 1, &["3 classes", "a, b, c, d"]);
}

/// The test split of the digits after a few minutes (the scenario of docs/finetune.md), on the CPU device or on the
/// adapter that `BEIT_ADAPTER` names.
#[test]
#[ignore = "several minutes: BEIT_ADAPTER=llvmpipe cargo test --test finetune digits -- --ignored"]
fn digits_reach_95_percent() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/digits/digits.tar");
    let adapter = std::env::var("BEIT_ADAPTER").unwrap_or("cpu".into());
    let args = ["finetune", "classify", "--adapter", &adapter, "--model", "scratch", "--data"];
    let mut all = args.to_vec();
    all.push(digits.to_str().unwrap());
    all.extend([
        "--no-flip",
        "--crop-pct",
        "1",
        "--min-scale",
        "0.6",
        "--steps",
        "1200",
        "--lr",
        "3e-3",
        "--out",
        "run",
    ]);
    ok(&beit(dir, &all));
    let last = metrics(&dir.join("run")).into_iter().rev().find(|r| r.get("val_acc1").is_some()).unwrap();
    assert!(last["val_acc1"].as_f64().unwrap() >= 0.95, "{last}");
}

/// A few minutes of pre-training on the digits, then 20 labels a class; beside it the same fine-tuning from scratch, for
/// three draws of the labels. Pre-training must be worth its while on average (docs/finetune.md has the numbers).
#[test]
#[ignore = "twenty minutes of processor time: cargo test --test finetune short_pretraining -- --ignored --nocapture"]
fn short_pretraining_beside_none() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/digits/digits.tar");
    let data = ["--adapter", "cpu", "--data", digits.to_str().unwrap(), "--no-flip"];
    let pretrain = ["--network", "openai", "--jitter", "0", "--eval-every", "2400", "--out", "pre"];
    ok(&beit(dir, &[&["pretrain"], &data[..], &pretrain[..]].concat()));
    let few = ["--crop-pct", "1", "--min-scale", "0.6", "--labels-per-class", "20", "--lr", "3e-3"];
    let brief = ["--steps", "300", "--eval-every", "300"];
    let top1 = |model: &str, decay: &str, seed: &str| {
        let out = format!("from-{model}-{seed}");
        let start = ["--model", model, "--layer-decay", decay, "--seed", seed, "--out", &out];
        let finetune = ["finetune", "classify"];
        ok(&beit(dir, &[&finetune[..], &data[..], &few[..], &brief[..], &start[..]].concat()));
        let last = metrics(&dir.join(&out)).into_iter().rev().find_map(|r| r.get("val_acc1")?.as_f64());
        last.unwrap()
    };
    let mean = |model: &str, decay: &str| {
        let found = ["0", "1", "2"].map(|seed| top1(model, decay, seed));
        println!("20 labels a class, {model}: top-1 {found:.3?}");
        found.iter().sum::<f64>() / 3.0
    };
    let (with, without) = (mean("pre", "0.8"), mean("scratch", "1"));
    assert!(with > without, "{with:.3} after pre-training, {without:.3} from scratch");
}
