//! The CPU kernels and the shaders train alike: with the same tokenizer file and seed the losses agree.
#![cfg(all(feature = "cli", feature = "gpu"))]

#[path = "support/run.rs"]
mod run;

use run::{metrics, pretrain, run as start, text, toy};

/// Largest difference of two losses, relative to the loss where that is above 1.
const BOUND: f64 = 1e-3;

/// The loss of each update of the transformer.
fn losses(run: &std::path::Path) -> Vec<f64> {
    let all = metrics(run).into_iter().filter(|r| r["phase"] == "pretrain");
    all.filter_map(|r| r["loss"].as_f64()).collect()
}

#[test]
fn losses_agree_on_the_cpu_and_on_an_adapter() {
    let adapters = beit::gpu::list_adapters();
    let wanted = std::env::var("BEIT_ADAPTER").unwrap_or_default().to_lowercase();
    let Some(adapter) = adapters.iter().find(|a| a.name.to_lowercase().contains(&wanted)) else {
        eprintln!("NO GPU ADAPTER: the losses of the shaders were not compared");
        return;
    };
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    // the teacher of the last two lives in the pages of the moving average
    for method in ["beit", "pixels", "dino", "moco-v3"] {
        let (cpu, gpu) = (format!("{method}-cpu"), format!("{method}-gpu"));
        let output = pretrain(dir, &["--method", method, "--out", &cpu]);
        assert!(output.status.success(), "{}", text(&output));
        let config = toy();
        let config = config.to_str().expect("UTF-8 path");
        let mut args = vec!["pretrain", "--adapter", &adapter.name, "--config", config, "--out", &gpu];
        args.extend(["--method", method]);
        if method == "beit" {
            args.extend(["--tokenizer", &cpu]);
        }
        let output = start(dir, &args);
        assert!(output.status.success(), "{}", text(&output));
        let (cpu, gpu) = (losses(&dir.join(cpu)), losses(&dir.join(gpu)));
        assert_eq!((cpu.len(), gpu.len()), (12, 12), "losses of {method} on {}", adapter.name);
        // batch norm over the nearly equal class tokens of a fresh network divides by almost nothing (the gradient has
        // a norm of 300 here), so that after a few updates rounding decides
        let compared = if method == "moco-v3" { 4 } else { 12 };
        for (i, (c, g)) in cpu.iter().zip(&gpu).take(compared).enumerate() {
            assert!(
                (c - g).abs() <= BOUND * c.abs().max(1.0),
                "{method}, update {}: {c} and {g} on {}",
                i + 1,
                adapter.name
            );
        }
    }
}
