use std::fs;

use super::super::{Subset, split};
use super::*;
use crate::data::Picture;
use crate::data::decode::encode_png;

fn png(shade: u8) -> Vec<u8> {
    encode_png(&Picture::flat(5, 4, [shade, 0, 0])).unwrap()
}

fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn at(root: &Path, name: &str) -> String {
    root.join(name).display().to_string()
}

/// The red of every picture, in order.
fn shades(source: &dyn Source) -> Vec<u8> {
    (0..source.len()).map(|i| source.load(i).unwrap().picture.rgb[0]).collect()
}

fn labels(source: &dyn Source) -> Vec<Option<u32>> {
    (0..source.len()).map(|i| source.load(i).unwrap().label).collect()
}

fn tar_entry(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = kind;
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block.extend(body);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

fn tar(entries: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|(n, k, b)| tar_entry(n, *k, b)).collect();
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn folders_at_any_depth_in_sorted_order() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "b.png", &png(2));
    write(dir.path(), "a/deep/er/x.PNG", &png(1));
    write(dir.path(), ".hidden/y.png", &png(9));
    write(dir.path(), ".z.png", &png(9));
    write(dir.path(), "notes.txt", b"text");
    let opened = open(&at(dir.path(), ""), 0).unwrap();
    assert_eq!(shades(&*opened.source), [1, 2]);
    assert_eq!((opened.source.classes().len(), opened.warnings.len()), (0, 0));
}

#[test]
fn class_per_folder_and_explicit_split() {
    let dir = tempfile::tempdir().unwrap();
    for (name, shade) in [("train/dog/1.png", 1), ("train/cat/2.png", 2), ("test/dog/3.png", 3)] {
        write(dir.path(), name, &png(shade));
    }
    let opened = open(&at(dir.path(), "train"), 0).unwrap();
    assert_eq!(opened.source.classes(), ["cat", "dog"]);
    assert_eq!(labels(&*opened.source), [Some(0), Some(1)]);
    let opened = open(&at(dir.path(), ""), 0).unwrap();
    assert_eq!(shades(&*opened.source), [2, 1]);
    let held_out = opened.held_out.unwrap();
    assert_eq!((shades(&*held_out), labels(&*held_out)), (vec![3], vec![Some(1)]));
    assert!(opened.warnings[0].contains("test/"));
}

#[cfg(unix)]
#[test]
fn link_loops_and_dangling_links_are_safe() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a/x.png", &png(1));
    symlink(dir.path(), dir.path().join("a/up")).unwrap();
    symlink(dir.path().join("a"), dir.path().join("z")).unwrap();
    symlink(dir.path().join("none.png"), dir.path().join("a/none.png")).unwrap();
    assert_eq!(shades(&*open(&at(dir.path(), ""), 0).unwrap().source), [1]);
}

#[test]
fn errors_say_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "empty/notes.txt", b"text");
    write(dir.path(), "x.tar.gz", b"zip");
    write(dir.path(), "bad.tar", &[7; 2000]);
    write(dir.path(), "bad.bin", &[7; 2000]);
    let error = |name: &str| open(&at(dir.path(), name), 0).unwrap_err().to_string();
    assert!(error("nowhere").starts_with("no such file or folder"));
    let none = error("empty");
    assert!(
        none.contains("no pictures found") && none.contains(".jpeg") && none.contains("1 other"),
        "{none}"
    );
    assert!(error("x.tar.gz").contains("uncompressed"));
    assert!(error("bad.tar").contains("not a tar archive"));
    assert!(error("bad.bin").contains("3073"));
    assert!(error("s-{0..2}.tar").contains("3 of 3 archives missing"));
    assert!(error("s-{2..0}.tar").contains("range"));
}

#[test]
fn a_bad_file_named_directly_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "zero.png", b"");
    write(dir.path(), "text.png", b"just some text");
    write(dir.path(), "good.png", &png(4));
    let open = |name: &str| open(&at(dir.path(), name), 0);
    assert!(open("zero.png").unwrap_err().to_string().contains("0 bytes"));
    let text = open("text.png").unwrap_err();
    assert!(text.to_string().contains("not a picture") && text.at.unwrap().ends_with("text.png"));
    assert_eq!(shades(&*open("good.png").unwrap().source), [4]);
}

