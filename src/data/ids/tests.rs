//! Sets of ids: written, killed, gone on with, read, refused.

use super::*;
use crate::data::ViewIds;
use crate::io::limits::FileLimits;
use crate::io::tensors::{TensorData, read_safetensors};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

const IDS: &str = "ids.npy";

fn key() -> IdsKey {
    IdsKey {
        format: FORMAT,
        container: Container::Npy,
        tokenizer: "aa".repeat(32),
        vocab: 300,
        data: "d".into(),
        pictures: 3,
        grid: (1, 2),
        cell: 4,
        views: 2,
        augmentation: "centre".into(),
        seed: 1,
    }
}

fn write(dir: &Path, stop_after: Option<usize>) {
    write_as(dir, &key(), stop_after);
}

fn write_as(dir: &Path, key: &IdsKey, stop_after: Option<usize>) {
    let mut w = IdsWriter::open(dir, key).unwrap();
    for p in w.pictures()..3 {
        if stop_after == Some(p) {
            return;
        }
        let first = 10 * p as u32;
        match p {
            1 => w.append(&[], &[json!({"picture": 1, "error": "broken"})]).unwrap(),
            _ => {
                let line = json!({"picture": p, "row": w.rows()});
                w.append(&[first, first + 1, first + 2, 299], &[line]).unwrap();
            }
        }
    }
    w.finish().unwrap();
}

#[test]
fn a_killed_writer_goes_on_and_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    write(&whole, None);
    write(&parts, Some(2));
    assert_eq!(stand(&parts, &key()).unwrap(), Stand::Part(2));
    assert!(IdsFile::open(&parts, &key()).is_err());
    // what was written after the last sync does not count
    let path = parts.join("ids.npy.part");
    let mut torn = fs::read(&path).unwrap();
    torn.extend([9; 7]);
    fs::write(&path, torn).unwrap();
    write(&parts, None);
    for name in [IDS, INDEX, KEY] {
        assert_eq!(fs::read(whole.join(name)).unwrap(), fs::read(parts.join(name)).unwrap(), "{name}");
    }
    assert_eq!(fs::read_dir(&parts).unwrap().count(), 3);
    let file = IdsFile::open(&whole, &key()).unwrap();
    assert_eq!(file.ids(0, 1).unwrap(), Some(vec![2, 299]));
    assert_eq!(file.ids(1, 0).unwrap(), None);
    assert_eq!(file.ids(2, 2).unwrap(), Some(vec![20, 21]));
    let bytes = fs::read(whole.join(IDS)).unwrap();
    assert!(bytes.starts_with(
        b"\x93NUMPY\x01\x00\xb6\x00{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2, 1, 2), }"
    ));
    assert_eq!(bytes.len(), 192 + 2 * 8);
    assert!(IdsWriter::open(&whole, &key()).is_err());
}

/// The index gets its name before the ids do; a kill between the two loses nothing.
#[test]
fn a_writer_killed_at_its_end_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    write(&whole, None);
    let mut w = IdsWriter::open(&parts, &key()).unwrap();
    let lines = [json!({"picture": 0, "row": 0}), json!({"picture": 1, "error": "broken"})];
    w.append(&[0, 1, 2, 299], &lines).unwrap();
    w.append(&[20, 21, 22, 299], &[json!({"picture": 2, "row": 1})]).unwrap();
    drop(w);
    fs::rename(parts.join("index.jsonl.part"), parts.join(INDEX)).unwrap();
    IdsWriter::open(&parts, &key()).unwrap().finish().unwrap();
    for name in [IDS, INDEX] {
        assert_eq!(fs::read(whole.join(name)).unwrap(), fs::read(parts.join(name)).unwrap(), "{name}");
    }
    // what was said to be safe and is not there is damage, not a row of zeros
    fs::rename(parts.join(IDS), parts.join("ids.npy.part")).unwrap();
    fs::write(parts.join(INDEX), b"{").unwrap();
    fs::write(parts.join(PROGRESS), r#"{"rows": 2, "pictures": 3, "index_bytes": 60}"#).unwrap();
    assert!(IdsWriter::open(&parts, &key()).is_err_and(|e| e.to_string().contains("damaged")));
}

#[test]
fn stale_and_damaged_sets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), None);
    let says = |change: fn(&mut IdsKey)| {
        let mut k = key();
        change(&mut k);
        IdsFile::open(dir.path(), &k).unwrap_err().to_string()
    };
    assert!(says(|k| k.tokenizer = "bb".repeat(32)).contains("other tokenizer weights"));
    assert!(says(|k| k.data = "e".into()).contains("other pictures"));
    assert!(says(|k| k.augmentation = "x".into()).contains("other augmentation"));
    assert!(says(|k| k.seed = 2).contains("other seed: "));
    let path = dir.path().join(IDS);
    let mut bytes = fs::read(&path).unwrap();
    bytes.pop();
    fs::write(&path, bytes).unwrap();
    assert!(says(|_| ()).contains("damaged"));
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.txt"), "words").unwrap();
    assert!(IdsWriter::open(other.path(), &key()).is_err_and(|e| e.exit_code() == 2));
}

