//! The baselines through the command line: every method trains, stops and goes on bit for bit, and gives a model that
//! everything else takes.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{metrics, pretrain, run as beit, text};
use std::path::Path;
use std::process::Output;

const METHODS: [&str; 5] = ["pixels", "masked-patch-colour", "supervised", "dino", "moco-v3"];

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(output));
    text(output)
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "exit status: {said}");
    assert_eq!(said.lines().filter(|l| l.starts_with("error:")).count(), 1, "one message: {said}");
    words.iter().for_each(|word| assert!(said.contains(word), "no {word:?} in: {said}"));
}

fn file(dir: &Path, run: &str, name: &str) -> Vec<u8> {
    std::fs::read(dir.join(run).join("checkpoints/step-00000012").join(name)).unwrap()
}

/// Small networks, stochastic depth, micro-batches where they do not change the numbers.
#[test]
fn stopped_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for method in METHODS {
        let with = |more: &[&str]| pretrain(dir, &[&["--method", method][..], more].concat());
        let said = ok(&with(&["--out", method]));
        assert!(said.contains("loss"), "{said}");
        for n in ["1", "6"] {
            let out = format!("{method}-{n}");
            ok(&with(&["--out", &out, "--stop-after", n]));
            ok(&beit(dir, &["pretrain", "--adapter", "cpu", "--resume", "--out", &out]));
            assert_eq!(metrics(&dir.join(method)), metrics(&dir.join(&out)), "{method} stopped after {n}");
            for name in ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"] {
                assert!(
                    file(dir, method, name) == file(dir, &out, name),
                    "{method}: {name} differs after {n}"
                );
            }
        }
        let page = std::fs::read_to_string(dir.join(method).join("report.html")).unwrap();
        assert!(page.contains(method), "the report names the method");
    }
}

/// What each method leaves is fine-tuned, probed and written out as features, as any other model.
#[test]
fn every_checkpoint_is_a_model() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for method in METHODS {
        ok(&pretrain(dir, &["--method", method, "--out", method, "--steps", "4"]));
        let data = ["--data", "synthetic:60:32", "--adapter", "cpu"];
        let tune = ["finetune", "classify", "--model", method, "--steps", "2", "--batch-size", "4", "--out"];
        let out = format!("{method}-tuned");
        let said = ok(&beit(dir, &[&tune[..], &[&out], &data].concat()));
        assert!(said.contains("copied into each"), "{method}: {said}");
        ok(&beit(dir, &[&["probe", "knn", "--model", method][..], &data].concat()));
        ok(&beit(dir, &[&["features", "--model", method, "--out", "f.npy"][..], &data].concat()));
        let said = ok(&beit(dir, &["import", method]));
        assert!(said.contains("width") || said.contains("16"), "{method}: {said}");
    }
    // a segmenter from a network that knows no masks
    let tune = ["finetune", "segment", "--model", "dino", "--data", "synthetic:40:32", "--steps", "2"];
    ok(&beit(dir, &[&tune[..], &["--batch-size", "4", "--adapter", "cpu", "--out", "segmenter"]].concat()));
}

#[test]
fn ablations_of_masking() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    for (out, flags) in [
        ("uniform", &["--masking", "uniform"][..]),
        ("all", &["--predict-all"]),
        ("nothing-hidden", &["--predict-all", "--masking", "none"]),
        ("pixels", &["--method", "pixels", "--masking", "uniform"]),
    ] {
        ok(&pretrain(dir, &[&["--steps", "2", "--tokenizer-steps", "2", "--out", out][..], flags].concat()));
        let config = std::fs::read_to_string(dir.join(out).join("config.toml")).unwrap();
        assert_eq!(config.contains("predict-all = true"), flags.contains(&"--predict-all"), "{out}");
    }
    refused(&pretrain(dir, &["--masking", "none", "--out", "x"]), 2, &["predict-all"]);
    refused(&pretrain(dir, &["--masking", "stripes", "--out", "x"]), 2, &["stripes", "random"]);
}

#[test]
fn what_does_not_fit_together_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let photos = dir.join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    for i in 0..8u8 {
        image::RgbImage::from_pixel(20, 20, image::Rgb([i * 20; 3]))
            .save(photos.join(format!("{i}.png")))
            .unwrap();
    }
    refused(&pretrain(dir, &["--method", "mae", "--out", "x"]), 2, &["--method", "moco-v3"]);
    let supervised = pretrain(dir, &["--method", "supervised", "--data", "photos", "--out", "x"]);
    refused(&supervised, 1, &["no classes", "labels"]);
    refused(&pretrain(dir, &["--method", "dino", "--token-cache", "2", "--out", "x"]), 2, &["token-cache"]);
    let said =
        ok(&pretrain(dir, &["--method", "pixels", "--tokenizer", "no-such", "--steps", "1", "--out", "p"]));
    assert!(said.contains("--tokenizer is not used"), "{said}");
    // a config file may name the method and its settings
    let toml =
        std::fs::read_to_string(run::toy()).unwrap() + "\n[method]\nname = \"dino\"\nlocal-crops = 1\n";
    std::fs::write(dir.join("dino.toml"), toml).unwrap();
    ok(&beit(dir, &["pretrain", "--config", "dino.toml", "--steps", "1", "--adapter", "cpu", "--out", "d"]));
    let config = std::fs::read_to_string(dir.join("d/config.toml")).unwrap();
    assert!(config.contains("local-crops = 1") && config.contains("name = \"dino\""), "{config}");
    let both = ["pretrain", "--config", "dino.toml", "--method", "moco-v3", "--out", "x"];
    refused(&beit(dir, &both), 2, &["dino", "moco-v3"]);
    assert!(!dir.join("x").exists(), "nothing is left of a refused run");
}
