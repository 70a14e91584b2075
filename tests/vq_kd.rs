//! The tokenizer of BEiT v2 from end to end: trained on a teacher, taken by everything that takes a tokenizer.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use beit::models::TokenizerModel;
use run::{metrics, run, text, toy};
use serde_json::Value;
use std::path::Path;

/// Sizes of the tokenizer for the toy network's grid of 4 × 4, in a file of its own.
const SIZES: &str = "[tokenizer]\nnetwork = \"vq-kd\"\nwidth = 16\ndepth = 1\nheads = 2\nmlp = 32\ncode = 8\nvocab = 16\n\
    [tokenizer-training]\nlr = 0.003\nsteps = 6\nbatch = 8\n[tokenizer-training.distillation]\nrestart-below = 0.1\n\
    [model]\nimage = [16, 16]\nvocab = 16\n[mask]\nnum-mask-patches = 6\n[schedule]\neval-every = 3\nsave-every = 2\n";

fn fine(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    text(&output)
}

fn refused(dir: &Path, args: &[&str], words: &[&str]) {
    let output = run(dir, args);
    let said = text(&output);
    assert!(!output.status.success(), "{args:?} went through: {said}");
    for word in words {
        assert!(said.contains(word), "{args:?}: no {word:?} in {said}");
    }
}

/// A teacher of the toy network and the config of the tokenizer.
fn prepare(dir: &Path) {
    let toy = toy();
    let args =
        ["pretrain", "--adapter", "cpu", "--quiet", "--method", "pixels", "--out", "teacher", "--config"];
    fine(dir, &[&args[..], &[toy.to_str().unwrap()]].concat());
    std::fs::write(dir.join("vq.toml"), SIZES).unwrap();
}

const TRAIN: [&str; 13] = [
    "tokenizer",
    "train",
    "--adapter",
    "cpu",
    "--quiet",
    "--network",
    "vq-kd",
    "--config",
    "vq.toml",
    "--data",
    "synthetic:64:32",
    "--teacher",
    "teacher",
];

fn train(dir: &Path, more: &[&str]) -> String {
    fine(dir, &[&TRAIN[..], more].concat())
}

/// Stopped after any number of updates and resumed it ends with the same bytes, the codebook among them.
#[test]
fn stopped_and_resumed() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    prepare(dir);
    train(dir, &["--out", "straight"]);
    for n in ["1", "3", "4"] {
        let out = format!("stopped-{n}");
        train(dir, &["--out", &out, "--stop-after", n]);
        fine(dir, &["tokenizer", "train", "--adapter", "cpu", "--quiet", "--resume", "--out", &out]);
        assert_eq!(metrics(&dir.join("straight")), metrics(&dir.join(&out)), "metrics after {n}");
        for file in ["tokenizer.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"] {
            let of = |run: &str| {
                let at = dir.join(run).join("tokenizer/checkpoints/step-00000006");
                std::fs::read(at.join(file)).unwrap()
            };
            assert!(of("straight") == of(&out), "{file} differs after {n} updates");
        }
    }
    // Another teacher is noticed, and a missing one.
    train(dir, &["--out", "halted", "--stop-after", "2"]);
    let toy = toy();
    std::fs::rename(dir.join("teacher"), dir.join("old")).unwrap();
    let resume = ["tokenizer", "train", "--adapter", "cpu", "--resume", "--out", "halted"];
    refused(dir, &resume, &["teacher"]);
    let args =
        ["pretrain", "--adapter", "cpu", "--quiet", "--method", "pixels", "--seed", "5", "--out", "teacher"];
    fine(dir, &[&args[..], &["--config", toy.to_str().unwrap()]].concat());
    refused(dir, &resume, &["the teacher is another", "teacher"]);
}

