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
