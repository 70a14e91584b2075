//! Bad input gets one clear message and the right exit status; odd data sets train.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{pretrain, run as beit, text};
use std::path::Path;
use std::process::Output;

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

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A PNG of `w × h` with a smooth pattern.
fn picture(path: &Path, w: u32, h: u32) {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7 + y) as u8, (y * 5) as u8, (x + y * 3) as u8]);
    image::RgbImage::from_fn(w, h, pixel).save(path).unwrap();
}

#[test]
fn wrong_flags_exit_2() {
    let dir = scratch();
    let cases: [(&[&str], &[&str]); 13] = [
        (&["--num-mask-patches", "0"], &["num-mask-patches", "0"]),
        (&["--num-mask-patches", "17"], &["num-mask-patches", "16", "17"]),
        (&["--batch-size", "0"], &["batch-size", "1 or more"]),
        (&["--image-size", "30"], &["image side", "multiple", "30"]),
        (&["--accumulate", "3"], &["accumulate", "divisor"]),
        (&["--preset", "huge"], &["--preset", "nano", "huge"]),
        (&["--lr", "0"], &["lr", "above 0"]),
        (&["--drop-path", "1"], &["drop-path", "less than 1"]),
        (&["--steps", "0"], &["steps", "1 or more"]),
        (&["--mask-kind", "stripes"], &["--mask-kind", "blockwise"]),
        (&["--stop-after", "0"], &["--stop-after"]),
        (&["--save-every", "0"], &["save-every"]),
        (&["--network", "dalle"], &["--network", "openai, custom or vq-kd"]),
    ];
    for (flags, words) in cases {
        refused(&pretrain(dir.path(), flags), 2, words);
    }
    assert!(!dir.path().join("runs").exists(), "a refused command must leave nothing behind");
    assert_eq!(beit(dir.path(), &["pretrain", "--lr", "fast"]).status.code(), Some(2));
    assert_eq!(beit(dir.path(), &["pretrain", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn wrong_config_files_exit_2() {
    let dir = scratch();
    let file = dir.path().join("my.toml");
    for (toml, word) in
        [("[training]\nlerning-rate = 1.0\n", "lerning-rate"), ("seed = \"x\"\n", "seed"), ("[", "my.toml")]
    {
        std::fs::write(&file, toml).unwrap();
        refused(&beit(dir.path(), &["pretrain", "--config", "my.toml"]), 2, &["my.toml", word]);
    }
    refused(&beit(dir.path(), &["pretrain", "--config", "absent.toml"]), 2, &["absent.toml"]);
    // keys of a tokenizer's network that belong to another one
    std::fs::write(&file, "[tokenizer]\ngroups = 3\n").unwrap();
    let read = ["pretrain", "--config", "my.toml", "--print-config"];
    refused(&beit(dir.path(), &read), 2, &["tokenizer.groups", "network = \"openai\""]);
    assert!(beit(dir.path(), &[&read[..], &["--network", "openai"]].concat()).status.success());
    std::fs::write(&file, "[tokenizer]\nnetwork = \"custom\"\n").unwrap();
    let differ = [&read[..], &["--network", "openai"]].concat();
    refused(&beit(dir.path(), &differ), 2, &["--network", "custom, as the file says"]);
}

#[test]
fn missing_data_and_adapters() {
    let dir = scratch();
    refused(&pretrain(dir.path(), &["--data", "nowhere"]), 1, &["nowhere"]);
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    refused(&pretrain(dir.path(), &["--data", "empty"]), 1, &["empty", "png"]);
    std::fs::write(dir.path().join("zero.png"), b"").unwrap();
    refused(&pretrain(dir.path(), &["--data", "zero.png"]), 1, &["zero.png"]);
    refused(&beit(dir.path(), &["pretrain", "--adapter", "no such card"]), 1, &["no such card"]);
    refused(&beit(dir.path(), &["pretrain", "--resume"]), 2, &["--out"]);
    assert!(!dir.path().join("runs").exists());
}

#[test]
fn an_existing_run_is_never_overwritten() {
    let dir = scratch();
    assert!(pretrain(dir.path(), &["--out", "run"]).status.success());
    let before = run::checkpoint_files(&dir.path().join("run"));
    refused(&pretrain(dir.path(), &["--out", "run"]), 2, &["run", "--resume"]);
    refused(&beit(dir.path(), &["pretrain", "--resume", "--out", "run"]), 2, &["finished"]);
    refused(&beit(dir.path(), &["pretrain", "--resume", "--out", "run", "--lr", "1e-3"]), 2, &["--resume"]);
    assert!(before == run::checkpoint_files(&dir.path().join("run")));
}

/// Odd sizes, one unreadable file among good ones, fewer pictures than a batch.
#[test]
fn a_folder_of_odd_pictures_trains() {
    let dir = scratch();
    let data = dir.path().join("photos/deep/deeper");
    std::fs::create_dir_all(&data).unwrap();
    for (i, (w, h)) in [(40, 30), (17, 90), (200, 11), (64, 64), (33, 32)].into_iter().enumerate() {
        picture(&data.join(format!("{i}.png")), w, h);
    }
    std::fs::write(data.join("broken.jpg"), b"not a picture").unwrap();
    let output = pretrain(dir.path(), &["--data", "photos", "--out", "run"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("broken.jpg"), "the bad file is named: {}", text(&output));
    for file in ["config.toml", "metrics.jsonl", "report.html", "checkpoints/step-00000012/MANIFEST.json"] {
        assert!(dir.path().join("run").join(file).is_file(), "{file}");
    }
}

/// A tokenizer is reused; one that does not fit is refused before anything is written.
#[test]
fn tokenizers_are_reused() {
    let dir = scratch();
    let output = pretrain(dir.path(), &["--out", "first"]);
    assert!(output.status.success(), "{}", text(&output));
    for phase in ["tokenizer", "pretrain"] {
        run::assert_data_wait(&dir.path().join("first"), phase, &text(&output));
    }
    let output = pretrain(dir.path(), &["--out", "second", "--tokenizer", "first"]);
    assert!(output.status.success(), "{}", text(&output));
    let of = |run: &str| {
        std::fs::read(dir.path().join(run).join("checkpoints/step-00000012/tokenizer.safetensors")).unwrap()
    };
    assert!(of("first") == of("second"));
    refused(
        &beit(dir.path(), &["pretrain", "--adapter", "cpu", "--tokenizer", "first", "--out", "third"]),
        2,
        &["vocab"],
    );
    refused(&pretrain(dir.path(), &["--tokenizer", "nowhere", "--out", "third"]), 1, &["nowhere"]);
    assert!(!dir.path().join("third").exists());
}

#[test]
fn plan_info_and_runs_speak_json() {
    let dir = scratch();
    for args in [&["plan", "--preset", "base", "--json"][..], &["info", "--adapter", "cpu", "--json"]] {
        let output = beit(dir.path(), args);
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON");
    }
    let help = text(&beit(dir.path(), &["pretrain", "--help"]));
    assert!(help.contains("Examples:"), "{help}");
}

#[test]
#[cfg(unix)]
fn the_window_is_started_from_beside_the_program_or_missed_with_advice() {
    use std::os::unix::fs::PermissionsExt;
    // By another process: a file that this one holds open for writing while a neighbouring test forks is "busy".
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").args([from, to]).status().unwrap().success());
    };
    let dir = scratch();
    let program = dir.path().join("beit");
    copy(Path::new(env!("CARGO_BIN_EXE_beit")), &program);
    let start = |args: &[&str]| std::process::Command::new(&program).arg("gui").args(args).output().unwrap();
    refused(&start(&[]), 1, &["not installed", "beit-egui", "cargo build --release -p beit-egui"]);
    refused(&start(&["no-such-run"]), 1, &["no-such-run"]);
    let (script, window) = (dir.path().join("script"), dir.path().join("beit-egui"));
    std::fs::write(&script, "#!/bin/sh\necho window \"$@\"\n").unwrap();
    copy(&script, &window);
    std::fs::set_permissions(&window, std::fs::Permissions::from_mode(0o755)).unwrap();
    let run = dir.path().to_str().unwrap();
    assert_eq!(text(&start(&[run])).trim(), format!("window {run}"));
}
