//! `beit reconstruct` and `beit tokenizer …`: what they write is whole, equal from call to call, and refused with one
//! message where it cannot be made.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{pretrain, run as beit, text};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

/// A trained model of two minutes' worth of nothing: enough to look at. Made once for all tests.
fn trained() -> &'static Path {
    static RUN: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let out = pretrain(dir.path(), &["--quiet", "--out", "run"]);
        assert!(out.status.success(), "{}", text(&out));
        let path = dir.path().join("run");
        (dir, path)
    });
    path
}

fn picture(path: &Path, w: u32, h: u32) {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7 + y) as u8, (y * 5) as u8, (x + y * 3) as u8]);
    image::RgbImage::from_fn(w, h, pixel).save(path).unwrap();
}

fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(code), "exit status: {said}");
    assert!(!said.contains("panicked"), "{said}");
    let errors: Vec<&str> = said.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(errors.len(), 1, "one message: {said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

#[test]
fn sheets_and_numbers_of_one_picture_and_of_a_folder() {
    let (dir, model) = (tempfile::tempdir().unwrap(), trained().to_str().unwrap());
    picture(&dir.path().join("wide.png"), 70, 40);
    let call = |extra: &[&str]| {
        let mut args = vec!["reconstruct", "--model", model, "--adapter", "cpu"];
        args.extend(extra);
        beit(dir.path(), &args)
    };
    let all =
        ["--image", "wide.png", "--rounds", "3", "--temperature", "0.8", "--attention", "1:1", "--top", "3"];
    for n in ["a", "b"] {
        let (png, js) = (format!("{n}.png"), format!("{n}.json"));
        let out = call(&[&all[..], &["--mask", "0:0-1:1", "--out", &png, "--json", &js]].concat());
        assert!(out.status.success(), "{}", text(&out));
        assert!(text(&out).contains("4 of "), "{}", text(&out));
    }
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert_eq!(read("a.png"), read("b.png"));
    assert_eq!(read("a.json"), read("b.json"));
    let sheet = image::load_from_memory(&read("a.png")).unwrap();
    assert!(sheet.width() > 800 && sheet.height() > 400, "{} x {}", sheet.width(), sheet.height());
    let numbers = json(&dir.path().join("a.json"));
    let patches = numbers["patches"].as_array().unwrap();
    assert_eq!(numbers["figures"]["masked"], 4);
    let losses: Vec<f64> =
        patches.iter().filter(|p| p["masked"] == true).map(|p| p["loss"].as_f64().unwrap()).collect();
    let mean = losses.iter().sum::<f64>() / 4.0;
    assert!((mean - numbers["figures"]["loss"].as_f64().unwrap()).abs() < 1e-5);
    for p in patches {
        assert_eq!(p["top"].as_array().unwrap().len(), 3);
        assert_eq!(p["masked"] == true, p["iterated"].is_u64());
    }
    assert!(numbers["attention"]["rollout"].as_array().unwrap().len() == patches.len());

    let many = dir.path().join("many");
    std::fs::create_dir(&many).unwrap();
    picture(&many.join("one.png"), 40, 40);
    picture(&many.join("two.png"), 33, 90);
    std::fs::write(many.join("broken.png"), b"no picture").unwrap();
    let out = call(&["--image", "many", "--mask", "random", "--ratio", "0.5", "--out", "sheets"]);
    assert!(out.status.success() && text(&out).contains("broken.png"), "{}", text(&out));
    assert_eq!(names(&dir.path().join("sheets")), ["00001-one.png", "00002-two.png"]);
    // a mask of the picture's own size, and one of a pixel a patch
    let mask = |name: &str, w: u32, h: u32| {
        let lit = |x: u32, _| if x < w / 2 { image::Luma([255u8]) } else { image::Luma([0]) };
        image::GrayImage::from_fn(w, h, lit).save(dir.path().join(name)).unwrap();
    };
    let side = patches.len().isqrt();
    mask("same.png", 70, 40);
    mask("grid.png", side as u32, side as u32);
    for name in ["same.png", "grid.png"] {
        let out = call(&["--image", "wide.png", "--mask", name, "--out", "m.png", "--json", "m.json"]);
        assert!(out.status.success(), "{}", text(&out));
        assert_eq!(json(&dir.path().join("m.json"))["figures"]["masked"], patches.len() / 2, "{name}");
    }
}

#[test]
fn bad_input_of_reconstruct_is_refused_and_leaves_nothing() {
    let (dir, model) = (tempfile::tempdir().unwrap(), trained().to_str().unwrap());
    picture(&dir.path().join("a.png"), 40, 40);
    picture(&dir.path().join("mask.png"), 5, 7);
    image::GrayImage::new(40, 40).save(dir.path().join("black.png")).unwrap();
    std::fs::write(dir.path().join("broken.png"), b"\x89PNG nonsense").unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let before = names(dir.path());
    let base = ["reconstruct", "--model", model, "--adapter", "cpu", "--out", "x.png", "--json", "x.json"];
    let cases: [(&[&str], i32, &[&str]); 12] = [
        (
            &["--image", "a.png", "--mask", "mask.png"],
            1,
            &["mask.png", "mask of the wrong size", "40 x 40", "5 x 7"],
        ),
        (&["--image", "a.png", "--mask", "black.png"], 1, &["hides nothing"]),
        (&["--image", "a.png", "--mask", "absent.png"], 1, &["absent.png"]),
        (&["--image", "a.png", "--mask", "99:0"], 2, &["--mask", "99"]),
        (&["--image", "a.png", "--mask", ","], 2, &["hides nothing"]),
        (&["--image", "a.png", "--mask", "0", "--ratio", "0.5"], 2, &["--ratio"]),
        (&["--image", "a.png", "--ratio", "1.5"], 2, &["--ratio", "1.5"]),
        (&["--image", "broken.png"], 1, &["broken.png"]),
        (&["--image", "absent.png"], 1, &["absent.png"]),
        (&["--image", "empty"], 1, &["no pictures"]),
        (&["--image", "a.png", "--temperature", "0"], 2, &["temperature"]),
        (&["--image", "a.png", "--attention", "1000"], 2, &["--attention"]),
    ];
    for (flags, code, words) in cases {
        refused(&beit(dir.path(), &[&base[..], flags].concat()), code, words);
        assert_eq!(names(dir.path()), before, "{flags:?} left something behind");
    }
    // a tokenizer alone is no model, and a model's own tokenizer of another vocabulary does not fit
    let tokenizer = trained().join("tokenizer");
    let wrong = ["reconstruct", "--model", tokenizer.to_str().unwrap(), "--image", "a.png", "--out", "x.png"];
    assert_eq!(beit(dir.path(), &wrong).status.code(), Some(1));
    let out = beit(dir.path(), &tokenizer_train(&["--vocab", "40", "--steps", "1", "--out", "other"]));
    assert!(out.status.success(), "{}", text(&out));
    let with = [&base[..], &["--image", "a.png", "--tokenizer", "other"]].concat();
    refused(&beit(dir.path(), &with), 1, &["vocabulary", "40 ids"]);
    assert!(!dir.path().join("x.png").exists());
}

fn tokenizer_train<'a>(extra: &[&'a str]) -> Vec<&'a str> {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/configs/toy.toml");
    let mut args = vec!["tokenizer", "train", "--quiet", "--config", config];
    args.extend(["--adapter", "cpu"]);
    args.extend(extra);
    args
}

