//! Checkpoints under damage: whatever happens to the newest one, the loader says so and takes the one before.

use std::fs;
use std::path::{Path, PathBuf};

use beit::io::checkpoint::{self, MANIFEST};

fn files(step: u64) -> Vec<(String, Vec<u8>)> {
    let weights: Vec<u8> =
        (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ step as u8).collect();
    vec![
        ("model.safetensors".into(), weights),
        ("state.json".into(), format!("{{\"step\": {step}}}\n").into_bytes()),
        ("empty.bin".into(), Vec::new()),
    ]
}

/// A run with checkpoints of steps 100 and 200; the folder of the latter.
fn run_with_two() -> (tempfile::TempDir, PathBuf) {
    let run = tempfile::tempdir().unwrap();
    checkpoint::save(run.path(), 100, &files(100)).unwrap();
    let newest = checkpoint::save(run.path(), 200, &files(200)).unwrap();
    (run, newest)
}

/// The newest is refused with a reason and step 100 loads.
fn assert_falls_back(run: &Path, what: &str) {
    let (found, rejected) = checkpoint::newest(run).unwrap();
    let found = found.unwrap_or_else(|| panic!("{what}: nothing loads"));
    assert_eq!(found.step, 100, "{what}");
    assert_eq!(rejected.len(), 1, "{what}");
    assert!(!rejected[0].reason.is_empty(), "{what}");
    assert_eq!(found.read("model.safetensors").unwrap(), files(100)[0].1, "{what}");
}

/// Small generator for places to damage: splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn names_and_contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn newest_loads_with_every_file() {
    let (run, dir) = run_with_two();
    assert!(dir.ends_with("checkpoints/step-00000200"));
    let (found, rejected) = checkpoint::newest(run.path()).unwrap();
    let found = found.unwrap();
    assert!(rejected.is_empty());
    assert_eq!((found.step, &found.dir), (200, &dir));
    for (name, bytes) in files(200) {
        assert_eq!(found.read(&name).unwrap(), bytes, "{name}");
    }
    assert!(found.read("other").unwrap_err().to_string().contains("expected one of empty.bin"));
    assert_eq!(checkpoint::of_step(run.path(), 100).unwrap().step, 100);
    let nothing = tempfile::tempdir().unwrap();
    assert_eq!(checkpoint::newest(nothing.path()).unwrap(), (None, vec![]));
}

#[test]
fn thousand_bit_flips_are_all_found() {
    let (run, dir) = run_with_two();
    let contents = names_and_contents(&dir);
    let total: usize = contents.iter().map(|(_, bytes)| bytes.len() * 8).sum();
    let mut state = 7;
    for _ in 0..1000 {
        let mut bit = (draw(&mut state) % total as u64) as usize;
        for (path, bytes) in &contents {
            if bit >= bytes.len() * 8 {
                bit -= bytes.len() * 8;
                continue;
            }
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &damaged).unwrap();
            assert_falls_back(run.path(), &format!("bit {bit} of {}", path.display()));
            fs::write(path, bytes).unwrap();
            break;
        }
    }
    assert_eq!(checkpoint::newest(run.path()).unwrap().0.unwrap().step, 200);
}

#[test]
fn every_truncation_is_found() {
    let (run, dir) = run_with_two();
    for (path, bytes) in names_and_contents(&dir) {
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 150) {
            fs::write(&path, &bytes[..length]).unwrap();
            assert_falls_back(run.path(), &format!("{} at {length}", path.display()));
        }
        if !bytes.is_empty() {
            let longer = [bytes.as_slice(), b" "].concat();
            fs::write(&path, longer).unwrap();
            assert_falls_back(run.path(), &format!("{} one longer", path.display()));
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn missing_and_exchanged_files_are_found() {
    for name in [MANIFEST, "model.safetensors", "state.json", "empty.bin"] {
        let (run, dir) = run_with_two();
        fs::remove_file(dir.join(name)).unwrap();
        assert_falls_back(run.path(), &format!("without {name}"));
        fs::create_dir(dir.join(name)).unwrap();
        assert_falls_back(run.path(), &format!("{name} as a folder"));
    }
    // a sound checkpoint under another step's name
    let (run, dir) = run_with_two();
    fs::rename(&dir, dir.with_file_name("step-00000300")).unwrap();
    assert_falls_back(run.path(), "renamed");
}

#[test]
fn manifest_from_the_future_says_so() {
    let (run, dir) = run_with_two();
    let mut value: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join(MANIFEST)).unwrap()).unwrap();
    value["format"] = 2.into();
    value["something_new"] = "x".into();
    fs::write(dir.join(MANIFEST), value.to_string()).unwrap();
    assert_falls_back(run.path(), "later format");
    let (_, rejected) = checkpoint::newest(run.path()).unwrap();
    assert!(rejected[0].reason.contains("expected format 1, got 2"), "{}", rejected[0].reason);
}

