//! Decoding, resizing and masking against numbers that other programs computed.

mod support {
    pub mod data;
    pub mod tensors;
}

use std::path::PathBuf;

use support::data::{check_masking, check_preprocess, check_preprocess_within};

/// Case folders of a kind, in the folder named by BEIT_FIXTURES or in the repository's own.
fn cases(kind: &str) -> Vec<PathBuf> {
    let root = std::env::var_os("BEIT_FIXTURES").map_or_else(|| "tests/fixtures".into(), PathBuf::from);
    let is_kind = |dir: &PathBuf| {
        let text = std::fs::read(dir.join("case.json")).unwrap_or_default();
        serde_json::from_slice(&text).is_ok_and(|case: serde_json::Value| case["kind"] == kind)
    };
    let entries = std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut dirs: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).filter(is_kind).collect();
    dirs.sort();
    dirs
}

fn run(kind: &str, check: fn(&std::path::Path) -> Vec<String>) {
    let mut failures = Vec::new();
    for dir in cases(kind) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        failures.extend(check(&dir).into_iter().map(|e| format!("{name}: {e}")));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn preprocess_cases() {
    run("preprocess", check_preprocess);
}

#[test]
fn masking_cases() {
    run("masking", check_masking);
}

#[test]
fn resizing_is_exact_to_the_bit() {
    let mut checked = 0;
    let dir = PathBuf::from("tests/fixtures/preprocess");
    assert_eq!(check_preprocess_within(&dir, (0.0, 0.0), &mut checked), Vec::<String>::new());
    assert_eq!(checked, 48);
}
