use serde_json::json;

use super::*;

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn fresh_names_count_up() {
    let base = tempfile::tempdir().unwrap();
    let first = RunFolder::new_default(&base.path().join("runs"), "pretrain").unwrap();
    let second = RunFolder::new_default(&base.path().join("runs"), "pretrain").unwrap();
    assert!(first.dir().ends_with("runs/pretrain-0001"));
    assert!(second.dir().ends_with("runs/pretrain-0002"));
    fs::create_dir(base.path().join("runs/pretrain-0041")).unwrap();
    let next = RunFolder::new_default(&base.path().join("runs"), "pretrain").unwrap();
    assert!(next.dir().ends_with("runs/pretrain-0042"));
}

#[test]
fn another_run_is_never_overwritten() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("mine");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("thesis.txt"), b"x").unwrap();
    let m = message(RunFolder::create(&dir, "pretrain"));
    assert!(m.contains("thesis.txt") && m.contains("--resume") && m.contains("--out"), "{m}");
    let m = message(RunFolder::open(&dir));
    assert!(m.contains("not a run folder"), "{m}");
    // what a start that failed at once leaves does not count
    let dir = base.path().join("other");
    drop(RunFolder::create(&dir, "pretrain").unwrap());
    RunFolder::create(&dir, "pretrain").unwrap().write_config("a = 1\n").unwrap();
    assert_eq!(RunFolder::open(&dir).unwrap().read_config().unwrap(), "a = 1\n");
    assert!(RunFolder::create(&dir, "pretrain").is_err());
}

#[test]
fn second_user_is_told_who_holds_it() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("run");
    let held = RunFolder::create(&dir, "pretrain").unwrap();
    held.write_config("").unwrap();
    let m = message(RunFolder::open(&dir));
    assert!(m.contains("in use") && m.contains(&format!("pid {} on host", std::process::id())), "{m}");
    drop(held);
    RunFolder::open(&dir).unwrap();
}

#[test]
fn newest_unfinished_follows_the_order_of_starts() {
    let base = tempfile::tempdir().unwrap();
    assert_eq!(newest_unfinished(&base.path().join("none"), "pretrain").unwrap(), None);
    let start = |name: &str, state| {
        let run = RunFolder::create(&base.path().join(name), "pretrain").unwrap();
        run.write_config("").unwrap();
        run.write_status(state, "pretrain", 5).unwrap();
    };
    start("z", RunState::Stopped);
    start("b", RunState::Running);
    start("a", RunState::Finished);
    fs::create_dir(base.path().join("empty")).unwrap();
    let newest = || newest_unfinished(base.path(), "pretrain").unwrap().unwrap();
    assert!(newest().ends_with("b"));
    let run = RunFolder::open(&base.path().join("z")).unwrap();
    assert_eq!(run.status().unwrap().unwrap().state, RunState::Stopped);
    run.write_status(RunState::Running, "pretrain", 6).unwrap();
    assert!(newest().ends_with("z"));
    // a run of another command is not taken up by this one
    let other = RunFolder::create(&base.path().join("other"), "classify").unwrap();
    other.write_config("").unwrap();
    other.write_status(RunState::Running, "classify", 1).unwrap();
    drop(other);
    assert_eq!(RunFolder::open(&base.path().join("other")).unwrap().task(), "classify");
    assert!(newest().ends_with("z"));
    run.write_status(RunState::Finished, "pretrain", 9).unwrap();
    assert!(newest().ends_with("b"));
}

#[test]
fn metrics_after_the_checkpoint_are_dropped() {
    let base = tempfile::tempdir().unwrap();
    let run = RunFolder::create(&base.path().join("run"), "pretrain").unwrap();
    let record = |phase: &str, step: u64| json!({"phase": phase, "step": step, "loss": 1.0 / step as f64});
    let write = |from: u64, to: u64, phase: &str| {
        let mut metrics = run.metrics().unwrap();
        (from..=to).for_each(|step| metrics.append(&record(phase, step)).unwrap());
        metrics.sync().unwrap();
    };
    write(1, 4, "tokenizer");
    write(1, 6, "pretrain");
    let straight = fs::read(run.dir().join(METRICS)).unwrap();
    assert_eq!(run.truncate_metrics_after("pretrain", 3).unwrap(), 3);
    write(4, 6, "pretrain");
    assert_eq!(fs::read(run.dir().join(METRICS)).unwrap(), straight);
    assert_eq!(run.truncate_metrics_after("tokenizer", 2).unwrap(), 8);
    assert_eq!(run.records().unwrap(), [record("tokenizer", 1), record("tokenizer", 2)]);
    // back to the start of a phase that has no records: all earlier ones stay
    assert_eq!(run.truncate_metrics_after("pretrain", 0).unwrap(), 0);
    assert_eq!(run.records().unwrap().len(), 2);
}

#[test]
fn torn_last_line_is_dropped_and_garbage_is_named() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("metrics.jsonl");
    assert_eq!(truncate_after(&path, "p", 1).unwrap(), 0);
    fs::write(&path, "{\"phase\":\"p\",\"step\":1}\n{\"phase\":\"p\",\"st").unwrap();
    assert_eq!(read_records(&path).unwrap().len(), 1);
    truncate_after(&path, "p", 9).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"phase\":\"p\",\"step\":1}\n");
    fs::write(&path, "nonsense\n{\"phase\":\"p\",\"step\":1}\n").unwrap();
    assert!(message(read_records(&path)).contains("line 1"));
    assert!(message(Metrics::open(&path).unwrap().append(&json!({"step": 1}))).contains("phase and step"));
}

#[test]
fn leftovers_of_a_killed_process_are_swept_on_open() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("run");
    let run = RunFolder::create(&dir, "pretrain").unwrap();
    run.write_config("").unwrap();
    run.write("sheets/step-1.png", b"png").unwrap();
    run.save_checkpoint(7, &[("model.safetensors".into(), vec![1, 2])]).unwrap();
    fs::write(dir.join(".config.toml.1.0.tmp"), b"half").unwrap();
    fs::create_dir(dir.join("checkpoints/.step-00000008.1.0.tmp")).unwrap();
    drop(run);
    RunFolder::open(&dir).unwrap();
    assert!(!dir.join(".config.toml.1.0.tmp").exists());
    assert!(!dir.join("checkpoints/.step-00000008.1.0.tmp").exists());
    assert_eq!(checkpoint::newest(&dir).unwrap().0.unwrap().step, 7);
}