#[test]
fn safetensors_are_read_by_their_own_reader() {
    let dir = tempfile::tempdir().unwrap();
    let key =
        IdsKey { container: Container::Safetensors, tokenizer: "c".repeat(64), vocab: 1 << 30, ..key() };
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    write_as(&whole, &key, None);
    write_as(&parts, &key, Some(1));
    write_as(&parts, &key, None);
    let bytes = fs::read(whole.join("ids.safetensors")).unwrap();
    assert_eq!(bytes, fs::read(parts.join("ids.safetensors")).unwrap());
    let file = read_safetensors(&bytes, &FileLimits::native()).unwrap();
    let ids = &file.tensors["ids"];
    assert_eq!(
        (ids.shape.as_slice(), &ids.data),
        (&[2, 2, 1, 2][..], &TensorData::I32(vec![0, 1, 2, 299, 20, 21, 22, 299]))
    );
    assert_eq!((file.metadata["vocab"].as_str(), file.metadata["tokenizer"].len()), ("1073741824", 64));
    assert_eq!(IdsFile::open(&whole, &key).unwrap().ids(0, 1).unwrap(), Some(vec![2, 299]));
    let other = IdsKey { container: Container::Npy, ..key };
    assert!(stand(&whole, &other).unwrap_err().to_string().contains("other format"));
}

/// Three rows of 98 MB with a hole in the middle: more than was ever kept in memory, and next to nothing on the disk.
#[test]
fn a_set_of_any_size_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let key = IdsKey { views: 250_000, grid: (14, 14), ..key() };
    let lines: String = (0..3).map(|p| format!("{}\n", json!({"picture": p, "row": p}))).collect();
    fs::write(dir.path().join(INDEX), lines).unwrap();
    fs::write(dir.path().join(KEY), pretty(&key)).unwrap();
    let mut file = File::create(dir.path().join(IDS)).unwrap();
    let length = 192 + 3 * key.row_bytes();
    assert!(length > 256 << 20);
    file.write_all(&key.container.header(&key, 3)).unwrap();
    file.set_len(length).unwrap();
    file.seek(SeekFrom::Start(length - 392)).unwrap();
    file.write_all(&(0..196u16).flat_map(u16::to_le_bytes).collect::<Vec<_>>()).unwrap();
    let ids = IdsFile::open(dir.path(), &key).unwrap();
    assert_eq!(ids.ids(2, 249_999).unwrap(), Some((0..196).collect()));
    assert_eq!(ids.ids(2, 249_998).unwrap(), Some(vec![0; 196]));
    assert_eq!(ids.ids(3, 0).unwrap(), None);
    file.set_len(length - 1).unwrap();
    assert!(IdsFile::open(dir.path(), &key).is_err_and(|e| e.to_string().contains("damaged")));
}

#[test]
fn a_map_outlives_its_name_and_survives_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    write(&old, None);
    write(&new, None);
    let path = old.join(IDS);
    let mut bytes = fs::read(&path).unwrap();
    bytes[192..194].copy_from_slice(&7u16.to_le_bytes());
    fs::write(new.join(IDS), &bytes).unwrap();
    let before = IdsFile::open(&old, &key()).unwrap();
    fs::rename(new.join(IDS), &path).unwrap();
    assert_eq!(before.ids(0, 0).unwrap(), Some(vec![0, 1]), "the file that was opened");
    let now = IdsFile::open(&old, &key()).unwrap();
    assert_eq!(now.ids(0, 0).unwrap(), Some(vec![7, 1]));

    // the same in place, by a program that knows nothing of locks
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(200).unwrap();
    let said = now.ids(0, 0).unwrap_err().to_string();
    assert!(said.contains("shorter") && said.contains("got 200 bytes"), "{said}");
    assert!(before.ids(0, 0).is_ok());
    bytes[192..194].copy_from_slice(&300u16.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    let said = now.ids(0, 0).unwrap_err().to_string();
    assert!(said.contains("ids below 300") && said.contains("300 for picture 0"), "{said}");
    assert_eq!(now.ids(2, 1).unwrap(), Some(vec![22, 299]));
}

#[test]
fn one_process_writes_and_none_under_a_map() {
    let dir = tempfile::tempdir().unwrap();
    let first = IdsWriter::open(dir.path(), &key()).unwrap();
    assert!(IdsWriter::open(dir.path(), &key()).is_err_and(|e| e.to_string().contains("in use")));
    drop(first);
    write(dir.path(), Some(2));
    write(dir.path(), None);
    let mapped = IdsFile::open(dir.path(), &key()).unwrap();
    // a writer that looked before the other one had finished
    let (path, part) = (dir.path().join(IDS), dir.path().join("ids.npy.part"));
    fs::rename(&path, &part).unwrap();
    assert!(IdsWriter::open(dir.path(), &key()).is_err_and(|e| e.to_string().contains("in use")));
    assert_eq!(mapped.ids(2, 1).unwrap(), Some(vec![22, 299]));
    drop(mapped);
    IdsWriter::open(dir.path(), &key()).unwrap();
}
