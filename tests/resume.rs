//! A run that was stopped or killed and resumed ends with the same bytes as one that never stopped.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{beit, checkpoint_files, metrics, pretrain, text, toy};
use std::path::Path;
use std::time::Duration;

fn assert_same(straight: &Path, resumed: &Path, what: &str) {
    assert_same_metrics(straight, resumed, what);
    let (a, b) = (checkpoint_files(straight), checkpoint_files(resumed));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&a), names(&b), "{what}: files");
    for (a, b) in a.iter().zip(&b) {
        assert!(a.1 == b.1, "{what}: {} differs", a.0);
    }
}

fn straight(dir: &Path) {
    let output = pretrain(dir, &["--out", "straight"]);
    assert!(output.status.success(), "{}", text(&output));
}

fn assert_same_metrics(straight: &Path, resumed: &Path, what: &str) {
    let (a, b) = (metrics(straight), metrics(resumed));
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a, b, "{what}: metrics");
    }
    assert_eq!(a.len(), b.len(), "{what}: number of metrics");
}

/// Stops after every possible number of updates: in the tokenizer, between the phases, at and between checkpoints.
#[test]
fn stopped_anywhere_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    straight(dir);
    for n in 1..20 {
        let (out, n) = (format!("stop-{n}"), n.to_string());
        let output = pretrain(dir, &["--out", &out, "--stop-after", &n]);
        assert!(output.status.success(), "{}", text(&output));
        assert!(text(&output).contains("--resume"), "no word on how to go on: {}", text(&output));
        let output = run::run(dir, &["pretrain", "--adapter", "cpu", "--resume", "--out", &out]);
        assert!(output.status.success(), "{}", text(&output));
        // The stop itself leaves a checkpoint that the straight run does not have; pruning removes it in time.
        let last = dir.join(&out).join("checkpoints/step-00000012");
        assert!(last.is_dir(), "no last checkpoint after stopping at {n}");
        assert_same_metrics(&dir.join("straight"), &dir.join(&out), &out);
        for name in ["model.safetensors", "optimizer.safetensors", "tokenizer.safetensors", "state.json"] {
            let of = |run: &str| {
                std::fs::read(dir.join(run).join("checkpoints/step-00000012").join(name)).unwrap()
            };
            assert!(of("straight") == of(&out), "{name} differs after stopping at {n}");
        }
    }
}

/// The same command twice gives the same bytes, whatever the number of threads.
#[test]
fn same_command_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    straight(dir);
    for (out, workers) in [("again", "1"), ("threads", "3")] {
        let output = pretrain(dir, &["--out", out, "--workers", workers]);
        assert!(output.status.success(), "{}", text(&output));
        assert_same(&dir.join("straight"), &dir.join(out), out);
    }
    let config = toy();
    let one = beit(
        dir,
        &["pretrain", "--adapter", "cpu", "--config", config.to_str().unwrap(), "--out", "one-thread"],
    )
    .env("RAYON_NUM_THREADS", "1")
    .output()
    .unwrap();
    assert!(one.status.success(), "{}", text(&one));
    assert_same(&dir.join("straight"), &dir.join("one-thread"), "one thread");
}

/// Killed at arbitrary moments, resumed until it is done.
#[test]
#[ignore = "known failure: after some kills the metrics differ from those of an uninterrupted run"]
fn killed_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    straight(dir);
    let config = toy();
    let mut kills = 0;
    for round in 0..60 {
        let mut args = vec!["pretrain", "--adapter", "cpu", "--out", "killed"];
        if dir.join("killed/config.toml").exists() {
            args.push("--resume");
        } else {
            let _ = std::fs::remove_dir_all(dir.join("killed"));
            args.extend(["--config", config.to_str().unwrap()]);
        }
        let mut child = beit(dir, &args)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(60 + 37 * round % 300));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    let status = std::fs::read_to_string(dir.join("killed/status.json")).unwrap();
    if !status.contains("finished") {
        let output = run::run(dir, &["pretrain", "--adapter", "cpu", "--out", "killed", "--resume"]);
        assert!(output.status.success(), "{}", text(&output));
    }
    assert!(kills > 0, "the run was never killed");
    assert_same(&dir.join("straight"), &dir.join("killed"), "killed");
}
