//! A run that was stopped or killed and resumed ends with the same bytes as one that never stopped.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use run::{beit, checkpoint_files, metrics, pretrain, text, toy};
use std::collections::BTreeSet;
use std::path::Path;

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

/// A run on a given tokenizer keeps it: resumed without the flag it goes on with the same ids; another one is refused.
#[test]
fn a_given_tokenizer_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let config = toy();
    let config = config.to_str().unwrap();
    for (out, seed) in [("tokens", "5"), ("others", "6")] {
        let args =
            ["tokenizer", "train", "--adapter", "cpu", "--config", config, "--seed", seed, "--out", out];
        let output = run::run(dir, &args);
        assert!(output.status.success(), "{}", text(&output));
    }
    for (out, more) in
        [("straight", &[][..]), ("halted", &["--stop-after", "5"]), ("swapped", &["--stop-after", "5"])]
    {
        let output = pretrain(dir, &[&["--tokenizer", "tokens", "--out", out], more].concat());
        assert!(output.status.success(), "{}", text(&output));
    }
    std::fs::rename(dir.join("tokens"), dir.join("elsewhere")).unwrap();
    let resume = ["pretrain", "--adapter", "cpu", "--resume", "--out"];
    let output = run::run(dir, &[&resume[..], &["halted"]].concat());
    assert!(output.status.success(), "{}", text(&output));
    assert_same_metrics(&dir.join("straight"), &dir.join("halted"), "on a given tokenizer");
    let output = run::run(dir, &[&resume[..], &["swapped", "--tokenizer", "others"]].concat());
    assert!(
        !output.status.success() && text(&output).contains("the tokenizer is another"),
        "{}",
        text(&output)
    );
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

/// Moments at which a run is killed, in the order in which they come: when a path that starts so appears in its
/// folder (`metrics.jsonl:3`: when that file has three lines).
const MOMENTS: &[&str] = &[
    "metrics.jsonl:3",
    "sheets/tokenizer-00000004",            // in an evaluation
    "tokenizer/checkpoints/.step-00000004", // in a save
    "tokenizer/checkpoints/step-00000004",  // between saving and going on
    "metrics.jsonl:8",
    "tokenizer/checkpoints/.step-00000008",
    "tokenizer/checkpoints/step-00000008", // between the phases
    "baselines.json",
    "sheets/pretrain-00000004",
    "checkpoints/.step-00000004",
    "checkpoints/step-00000004",
    "metrics.jsonl:18",
    "checkpoints/.step-00000008",
    "checkpoints/step-00000008",
    "metrics.jsonl:23",
    "checkpoints/.step-00000012",
    "checkpoints/step-00000012", // done, but not pruned
    ".report.html",
];

/// Everything in a run folder, and how many lines of metrics there are.
fn listing(run: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![run.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            names.insert(path.strip_prefix(run).unwrap().display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    let lines = std::fs::read(run.join("metrics.jsonl")).unwrap_or_default();
    let lines = lines.iter().filter(|b| **b == b'\n').count();
    names.extend((1..=lines).map(|n| format!("metrics.jsonl:{n}")));
    names
}

/// Starts or resumes a run and kills it as soon as `moment` has come; false if it ended before.
fn killed_at(dir: &Path, out: &str, moment: impl Fn(&BTreeSet<String>) -> bool) -> bool {
    let run = dir.join(out);
    let (config, mut args) = (toy(), vec!["pretrain", "--adapter", "cpu", "--out", out]);
    if run.join("config.toml").exists() {
        args.push("--resume");
    } else {
        // killed before it was a run
        let _ = std::fs::remove_dir_all(&run);
        args.extend(["--config", config.to_str().unwrap()]);
    }
    let before = listing(&run);
    let null = std::process::Stdio::null;
    let mut child = beit(dir, &args).stderr(null()).stdout(null()).spawn().unwrap();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{out} failed");
            return false;
        }
        let now = listing(&run);
        if moment(&now.difference(&before).cloned().collect()) {
            child.kill().unwrap();
            child.wait().unwrap();
            return true;
        }
    }
}

fn is_finished(run: &Path) -> bool {
    std::fs::read_to_string(run.join("status.json")).is_ok_and(|s| s.contains("finished"))
}

/// Resumes to the end and compares with the run that never stopped, down to the names of files left behind.
fn finish(dir: &Path, out: &str) {
    if !is_finished(&dir.join(out)) {
        let output = run::run(dir, &["pretrain", "--adapter", "cpu", "--out", out, "--resume"]);
        assert!(output.status.success(), "{}", text(&output));
    }
    assert_same(&dir.join("straight"), &dir.join(out), out);
}

/// Killed in evaluations, in and between saves, between phases, before pruning; resumed each time.
#[test]
fn killed_at_every_kind_of_moment_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    straight(dir);
    let (mut kills, enough) = (0, MOMENTS.len() / 3);
    // Moments that last a millisecond are missed by a busy machine or a fast run: then another run goes through them.
    for round in (0..8).map(|round| format!("killed-{round}")) {
        for moment in MOMENTS {
            if is_finished(&dir.join(&round)) {
                break;
            }
            let came = |new: &BTreeSet<String>| new.iter().any(|name| name.starts_with(moment));
            kills += usize::from(killed_at(dir, &round, came));
        }
        finish(dir, &round);
        if kills >= enough {
            return;
        }
    }
    panic!("killed {kills} times only");
}

/// Killed after random times, often in a row.
#[test]
fn killed_at_random_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    let start = std::time::Instant::now();
    straight(dir);
    let whole = start.elapsed();
    let mut kills = 0;
    let key = beit::rng::Key::new(5, beit::rng::Stream::Test, 0);
    for round in 0..24 {
        let out = format!("random-{}", round / 6);
        if is_finished(&dir.join(&out)) {
            continue;
        }
        let started = std::time::Instant::now();
        let limit = whole.mul_f64(0.1 + 0.7 * f64::from(key.uniform(round)));
        kills += usize::from(killed_at(dir, &out, |_| started.elapsed() > limit));
    }
    for n in 0..4 {
        finish(dir, &format!("random-{n}"));
    }
    assert!(kills > 4, "killed {kills} times only");
}
