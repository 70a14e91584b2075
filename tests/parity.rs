//! Golden numbers of other implementations: every case folder under `BEIT_FIXTURES` (default: `tests/fixtures`),
//! on the CPU session and on the shaders.
//!
//! `kind` in a folder's `case.json` chooses the check; sizes, names and tolerances come from the case, so a new case
//! of a known kind needs no change here. `BEIT_ADAPTER` names another adapter than the first.

mod parity {
    pub mod case;
    pub mod classify;
    pub mod device;
    pub mod dino;
    pub mod dvae;
    pub mod masking;
    pub mod metrics;
    pub mod mim;
    pub mod moco;
    pub mod preprocess;
    pub mod report;
    pub mod segment;
    pub mod stores;
    pub mod train_mim;
    pub mod updates;
    pub mod vit;
    pub mod vq_kd;
}

use std::io::Write;
use std::path::{Path, PathBuf};

use parity::case::{Case, Outcome};
use parity::device::Device;
use parity::report::Report;
use parity::{
    classify, dino, dvae, masking, metrics, mim, moco, preprocess, segment, train_mim, updates, vq_kd,
};

/// What a kind of case is checked with.
enum Check {
    /// On every device.
    Device(fn(&Case, &Device, &mut Report<'_>) -> Outcome),
    /// Once: nothing of it runs on a device.
    Host(fn(&Case, &mut Report<'_>) -> Outcome),
    /// Known, but not supported yet.
    NotYet,
}

/// The checks by kind.
const KINDS: &[(&str, Check)] = &[
    ("adamw", Check::Device(updates::adamw)),
    ("classify", Check::Device(classify::transformers)),
    ("dino_head", Check::Device(dino::head)),
    ("dino_loss", Check::Device(dino::loss)),
    ("dvae", Check::Device(dvae::check)),
    ("ema", Check::Device(updates::ema)),
    ("masking", Check::Host(masking::check)),
    ("metrics_segment", Check::Host(metrics::segment)),
    ("metrics_topk", Check::Device(metrics::topk)),
    ("mim", Check::Device(mim::check)),
    ("moco_v3", Check::Device(moco::check)),
    ("preprocess", Check::Host(preprocess::check)),
    ("segment", Check::Device(segment::check)),
    ("timm", Check::Device(classify::timm)),
    ("train_mim", Check::Device(train_mim::check)),
    ("vq_kd", Check::Device(vq_kd::check)),
    // a data set for runs from end to end, without numbers to compare
    ("images", Check::NotYet),
];

/// Prints even where the test harness captures the output of passing tests.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The folder named by the environment, or the repository's own.
fn root() -> PathBuf {
    std::env::var_os("BEIT_FIXTURES").map_or_else(|| "tests/fixtures".into(), PathBuf::from)
}

/// All case folders in a folder, in the order of their names. What has no description is no case, and named.
fn folders(root: &Path) -> Outcome<Vec<PathBuf>> {
    let unreadable = |e: std::io::Error| format!("BEIT_FIXTURES: {}: {e}", root.display());
    let entries: Vec<_> = std::fs::read_dir(root).map_err(unreadable)?.collect::<Result<_, _>>()?;
    let folders: Vec<PathBuf> = entries.iter().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    let (mut dirs, others): (Vec<_>, Vec<_>) =
        folders.into_iter().partition(|p| p.join("case.json").exists());
    others.iter().for_each(|p| say(&format!("NOT A CASE, it has no case.json: {}", p.display())));
    if dirs.is_empty() {
        return Err(format!("BEIT_FIXTURES: {}: no case folder in it", root.display()).into());
    }
    dirs.sort();
    Ok(dirs)
}

/// Runs one case; `None` where it does not concern this device.
fn run(case: &Case, device: Option<&Device>) -> Outcome<Option<(Vec<String>, Vec<String>)>> {
    let check = KINDS.iter().find(|k| k.0 == case.kind).map_or(&Check::NotYet, |k| &k.1);
    let mut report = Report::new(case, device.map_or("", |d| d.bound));
    match (check, device) {
        (Check::Device(check), Some(device)) => {
            case.check_listed()?;
            check(case, device, &mut report)?;
        }
        (Check::Host(check), None) => {
            case.check_listed()?;
            check(case, &mut report)?;
        }
        (Check::NotYet, None) => {
            say(&format!("SKIPPED {}: kind {} is not supported yet", case.name, case.kind));
            return Ok(None);
        }
        _ => return Ok(None),
    }
    Ok(Some(report.finish()))
}

/// Runs all cases and panics with everything that is wrong.
fn all(device: Option<&Device>) {
    let on = device.map_or("host", |d| &d.name);
    let mut failures = Vec::new();
    for dir in folders(&root()).unwrap_or_else(|e| panic!("{e}")) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match Case::read(&dir).and_then(|case| run(&case, device)) {
            Err(e) => failures.push(format!("{name} on {on}: {e}")),
            Ok(None) => {}
            Ok(Some((lines, wrong))) => {
                lines.iter().for_each(|line| say(&format!("{name} on {on}: {line}")));
                failures.extend(wrong.into_iter().map(|w| format!("{name} on {on}: {w}")));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn cpu() {
    all(Some(&Device::cpu()));
}

/// Masks, pictures: what runs on the host alone; lists the cases of kinds that are not supported.
#[test]
fn host() {
    all(None);
}

#[cfg(feature = "gpu")]
#[test]
fn shaders() {
    use beit::gpu::{Gpu, list_adapters};
    if list_adapters().is_empty() {
        say("SKIPPED parity of the shaders: NO GPU ADAPTER (sh setup.sh installs a software driver)");
        return;
    }
    let name = std::env::var("BEIT_ADAPTER").ok();
    let gpu = Gpu::create(name.as_deref()).expect("an adapter that is listed opens");
    let caps = gpu.caps();
    all(Some(&Device::gpu(gpu, caps)));
}

/// The training case on an adapter with the given kernels; `bounds` replaces those of the case.
#[cfg(feature = "gpu")]
fn train_with(what: &str, gpu: &beit::gpu::Gpu, caps: beit::ops::Caps, bounds: Option<&[(&str, f64)]>) {
    let dir = Path::new("tests/fixtures/train_mim_30steps");
    let mut case = Case::read(dir).expect("the case can be read");
    let mut device = Device::gpu(gpu.clone(), caps);
    for (group, bound) in bounds.unwrap_or_default() {
        device.bound = "stated here";
        case.json["tolerance"][*group]["stated here"] = (*bound).into();
    }
    let (lines, wrong) = run(&case, Some(&device)).expect("the case runs").expect("a case for devices");
    lines.iter().for_each(|line| say(&format!("{what}: {line}")));
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// An adapter, or a loud line.
#[cfg(feature = "gpu")]
fn adapter() -> Option<beit::gpu::Gpu> {
    if beit::gpu::list_adapters().is_empty() {
        say("SKIPPED training with other kernels: NO GPU ADAPTER (sh setup.sh installs a software driver)");
        return None;
    }
    let name = std::env::var("BEIT_ADAPTER").ok();
    Some(beit::gpu::Gpu::create(name.as_deref()).expect("an adapter that is listed opens"))
}

/// Scaled errors of thirty updates in half precision: eleven binary digits in activations, none fewer in the weights.
#[cfg(feature = "gpu")]
const HALF_BOUNDS: [(&str, f64); 4] =
    [("loss", 5e-4), ("grad_norm", 2e-3), ("mid_weights", 5e-3), ("final_weights", 5e-3)];

#[cfg(feature = "gpu")]
#[test]
fn training_in_half_precision() {
    let Some(gpu) = adapter() else { return };
    let caps = beit::ops::Caps { half: true, ..gpu.caps() };
    train_with("half precision", &gpu, caps, Some(&HALF_BOUNDS));
}

/// The thirty updates with every choice that a plan can make: each variant of products, each class of kernels, everything
/// and nothing fused, halves.
#[cfg(feature = "gpu")]
#[test]
fn training_with_every_choice() {
    use beit::ops::{Caps, Fusions, ProductVariant, Tier};
    let Some(gpu) = adapter() else { return };
    let own = gpu.caps();
    for variant in ProductVariant::ALL.into_iter().filter(|v| v.runs_on(&own)) {
        let caps = Caps { products: [Some(variant); 4], ..own };
        train_with(&variant.to_string(), &gpu, caps, None);
    }
    for (what, fusions) in [("everything fused", Fusions::ALL), ("nothing fused", Fusions::NONE)] {
        train_with(what, &gpu, Caps { fusions, ..own }, None);
    }
    for tier in [Tier::Software, Tier::Hardware] {
        train_with(&format!("{tier:?} kernels"), &gpu, Caps { tier, ..own }, None);
        let half = Caps { tier, half: true, ..own };
        train_with(&format!("{tier:?} kernels in half precision"), &gpu, half, Some(&HALF_BOUNDS));
    }
    let plain = Caps { subgroup_size: 0, int64: false, ..own };
    train_with("without subgroups and 64-bit integers", &gpu, plain, None);
}

/// The resizer follows Pillow's bytes, not only the case's tolerance.
#[test]
fn resizing_is_exact_to_the_bit() {
    let case = Case::read(Path::new("tests/fixtures/preprocess")).expect("the case can be read");
    let mut report = Report::new(&case, "");
    preprocess::within(&case, (0.0, 0.0), &mut report).expect("the case can be checked");
    let (lines, failures) = report.finish();
    assert_eq!((lines, failures), (vec![format!("{} comparisons", case.io.len())], vec![]));
}

/// A folder without cases, a case without a description, or one that is damaged is an error that says what is wrong.
#[test]
fn damaged_cases_are_errors() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path().join("case");
    assert!(folders(scratch.path()).unwrap_err().to_string().contains("no case folder"));
    assert!(folders(&dir).unwrap_err().to_string().contains("BEIT_FIXTURES"));
    std::fs::create_dir(&dir).expect("a folder");
    let said = |json: Option<&str>| {
        if let Some(json) = json {
            std::fs::write(dir.join("case.json"), json).expect("a file");
        }
        let case = Case::read(&dir).map_err(|e| e.to_string())?;
        run(&case, Some(&Device::cpu())).map(|found| found.is_some()).map_err(|e| e.to_string())
    };
    let fails = |json, with: &str| {
        let error = said(json).expect_err(with);
        assert!(error.contains(with), "{error} does not say {with}");
    };
    fails(None, "case.json");
    assert!(folders(scratch.path()).is_err());
    fails(Some("{"), "case.json");
    assert_eq!(folders(scratch.path()).expect("one folder"), vec![dir.clone()]);
    fails(Some("{}"), "no kind");
    assert_eq!(said(Some(r#"{"kind": "of the future"}"#)), Ok(false), "not skipped");
    fails(Some(r#"{"kind": "mim"}"#), "case.json: config.use_shared_relative_position_bias");
    let listed = r#"{"kind": "mim", "tensors": [{"file": "io.safetensors", "name": "in.x", "shape": [1]}]}"#;
    fails(Some(listed), "io.safetensors");
    std::fs::write(dir.join("io.safetensors"), b"12345678 not a tensor file").expect("a file");
    fails(Some(listed), "io.safetensors");
}
