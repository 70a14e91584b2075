//! Starts the program in a scratch folder.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The toy config of the tests.
pub fn toy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/toy.toml")
}

/// `beit` with arguments, in a folder.
pub fn beit(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_beit"));
    // Some Vulkan drivers complain on standard error when this is not set.
    command.current_dir(dir).args(args).env("XDG_RUNTIME_DIR", dir);
    command
}

/// Runs it to the end.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    beit(dir, args).output().expect("the program starts")
}

/// A toy pre-training run on the CPU device.
pub fn pretrain(dir: &Path, args: &[&str]) -> Output {
    let config = toy();
    let config = config.to_str().expect("UTF-8 path");
    let mut all = vec!["pretrain", "--adapter", "cpu", "--config", config];
    all.extend_from_slice(args);
    run(dir, &all)
}

/// Standard error and output as text.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Every file of the checkpoints under a run, with its bytes.
pub fn checkpoint_files(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for base in ["checkpoints", "tokenizer/checkpoints"] {
        collect(&run.join(base), run, &mut files);
    }
    files.sort();
    files
}

fn collect(dir: &Path, base: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, base, files);
        } else {
            let name = path.strip_prefix(base).unwrap().display().to_string();
            files.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

/// Checks that the lines of a phase say how long training waited for data, and that the program said it at the end.
pub fn assert_data_wait(run: &Path, phase: &str, said: &str) {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let timings: Vec<_> =
        lines.filter(|l| l["phase"] == phase).filter_map(|l| l.get("timing").cloned()).collect();
    assert!(!timings.is_empty(), "no figures of time in {phase}");
    for t in &timings {
        let (wait, share) =
            (t["data_wait_seconds"].as_f64().unwrap(), t["data_wait_share"].as_f64().unwrap());
        assert!(wait >= 0.0 && (0.0..1.0).contains(&share), "{t}");
        assert!(t["seconds_per_step"].as_f64().unwrap() > 0.0, "{t}");
    }
    let line = said.lines().find(|l| l.contains("waited for data"));
    assert!(line.is_some(), "nothing of data in: {said}");
}

/// The metrics without wall-clock figures.
pub fn metrics(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let parse = |line: &str| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object_mut().unwrap().remove("timing");
        value
    };
    text.lines().map(parse).collect()
}