/// Every command that takes a tokenizer takes this one.
#[test]
fn all_commands_take_it() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    prepare(dir);
    let said = train(dir, &["--out", "vq"]);
    assert!(said.contains("cosine distance to the teacher"), "{said}");
    let data = ["--adapter", "cpu", "--data", "synthetic:24:32"];
    let stats = [
        "tokenizer",
        "stats",
        "--tokenizer",
        "vq",
        "--images",
        "8",
        "--atlas",
        "atlas.png",
        "--json",
        "s.json",
    ];
    let said = fine(dir, &[&stats[..], &data].concat());
    assert!(said.contains("cosine of cell and code") && said.contains("error of mean patches"), "{said}");
    let stats: Value = serde_json::from_slice(&std::fs::read(dir.join("s.json")).unwrap()).unwrap();
    assert!(stats["network"] == "vq-kd" && stats.get("kl").is_none() && stats["code_cosine"].is_number());
    assert!(dir.join("atlas.png").is_file());
    let encode = ["tokenizer", "encode", "--quiet", "--tokenizer", "vq", "--out", "ids"];
    fine(dir, &[&encode[..], &data].concat());
    let shown =
        ["tokenizer", "reconstruct", "--adapter", "cpu", "--tokenizer", "vq", "--image", "synthetic:2"];
    fine(dir, &[&shown[..], &["--out", "tokens.png"]].concat());
    let toy = toy();
    let toy = toy.to_str().unwrap();
    for (out, more) in [("plain", &[][..]), ("cached", &["--token-cache", "2"])] {
        let args =
            ["pretrain", "--adapter", "cpu", "--quiet", "--config", toy, "--tokenizer", "vq", "--out", out];
        fine(dir, &[&args[..], more].concat());
        assert!(dir.join(out).join("checkpoints/step-00000012/tokenizer.json").is_file());
    }
    // Trained first by pre-training itself, where a config names the teacher.
    let recipe = SIZES.replace("restart-below = 0.1", "restart-below = 0.1\nteacher = \"teacher\"");
    let recipe = format!("{recipe}[training]\nsteps = 2\nbatch = 4\nwarmup = 1\n");
    std::fs::write(dir.join("both.toml"), recipe).unwrap();
    let args =
        ["pretrain", "--adapter", "cpu", "--quiet", "--config", "both.toml", "--data", "synthetic:64:32"];
    fine(dir, &[&args[..], &["--seed", "7", "--out", "both"]].concat());
    assert!(dir.join("both/tokenizer/checkpoints/step-00000006/tokenizer.json").is_file());
    let look =
        ["reconstruct", "--adapter", "cpu", "--model", "plain", "--image", "synthetic:1", "--rounds", "2"];
    let said = fine(dir, &[&look[..], &["--out", "sheets"]].concat());
    assert!(said.contains("patches hidden"), "{said}");
    files_are_checked(dir);
    let look =
        ["reconstruct", "--adapter", "cpu", "--model", "plain", "--image", "synthetic:1", "--out", "own"];
    let warned = |tokenizer: &str| fine(dir, &[&look[..], &["--tokenizer", tokenizer]].concat());
    assert!(!warned("vq").contains("another tokenizer"));
    assert!(warned("both").contains("both is another tokenizer than the one"));
    // Out to the official names and back in: the same network without mean patches, and the same ids.
    fine(dir, &["export", "vq", "--format", "official", "--out", "official"]);
    fine(dir, &["import", "official/model.pth", "--heads", "2", "--out", "back"]);
    let sizes = std::fs::read(dir.join("back/tokenizer.json")).unwrap();
    let TokenizerModel::VqKd(sizes) = serde_json::from_slice(&sizes).unwrap() else { panic!("not VQ-KD") };
    assert!(!sizes.mean_patches && sizes.vocab == 16 && sizes.heads == 2);
    let encode = ["tokenizer", "encode", "--quiet", "--tokenizer", "back", "--out", "again"];
    fine(dir, &[&encode[..], &data].concat());
    let ids = |folder: &str| std::fs::read(dir.join(folder).join("ids.npy")).unwrap();
    assert!(ids("ids") == ids("again"), "other ids after a round trip");
    refused(
        dir,
        &[
            "reconstruct",
            "--adapter",
            "cpu",
            "--model",
            "plain",
            "--tokenizer",
            "back",
            "--image",
            "synthetic:1",
            "--out",
            "x",
        ],
        &["cannot draw pictures", "mean_patches"],
    );
    assert!(!dir.join("x").exists(), "something was left behind");
}

