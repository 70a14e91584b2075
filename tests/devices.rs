//! The CPU kernels and the shaders train alike: with the same tokenizer file and seed the losses agree.
#![cfg(all(feature = "cli", feature = "gpu"))]

#[path = "support/run.rs"]
mod run;

use run::{metrics, pretrain, run as start, text, toy};

/// Largest difference of two losses, relative to the loss where that is above 1.
const BOUND: f64 = 1e-3;

/// The loss of each update of a phase.
fn losses(run: &std::path::Path, phase: &str) -> Vec<f64> {
    let all = metrics(run).into_iter().filter(|r| r["phase"] == phase);
    all.filter_map(|r| r["loss"].as_f64()).collect()
}

/// Name of the adapter that is compared, if there is one.
fn adapter() -> Option<String> {
    let wanted = std::env::var("BEIT_ADAPTER").unwrap_or_default().to_lowercase();
    let found = beit::gpu::list_adapters().into_iter().find(|a| a.name.to_lowercase().contains(&wanted));
    if found.is_none() {
        eprintln!("NO GPU ADAPTER: the losses of the shaders were not compared");
    }
    Some(found?.name)
}

/// A tokenizer distilled from a teacher: k-means, the moving codebook and codes that start anew are the same on both.
#[test]
fn distillation_agrees_on_the_cpu_and_on_an_adapter() {
    let Some(adapter) = adapter() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    let output = pretrain(dir, &["--method", "pixels", "--out", "teacher"]);
    assert!(output.status.success(), "{}", text(&output));
    let config = "data = \"synthetic:64:32\"\nval-images = 8\n[model]\nimage = [16, 16]\n\
        [tokenizer]\nwidth = 16\ndepth = 1\nmlp = 32\ncode = 8\n[tokenizer-training]\nsteps = 6\nbatch = 8\n\
        [mask]\nnum-mask-patches = 6\n";
    std::fs::write(dir.join("vq.toml"), config).expect("a config file");
    for (out, device) in [("cpu", "cpu"), ("gpu", &adapter)] {
        let args =
            ["tokenizer", "train", "--network", "vq-kd", "--teacher", "teacher", "--config", "vq.toml"];
        let output = start(dir, &[&args[..], &["--adapter", device, "--out", out]].concat());
        assert!(output.status.success(), "{}", text(&output));
    }
    let of = |run: &str| losses(&dir.join(run), "tokenizer");
    assert_eq!((of("cpu").len(), of("gpu").len()), (6, 6));
    for (i, (c, g)) in of("cpu").iter().zip(of("gpu")).enumerate() {
        assert!((c - g).abs() <= BOUND * c.abs().max(1.0), "update {}: {c} and {g} on {adapter}", i + 1);
    }
}

#[test]
fn losses_agree_on_the_cpu_and_on_an_adapter() {
    let Some(adapter) = adapter() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    // the teacher of the last two lives in the pages of the moving average
    for method in ["beit", "pixels", "dino", "moco-v3"] {
        let (cpu, gpu) = (format!("{method}-cpu"), format!("{method}-gpu"));
        let output = pretrain(dir, &["--method", method, "--out", &cpu]);
        assert!(output.status.success(), "{}", text(&output));
        let config = toy();
        let config = config.to_str().expect("UTF-8 path");
        let mut args = vec!["pretrain", "--adapter", &adapter, "--config", config, "--out", &gpu];
        args.extend(["--method", method]);
        if method == "beit" {
            args.extend(["--tokenizer", &cpu]);
        }
        let output = start(dir, &args);
        assert!(output.status.success(), "{}", text(&output));
        let (cpu, gpu) = (losses(&dir.join(cpu), "pretrain"), losses(&dir.join(gpu), "pretrain"));
        assert_eq!((cpu.len(), gpu.len()), (12, 12), "losses of {method} on {adapter}");
        // batch norm over the nearly equal class tokens of a fresh network divides by almost nothing (the gradient has
        // a norm of 300 here), so that after a few updates rounding decides
        let compared = if method == "moco-v3" { 4 } else { 12 };
        for (i, (c, g)) in cpu.iter().zip(&gpu).take(compared).enumerate() {
            assert!(
                (c - g).abs() <= BOUND * c.abs().max(1.0),
                "{method}, update {}: {c} and {g} on {adapter}",
                i + 1
            );
        }
    }
}

/// A resumed run takes its kernels from its folder, not from what would be chosen now.
#[test]
fn a_run_goes_on_with_the_kernels_it_began_with() {
    let Some(adapter) = adapter() else { return };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (dir, config) = (scratch.path(), toy());
    let config = config.to_str().expect("UTF-8 path");
    let first = ["--adapter", &adapter, "--config", config, "--method", "pixels", "--out", "run"];
    let output = start(dir, &[&["pretrain", "--stop-after", "2"], &first[..]].concat());
    assert!(output.status.success(), "{}", text(&output));
    let resume = || {
        let args = ["pretrain", "--resume", "--adapter", &adapter, "--out", "run", "--stop-after", "2"];
        let output = start(dir, &args);
        assert!(output.status.success(), "{}", text(&output));
        text(&output).contains("another plan")
    };
    assert!(!resume(), "the same kernels are the same plan");
    let file = dir.join("run/kernels.json");
    let kept = std::fs::read_to_string(&file).expect("the choices of the run");
    let mut choices: beit::ops::KernelChoices = serde_json::from_str(&kept).expect("choices");
    choices.products = [Some(beit::ops::ProductVariant::Strip { rows: 8, swap: true }); 4];
    std::fs::write(&file, serde_json::to_string(&choices).expect("text")).expect("a file");
    assert!(resume(), "the choices in the folder were not used");
}
