use super::*;
use crate::io::limits::FileLimits;

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn read(bytes: &[u8]) -> crate::Result<TensorFile> {
    read_safetensors(bytes, &FileLimits::native())
}

#[test]
fn every_type_comes_back() {
    let tensors = Tensors::from([
        ("f".to_owned(), Tensor::f32(vec![2, 1], vec![1.5, f32::MIN_POSITIVE]).unwrap()),
        ("d".to_owned(), Tensor::new(vec![], TensorData::F64(vec![-0.0])).unwrap()),
        ("u".to_owned(), Tensor::new(vec![3], TensorData::U8(vec![1, 2, 3])).unwrap()),
        ("i".to_owned(), Tensor::new(vec![1], TensorData::I32(vec![i32::MIN])).unwrap()),
        ("l".to_owned(), Tensor::new(vec![1], TensorData::I64(vec![i64::MAX])).unwrap()),
        ("n".to_owned(), Tensor::new(vec![2], TensorData::U32(vec![0, u32::MAX])).unwrap()),
        ("empty".to_owned(), Tensor::f32(vec![0, 4], vec![]).unwrap()),
    ]);
    let bytes = write_safetensors(&tensors, &pt_metadata());
    let back = read(&bytes).unwrap();
    assert_eq!(back.tensors, tensors);
    assert_eq!(back.metadata, pt_metadata());
    assert_eq!(write_safetensors(&back.tensors, &back.metadata), bytes);
    let header_len = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header_len % 8, 0);
}

#[test]
fn narrow_floats_are_widened() {
    let header = r#"{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]},"t":{"dtype":"BOOL","shape":[1],"data_offsets":[6,7]}}"#;
    let back = read(&file(header, &[0x00, 0x3c, 0x01, 0x00, 0x80, 0x3f, 1])).unwrap();
    assert_eq!(back.tensors["h"].as_f32().unwrap(), [1.0, 5.960_464_5e-8]);
    assert_eq!(back.tensors["b"].as_f32().unwrap(), [1.0]);
    assert_eq!(back.tensors["t"].data, TensorData::U8(vec![1]));
}

/// One malformed file: its header, its data, and words that the message must hold.
type Case = (&'static str, &'static [u8], &'static str);

const MALFORMED: &[Case] = &[
    ("", b"", "starts with {"),
    ("[]", b"", "starts with {"),
    (" {}", b"", "starts with {"),
    ("{", b"", "malformed"),
    ("{} x", b"", "malformed"),
    ("{}", b"1234", "does not fill"),
    (r#"{"a":["U8",[1],[0,1]]}"#, b"1", "an object with dtype"),
    (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#, b"1", "unknown field"),
    (r#"{"a":{"dtype":"U8","shape":[1]}}"#, b"1", "missing field"),
    (r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, b"1", "duplicate field"),
    (
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        b"1",
        "tensor a is given twice",
    ),
    (r#"{"__metadata__":{"a":"1","a":"2"}}"#, b"", "metadata a is given twice"),
    (r#"{"__metadata__":{},"__metadata__":{}}"#, b"", "given twice"),
    (r#"{"__metadata__":{"a":1}}"#, b"", "expected a string"),
    (r#"{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}}"#, b"1", "unsupported element type"),
    (r#"{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,1]}}"#, b"1", "malformed"),
    (r#"{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}"#, b"1", "malformed"),
    (r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#, b"1", "malformed"),
    (r#"{"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]}}"#, b"1", "malformed"),
    (r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#, b"1", "too many dimensions"),
    (
        r#"{"a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,1]}}"#,
        b"1",
        "shape too large",
    ),
    (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1]}}"#, b"1", "expected 4 for F32 [1], got 1"),
    (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, b"1", "outside the file"),
    (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#, b"1", "outside the file"),
    (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#, b"12", "gap or overlap"),
    (
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#,
        b"123",
        "gap or overlap",
    ),
    (r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#, b"1", "malformed"),
    (r#"{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#, b"\x02", "wrong truth value"),
    (r#"{"a\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, b"1", "not printable"),
    (r#"{"a\u202eb":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, b"1", "not printable"),
    (r#"{"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, b"1", "empty name"),
];

#[test]
fn malformed_files_are_refused_with_their_reason() {
    for (header, data, needle) in MALFORMED {
        let message = read(&file(header, data)).unwrap_err().to_string();
        assert!(message.contains(needle), "{header}: {message}");
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    assert!(read(b"1234567").unwrap_err().to_string().contains("at least 8 bytes"));
    assert!(read(&100u64.to_le_bytes()).unwrap_err().to_string().contains("truncated"));
    assert!(read(&u64::MAX.to_le_bytes()).unwrap_err().to_string().contains("too long"));
    let mut not_text = 2u64.to_le_bytes().to_vec();
    not_text.extend([b'{', 0xff]);
    assert!(read(&not_text).unwrap_err().to_string().contains("UTF-8"));
    let deep = format!(r#"{{"a":{}"#, "[".repeat(5000));
    assert!(read(&file(&deep, b"")).is_err());
    let long = format!(r#"{{"{}":{{}}}}"#, "n".repeat(257));
    assert!(read(&file(&long, b"")).unwrap_err().to_string().contains("257 bytes"));
    let limits = FileLimits { tensors: 1, ..FileLimits::native() };
    let two = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    assert!(
        read_safetensors(&file(two, b""), &limits).unwrap_err().to_string().contains("more than 1 tensors")
    );
    let limits = FileLimits { file_bytes: 5, ..FileLimits::native() };
    assert!(read_safetensors(b"123456", &limits).unwrap_err().to_string().contains("at most 5 bytes"));
}

#[test]
fn no_damage_panics() {
    let tensors = Tensors::from([("w".to_owned(), Tensor::f32(vec![2], vec![1.0, 2.0]).unwrap())]);
    let good = write_safetensors(&tensors, &pt_metadata());
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "length {length}");
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _ = read(&bytes); // may be a valid file with other values, but never a panic
    }
}

#[test]
fn non_finite_values_are_counted_and_named() {
    let tensors = Tensors::from([(
        "w".to_owned(),
        Tensor::f32(vec![4], vec![1.0, f32::NAN, f32::INFINITY, f32::MAX]).unwrap(),
    )]);
    assert_eq!(count_non_finite(&tensors["w"]), 2);
    let message = check_finite(&tensors).unwrap_err().to_string();
    assert!(message.contains("tensor w") && message.contains("2 of 4"), "{message}");
}

#[test]
fn shapes_and_types_are_checked() {
    assert!(Tensor::f32(vec![2, 2], vec![0.0; 3]).is_err());
    assert!(Tensor::f32(vec![usize::MAX, 2], vec![]).is_err());
    let bytes = Tensor::new(vec![1], TensorData::U8(vec![0])).unwrap();
    assert!(bytes.as_f32().unwrap_err().to_string().contains("expected F32, got U8"));
}