/// A copy has the same bytes; files that do not fit each other are refused with what is wrong.
fn files_are_checked(dir: &Path) {
    fine(dir, &["import", "vq", "--out", "copy"]);
    fine(dir, &["export", "vq", "--format", "transformers", "--out", "exported"]);
    let of = |folder: &str, file: &str| std::fs::read(dir.join(folder).join(file)).unwrap();
    let own = "vq/tokenizer/checkpoints/step-00000006";
    for folder in ["copy", "exported"] {
        assert!(of(folder, "tokenizer.safetensors") == of(own, "tokenizer.safetensors"), "{folder}");
    }
    let sizes: Value = serde_json::from_slice(&of("copy", "tokenizer.json")).unwrap();
    assert_eq!(sizes, serde_json::from_slice::<Value>(&of(own, "tokenizer.json")).unwrap());
    let changed = |key: &str, value: Value| {
        let mut sizes = sizes.clone();
        sizes[key] = value;
        std::fs::write(dir.join("copy/tokenizer.json"), sizes.to_string()).unwrap();
    };
    for (key, value, words) in [
        ("vocab", 17.into(), ["quantize.embedding.weight", "[17, 8]"]),
        ("depth", 3.into(), ["3 + 1 blocks", "1 + 1 blocks"]),
        ("image", serde_json::json!([32, 32]), ["8 x 8 cells", "4 x 4 cells"]),
        ("mean-patches", false.into(), ["without mean patches", "with mean patches"]),
        ("network", "openai".into(), ["tokenizer.json", "unknown field"]),
        ("code", (1u64 << 40).into(), ["too large", "channels"]),
    ] {
        changed(key, value);
        refused(dir, &["import", "copy"], &words);
    }
    let whole = of("copy", "tokenizer.safetensors");
    std::fs::write(dir.join("copy/tokenizer.safetensors"), &whole[..whole.len() / 2]).unwrap();
    refused(dir, &["import", "copy"], &["outside the file", "tokenizer.safetensors"]);
}

/// A short training comes closer to the teacher and spreads over the codebook.
#[test]
fn a_short_training_learns() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    prepare(dir);
    train(
        dir,
        &["--out", "vq", "--vocab", "64", "--steps", "80", "--batch-size", "16", "--eval-every", "40"],
    );
    let all = metrics(&dir.join("vq"));
    let values = |key: &str| all.iter().filter_map(|m| m[key].as_f64()).collect::<Vec<_>>();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let losses = values("loss");
    let (first, last) = (mean(&losses[..5]), mean(&losses[75..]));
    assert!(last < 0.8 * first, "loss {first} at first, {last} at last");
    let held_out = values("val_cosine_distance");
    assert!(held_out.last() < held_out.first(), "held out: {held_out:?}");
    let (used, perplexity) = (values("codes_used"), values("val_perplexity"));
    assert!(used.last() >= Some(&16.0), "{used:?} of 64 codes in use, perplexity {perplexity:?}");
    let error = values("val_mae");
    assert!(error.last() < values("val_flat_picture_mae").last(), "mean patches say nothing: {error:?}");
}

/// What cannot work is refused before anything is made.
#[test]
fn misfits_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path();
    prepare(dir);
    let train = ["tokenizer", "train", "--adapter", "cpu", "--out", "x"];
    let vq = |more: &[&'static str]| [&train[..], &["--network", "vq-kd"], more].concat();
    refused(dir, &vq(&[]), &["needs a teacher", "--teacher"]);
    refused(dir, &vq(&["--teacher", "nowhere"]), &["nowhere"]);
    refused(dir, &vq(&["--teacher", "teacher"]), &["8 x 8 patches", "4 x 4", "--size 16"]);
    refused(dir, &[&train[..], &["--teacher", "teacher"]].concat(), &["--network vq-kd"]);
    refused(dir, &vq(&["--teacher", "teacher", "--beta", "2"]), &["--beta"]);
    refused(dir, &vq(&["--teacher", "teacher", "--restart-below", "-1"]), &["restart-below"]);
    assert!(!dir.join("x").exists(), "a run folder was made");
    fine(dir, &[&TRAIN[..], &["--out", "vq"]].concat());
    let data = ["--adapter", "cpu", "--data", "synthetic:8:32"];
    let stats = ["tokenizer", "stats", "--tokenizer", "vq", "--size", "32"];
    refused(dir, &[&stats[..], &data].concat(), &["8 x 8 cells", "4 x 4"]);
    // Another grid than the transformer's.
    let pretrain = ["pretrain", "--adapter", "cpu", "--tokenizer", "vq", "--out", "x"];
    refused(dir, &pretrain, &["256", "16"]);
    std::fs::write(dir.join("v.toml"), "[model]\nvocab = 16\n[tokenizer]\nvocab = 16\n").unwrap();
    refused(dir, &[&pretrain[..], &["--config", "v.toml"]].concat(), &["8 x 8 cells", "4 x 4"]);
    // A tokenizer is no teacher.
    refused(dir, &[&TRAIN[..12], &["vq", "--out", "x"]].concat(), &["vq"]);
    assert!(!dir.join("x").exists(), "a run folder was made");
}