#[test]
fn shards_with_labels_long_names_and_tricks() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{}/long.png\0", "d".repeat(120));
    let pax = "30 path=renamed/by/header.png\n".to_string();
    let first = tar(&[
        ("0001.png", b'0', &png(1)),
        ("0001.cls", b'0', b"3\n"),
        ("../../etc/0002.png", b'0', &png(2)),
        ("link.png", b'2', b""),
        ("0002.cls", b'0', b"99999999"),
    ]);
    let second = tar(&[
        ("", b'L', long.as_bytes()),
        ("cut", b'0', &png(5)),
        ("", b'x', pax.as_bytes()),
        ("short", b'0', &png(6)),
    ]);
    write(dir.path(), "s-00.tar", &first);
    write(dir.path(), "s-01.tar", &second);
    let opened = open(&at(dir.path(), "s-{00..01}.tar"), 0).unwrap();
    assert_eq!(shades(&*opened.source), [1, 2, 5, 6]);
    assert_eq!(labels(&*opened.source), [Some(3), None, None, None]);
    assert_eq!(opened.source.classes().len(), 4);
    assert!(opened.source.name(1).ends_with("s-00.tar!etc/0002.png"));
    assert!(opened.source.name(3).ends_with("!renamed/by/header.png"));
    assert!(opened.warnings[0].contains("1 links"));
}

#[test]
fn cut_archives_keep_their_whole_entries() {
    let dir = tempfile::tempdir().unwrap();
    let whole = tar(&[("a/1.png", b'0', &png(1)), ("b/2.png", b'0', &png(2))]);
    for end in (513..whole.len()).step_by(97) {
        write(dir.path(), "cut.tar", &whole[..end]);
        if let Ok(opened) = open(&at(dir.path(), "cut.tar"), 0) {
            assert!(shades(&*opened.source).len() <= 2);
        }
    }
    write(dir.path(), "cut.tar", &whole[..1600]);
    let opened = open(&at(dir.path(), "cut.tar"), 0).unwrap();
    assert_eq!((shades(&*opened.source), opened.warnings.len()), (vec![1], 1));
}

#[test]
fn cifar_files() {
    let dir = tempfile::tempdir().unwrap();
    let record = |label: u8, shade: u8| {
        let mut bytes = vec![label];
        bytes.extend([vec![shade; 1024], vec![7; 1024], vec![8; 1024]].concat());
        bytes
    };
    write(dir.path(), "data_batch_1.bin", &[record(3, 10), record(4, 20)].concat());
    write(dir.path(), "data_batch_2.bin", &record(5, 30));
    write(dir.path(), "test_batch.bin", &record(9, 40));
    write(dir.path(), "batches.meta.txt", b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
    let opened = open(&at(dir.path(), ""), 0).unwrap();
    assert_eq!(shades(&*opened.source), [10, 20, 30]);
    assert_eq!(labels(&*opened.source), [Some(3), Some(4), Some(5)]);
    assert_eq!(opened.source.classes()[3], "d");
    assert_eq!(opened.source.load(0).unwrap().picture.rgb[..3], [10, 7, 8]);
    assert_eq!(shades(&*opened.held_out.unwrap()), [40]);
    write(dir.path(), "hundred/train.bin", &[vec![1], record(77, 50)].concat());
    let hundred = open(&at(dir.path(), "hundred/train.bin"), 0).unwrap().source;
    assert_eq!((labels(&*hundred), hundred.classes().len()), (vec![Some(77)], 100));
}

#[test]
fn splits_are_disjoint_and_reproducible() {
    let all: Arc<dyn Source> = Arc::new(SyntheticSource::new(1, 40, 16));
    let (train, val) = split(all.clone(), 0.25, 3).unwrap();
    assert_eq!((train.len(), val.len()), (30, 10));
    let names = |s: &Arc<dyn Source>| (0..s.len()).map(|i| s.name(i)).collect::<Vec<_>>();
    assert!(names(&val).iter().all(|n| !names(&train).contains(n)));
    assert_eq!(names(&val), names(&split(all.clone(), 0.25, 3).unwrap().1));
    assert_ne!(names(&val), names(&split(all.clone(), 0.25, 4).unwrap().1));
    assert_ne!(train.fingerprint(), val.fingerprint());
    assert_eq!(split(all.clone(), 0.0, 3).unwrap().1.len(), 0);
    assert_eq!(split(all.clone(), 1e-9, 3).unwrap().1.len(), 1);
    assert!(split(all.clone(), 1.0, 3).is_err());
    let one: Arc<dyn Source> = Arc::new(Subset::new(all, vec![0]));
    assert!(split(one, 0.5, 3).is_err());
}

#[test]
fn fingerprints_do_not_depend_on_the_place() {
    let make = |extra: bool| {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a/x.png", &png(1));
        write(dir.path(), "b/y.png", &png(1));
        if extra {
            write(dir.path(), "b/z.png", &png(1));
        }
        open(&at(dir.path(), ""), 0).unwrap().source.fingerprint()
    };
    assert_eq!(make(false), make(false));
    assert_ne!(make(false), make(true));
}
