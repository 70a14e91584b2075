use super::*;
use crate::io::tensors::{Precision, Tensor, TensorData, Tensors};

const LIMITS: FileLimits = FileLimits::native();

fn tensors() -> Tensors {
    let mut all = Tensors::new();
    all.insert("a.weight".into(), Tensor::f32(vec![2, 3], vec![0.5, -1.0, 2.0, 3.0, 4.0, 1e-3]).unwrap());
    all.insert("b".into(), Tensor::new(vec![], TensorData::I64(vec![-7])).unwrap());
    all.insert("c".into(), Tensor::f32(vec![0], vec![]).unwrap());
    all
}

#[test]
fn what_is_written_comes_back() {
    for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
        let bytes = write_torch(&tensors(), "model", precision);
        assert!(looks_like_torch(&bytes));
        let file = read_torch(&bytes, &LIMITS).unwrap();
        assert_eq!(file.precision, precision);
        assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["a.weight", "b", "c"]);
        assert_eq!(file.tensors["b"], tensors()["b"]);
        assert_eq!(write_torch(&file.tensors, "model", precision), bytes);
    }
}

/// Files that torch itself wrote (2.15): a linear layer of 3 inputs and 2 outputs among settings of a run.
#[test]
fn files_of_torch_are_read_and_modules_refused() {
    let file = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name);
        std::fs::read(path).unwrap()
    };
    let new = read_torch(&file("unilm.pth"), &LIMITS).unwrap();
    assert_eq!(
        (new.tensors["weight"].shape.as_slice(), new.tensors["bias"].shape.as_slice()),
        (&[2, 3][..], &[2][..])
    );
    assert_eq!(read_torch(&file("legacy.pth"), &LIMITS).unwrap(), new);
    for name in ["module.pkl", "module_legacy.pkl"] {
        let e = read_torch(&file(name), &LIMITS).unwrap_err().to_string();
        assert!(e.contains("class torch.nn.modules.linear.Linear") && e.contains("executed"), "{e}");
    }
}

/// A pickle in the container that the machine is reached through.
fn zipped(pickle: &[u8]) -> Vec<u8> {
    let original = write_torch(&Tensors::new(), "model", Precision::F32);
    let at = original.windows(4).position(|w| w == [0x80, 2, b'}', b'X']).unwrap();
    let mut bytes = original[..at].to_vec();
    bytes.extend_from_slice(pickle);
    let old = original[at..].iter().position(|&b| b == b'.').unwrap() + 1;
    // sizes stand in the local header and in the directory, which moves
    let moved = pickle.len() as i64 - old as i64;
    let rest = &original[at + old..];
    bytes.extend_from_slice(rest);
    let size = (pickle.len() as u32).to_le_bytes();
    bytes[18..22].copy_from_slice(&size);
    bytes[22..26].copy_from_slice(&size);
    let records: Vec<usize> =
        (0..bytes.len() - 3).filter(|&i| bytes[i..].starts_with(b"PK\x01\x02")).collect();
    for (i, at) in records.iter().enumerate() {
        if i == 0 {
            bytes[at + 20..at + 24].copy_from_slice(&size);
            bytes[at + 24..at + 28].copy_from_slice(&size);
        } else {
            let old = u32::from_le_bytes(bytes[at + 42..at + 46].try_into().unwrap());
            bytes[at + 42..at + 46].copy_from_slice(&((i64::from(old) + moved) as u32).to_le_bytes());
        }
    }
    let end = bytes.len() - 6;
    let old = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
    bytes[end..end + 4].copy_from_slice(&((i64::from(old) + moved) as u32).to_le_bytes());
    bytes
}

#[test]
fn hostile_pickles_are_refused_by_name() {
    let cases: [(&[u8], &str); 14] = [
        (b"\x80\x02cposix\nsystem\nX\x02\0\0\0lsR.", "class posix.system"),
        (b"\x80\x02cbuiltins\neval\nX\x01\0\0\0x\x85R.", "class builtins.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "class os.system"),
        (b"\x80\x02ctorch.hub\nload\n.", "class torch.hub.load"),
        (b"\x80\x02(iposix\nsystem\n.", "opcode 0x69 (i)"),
        (b"\x80\x02(oposix.", "opcode 0x6f (o)"),
        (b"\x80\x02\x82\x01.", "opcode 0x82"),
        (b"\x80\x02P1\n.", "opcode 0x50 (P)"),
        (b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.", "a call in a pickle"),
        (b"\x80\x02cargparse\nNamespace\n)R}b}b.", "without a state dict"),
        (b"\x80\x02K\x01.", "expected a dict of tensors"),
        (b"\x80\x02}X\x01\0\0\0aK\x01s.", "no tensor: tensor a: a whole number"),
        (b"\x80\x02u.", "takes more than it has"),
        (b"\x80\x02h\x05.", "recalls what it never kept"),
    ];
    for (pickle, words) in cases {
        let e = read_torch(&zipped(pickle), &LIMITS).unwrap_err().to_string();
        assert!(e.contains(words), "no {words:?} in {e}");
    }
}

#[test]
fn references_outside_the_file_are_refused() {
    let tensor = |storage: &str, elements: u8, offset: u8, size: u16, step: u8| {
        let mut p =
            b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n".to_vec();
        p.extend_from_slice(format!("{storage}\nX").as_bytes());
        p.extend_from_slice(b"\x01\0\0\x000X\x03\0\0\0cpuK");
        p.push(elements);
        p.extend_from_slice(&[b't', b'Q', b'K', offset, b'M']);
        p.extend_from_slice(&size.to_le_bytes());
        p.extend_from_slice(&[0x85, b'K', step, 0x85, 0x89]);
        p.extend_from_slice(b"}tRs.");
        p
    };
    for (pickle, words) in [
        (tensor("FloatStorage", 2, 0, 2, 1), "storage that the file lacks: tensor a: data/0"),
        (tensor("ShortStorage", 2, 0, 2, 1), "element type that is not read"),
        (tensor("ComplexFloatStorage", 2, 0, 2, 1), "class torch.ComplexFloatStorage"),
        (tensor("FloatStorage", 2, 0, u16::MAX, 1), "larger than its file"),
    ] {
        let e = read_torch(&zipped(&pickle), &LIMITS).unwrap_err().to_string();
        assert!(e.contains(words), "no {words:?} in {e}");
    }
}

/// Cut anywhere, or with any byte changed, a file is read or refused; nothing else happens.
#[test]
fn damaged_files_never_panic() {
    let good = write_torch(&tensors(), "model", Precision::F32);
    for len in 0..good.len() {
        assert!(read_torch(&good[..len], &LIMITS).is_err(), "cut at {len}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        let _ = read_torch(&bad, &LIMITS);
    }
    let small = FileLimits { file_bytes: 100, ..LIMITS };
    assert!(read_torch(&good, &small).unwrap_err().to_string().contains("file too large"));
    let few = FileLimits { tensors: 2, ..LIMITS };
    assert!(read_torch(&good, &few).unwrap_err().to_string().contains("too many tensors"));
}