#[test]
fn a_tokenizer_is_trained_stopped_resumed_and_used() {
    let dir = tempfile::tempdir().unwrap();
    let call = |args: &[&str]| {
        let out = beit(dir.path(), args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        text(&out)
    };
    call(&tokenizer_train(&["--steps", "6", "--out", "whole"]));
    call(&tokenizer_train(&["--steps", "6", "--stop-after", "4", "--out", "parts"]));
    call(&["tokenizer", "train", "--resume", "--quiet", "--out", "parts", "--adapter", "cpu"]);
    let weights = |run: &str| {
        std::fs::read(dir.path().join(run).join("tokenizer/checkpoints/step-00000006/tokenizer.safetensors"))
            .unwrap()
    };
    assert_eq!(weights("whole"), weights("parts"), "resuming changes no bit");
    // pre-training does not take up a tokenizer's run, but takes its tokenizer
    refused(&beit(dir.path(), &["pretrain", "--resume", "--out", "whole"]), 2, &["tokenizer"]);
    let out = pretrain(dir.path(), &["--quiet", "--tokenizer", "whole", "--out", "run"]);
    assert!(out.status.success(), "{}", text(&out));

    let stats = call(&[
        "tokenizer",
        "stats",
        "--tokenizer",
        "whole",
        "--images",
        "20",
        "--adapter",
        "cpu",
        "--atlas",
        "atlas.png",
        "--json",
        "stats.json",
    ]);
    assert!(stats.contains("perplexity") && stats.contains("advice:"), "{stats}");
    let numbers = json(&dir.path().join("stats.json"));
    let vocab = numbers["vocab"].as_u64().unwrap();
    assert_eq!(numbers["used"].as_u64().unwrap() + numbers["dead"].as_u64().unwrap(), vocab);
    let counted: u64 = numbers["counts"].as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).sum();
    assert_eq!(counted, numbers["cells"].as_u64().unwrap());
    assert!(numbers["perplexity"].as_f64().unwrap() <= vocab as f64);
    assert!(image::open(dir.path().join("atlas.png")).unwrap().width() > 400);
    call(&[
        "tokenizer",
        "reconstruct",
        "--tokenizer",
        "whole",
        "--image",
        "synthetic:2",
        "--adapter",
        "cpu",
        "--out",
        "t.png",
    ]);
    assert!(image::open(dir.path().join("t.png")).is_ok());
}