#[cfg(unix)]
#[test]
fn links_are_not_followed() {
    use std::os::unix::fs::symlink;
    let (run, dir) = run_with_two();
    let outside = run.path().join("outside.bin");
    fs::rename(dir.join("model.safetensors"), &outside).unwrap();
    symlink(&outside, dir.join("model.safetensors")).unwrap();
    assert_falls_back(run.path(), "file is a link");

    // links planted under the names that the next save would take
    let victim = run.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("keep"), b"precious").unwrap();
    let parent = dir.parent().unwrap();
    for attempt in 0..3 {
        let name = format!(".step-00000300.{}.{attempt}.tmp", std::process::id());
        symlink(&victim, parent.join(name)).unwrap();
    }
    checkpoint::save(run.path(), 300, &files(300)).unwrap();
    assert_eq!(checkpoint::newest(run.path()).unwrap().0.unwrap().step, 300);
    assert_eq!(checkpoint::sweep(run.path()).unwrap().len(), 3);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    assert_eq!(fs::read(victim.join("keep")).unwrap(), b"precious");
}

#[test]
fn leftovers_are_ignored_and_swept() {
    let (run, dir) = run_with_two();
    let parent = dir.parent().unwrap();
    fs::create_dir_all(parent.join(".step-00000300.999.0.tmp")).unwrap();
    fs::write(parent.join(".step-00000300.999.0.tmp").join("model.safetensors"), b"half").unwrap();
    fs::create_dir_all(parent.join(".trash-step-00000050.0").join("deep")).unwrap();
    fs::write(parent.join("step-00000900.txt"), b"a person's note").unwrap();
    fs::create_dir(parent.join("step-9")).unwrap(); // not how this crate spells a step
    let (found, rejected) = checkpoint::newest(run.path()).unwrap();
    assert_eq!((found.unwrap().step, rejected.len()), (200, 0));
    assert_eq!(checkpoint::sweep(run.path()).unwrap().len(), 2);
    assert_eq!(fs::read_dir(parent).unwrap().count(), 4);
}

#[test]
fn saving_again_never_overwrites_a_sound_checkpoint() {
    let (run, dir) = run_with_two();
    assert_eq!(checkpoint::save(run.path(), 200, &files(200)).unwrap(), dir);
    let refused = checkpoint::save(run.path(), 200, &files(201)).unwrap_err().to_string();
    assert!(refused.contains("another checkpoint of this step"), "{refused}");
    assert_eq!(
        checkpoint::of_step(run.path(), 200).unwrap().read("model.safetensors").unwrap(),
        files(200)[0].1
    );
    // a damaged one is in the way of a resumed run and is replaced
    fs::write(dir.join("state.json"), b"garbage").unwrap();
    checkpoint::save(run.path(), 200, &files(200)).unwrap();
    assert_eq!(checkpoint::newest(run.path()).unwrap().0.unwrap().step, 200);
}

#[test]
fn odd_file_names_are_refused() {
    let run = tempfile::tempdir().unwrap();
    for name in ["../up", "/abs", "", ".hidden", "a b", MANIFEST] {
        assert!(checkpoint::save(run.path(), 1, &[(name.into(), vec![])]).is_err(), "{name}");
    }
    let twice = [("a".to_owned(), vec![1]), ("a".to_owned(), vec![2])];
    assert!(checkpoint::save(run.path(), 1, &twice).is_err());
    assert_eq!(checkpoint::newest(run.path()).unwrap(), (None, vec![]));
}

#[test]
fn prune_keeps_the_newest_sound_ones_and_the_best() {
    let run = tempfile::tempdir().unwrap();
    for step in 1..=6 {
        checkpoint::save(run.path(), step, &files(step)).unwrap();
    }
    fs::write(checkpoint::step_dir(run.path(), 6).join("state.json"), b"broken").unwrap();
    assert!(checkpoint::prune(run.path(), 1, None).is_err());
    let removed = checkpoint::prune(run.path(), 2, Some(2)).unwrap();
    let gone: Vec<PathBuf> = [3, 1].map(|step| checkpoint::step_dir(run.path(), step)).into();
    assert_eq!(removed, gone);
    let left = |step| checkpoint::step_dir(run.path(), step).exists();
    assert_eq!([1, 2, 3, 4, 5, 6].map(left), [false, true, false, true, true, true]);
    assert_eq!(checkpoint::newest(run.path()).unwrap().0.unwrap().step, 5);
}