/// The cheaper network is trained, resumed, measured, looked at, moved, and pre-trained on, like the other one.
#[test]
fn the_custom_network_goes_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let call = |args: &[&str]| {
        let out = beit(dir.path(), args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
        text(&out)
    };
    let custom = ["--network", "custom", "--n-hid", "8", "--straight-through"];
    let train = |extra: &[&str]| tokenizer_train(&[&custom[..], extra].concat()).join(" ");
    let split = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for line in [
        train(&["--steps", "6", "--out", "whole"]),
        train(&["--steps", "6", "--stop-after", "4", "--out", "parts"]),
        "tokenizer train --resume --quiet --out parts --adapter cpu".into(),
        "export whole --format official --out official".into(),
        "tokenizer stats --tokenizer official --size 16 --images 20 --adapter cpu --json s.json --atlas a.png".into(),
        "tokenizer reconstruct --tokenizer whole --image synthetic:2 --adapter cpu --out t.png".into(),
        "tokenizer encode --tokenizer whole --data synthetic:5 --format safetensors --out ids --adapter cpu".into(),
    ] {
        call(&split(&line).iter().map(String::as_str).collect::<Vec<_>>());
    }
    let read = |path: &str| std::fs::read(dir.path().join(path)).unwrap();
    let weights = "tokenizer/checkpoints/step-00000006/tokenizer.safetensors";
    assert_eq!(
        read(&format!("whole/{weights}")),
        read(&format!("parts/{weights}")),
        "resuming changes no bit"
    );
    assert_eq!(json(&dir.path().join("s.json"))["network"], "custom");
    let metrics = run::metrics(&dir.path().join("whole"));
    assert!(metrics.iter().any(|r| r["mse"].is_number() && r["nll"].is_null()), "{metrics:?}");
    let health =
        ["val_mae", "val_relaxed_mae", "val_hard_gap", "val_entropy", "val_perplexity", "codes_dead"];
    let measured = metrics.iter().rev().find(|r| r["val_mae"].is_number()).unwrap();
    assert!(health.iter().all(|key| measured[key].is_number()), "{measured}");
    let ids = beit::io::tensors::read_safetensors(
        &read("ids/ids.safetensors"),
        &beit::io::limits::FileLimits::native(),
    );
    assert_eq!(ids.unwrap().tensors["ids"].shape, [5, 4, 4]);
    let out = pretrain(dir.path(), &["--tokenizer", "official", "--out", "run"]);
    assert!(out.status.success() && !text(&out).contains("NaN"), "{}", text(&out));
    // a file that only names the network gets its proportions
    std::fs::write(dir.path().join("c.toml"), "[tokenizer]\nnetwork = \"custom\"\nblocks = 3\n").unwrap();
    let config = call(&["tokenizer", "train", "--config", "c.toml", "--print-config"]);
    for line in ["network = \"custom\"", "n-init = 64", "groups = 2", "blocks = 3", "pools = 2"] {
        assert!(config.lines().any(|l| l == line), "no {line} in {config}");
    }
    call(&["reconstruct", "--model", "run", "--image", "synthetic:1", "--adapter", "cpu", "--out", "sheets"]);
    assert_eq!(names(&dir.path().join("sheets")).len(), 1);
}

/// The released network by its flag: trained, and resumed from a folder whose config says nothing of networks, as the
/// first ones did.
#[test]
fn a_run_of_the_released_network_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let released = ["--quiet", "--network", "openai", "--out"];
    let whole = pretrain(dir.path(), &[&released[..], &["whole"]].concat());
    assert!(whole.status.success(), "{}", text(&whole));
    // in the middle of the transformer's training
    let parts = pretrain(dir.path(), &[&released[..], &["parts", "--stop-after", "13"]].concat());
    assert!(parts.status.success(), "{}", text(&parts));
    let file = dir.path().join("parts/config.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let silent = config.replace("network = \"openai\"\n", "");
    assert!(silent.len() < config.len() && silent.contains("groups = 3"), "{config}");
    std::fs::write(&file, silent).unwrap();
    let rest = beit(dir.path(), &["pretrain", "--resume", "--quiet", "--out", "parts", "--adapter", "cpu"]);
    assert!(rest.status.success(), "{}", text(&rest));
    let [whole, parts] = ["whole", "parts"].map(|run| run::checkpoint_files(&dir.path().join(run)));
    assert!(whole.len() > 4 && whole == parts, "resuming changes no bit");
    let metrics = run::metrics(&dir.path().join("whole"));
    assert!(metrics.iter().any(|r| r["nll"].is_number() && r["mse"].is_null()), "{metrics:?}");
}

#[test]
fn encoding_is_deterministic_and_resumable() {
    let (dir, model) = (tempfile::tempdir().unwrap(), trained().to_str().unwrap());
    let photos = dir.path().join("photos/cats");
    std::fs::create_dir_all(&photos).unwrap();
    for i in 0..5 {
        picture(&photos.join(format!("{i}.png")), 30 + 9 * i, 40);
    }
    std::fs::write(photos.join("3b.png"), b"broken").unwrap();
    let call = |out: &str, extra: &[&str]| {
        let base = [
            "tokenizer",
            "encode",
            "--tokenizer",
            model,
            "--data",
            "photos",
            "--adapter",
            "cpu",
            "--out",
            out,
        ];
        beit(dir.path(), &[&base[..], extra].concat())
    };
    assert!(call("whole", &[]).status.success());
    let out = call("parts", &["--stop-after", "2"]);
    assert!(out.status.success() && text(&out).contains("stopped after 2 of 6"), "{}", text(&out));
    assert!(!dir.path().join("parts/ids.npy").exists());
    assert!(call("parts", &[]).status.success());
    for name in ["ids.npy", "index.jsonl", "ids.json"] {
        let read = |d: &str| std::fs::read(dir.path().join(d).join(name)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{name}");
    }
    let index = std::fs::read_to_string(dir.path().join("whole/index.jsonl")).unwrap();
    let lines: Vec<Value> = index.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[4]["error"].is_string() && lines[4]["row"].is_null());
    assert_eq!(lines[5]["row"], 4);
    assert!(lines[5]["name"].as_str().unwrap().ends_with("4.png"));
    // once more does nothing; other pictures are refused
    assert!(text(&call("whole", &[])).contains("finished already"));
    picture(&photos.join("9.png"), 50, 50);
    refused(&call("whole", &[]), 2, &["stale", "pictures"]);
    refused(&call("photos", &[]), 2, &["something else"]);
}
