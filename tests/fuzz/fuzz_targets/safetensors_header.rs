//! A whole safetensors file, through names, sizes and shapes.
#![no_main]

use beit::interop::{OpenOptions, Parts, from_tensors};
use beit::io::limits::FileLimits;
use beit::io::tensors::{read_safetensors, write_safetensors_as};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = FileLimits::browser();
    let Ok(file) = read_safetensors(data, &limits) else { return };
    let bytes = write_safetensors_as(&file.tensors, &file.metadata, file.precision);
    assert_eq!(read_safetensors(&bytes, &limits).map(|f| f.tensors.len()), Ok(file.tensors.len()));
    let parts = Parts { tensors: file.tensors, ..Parts::default() };
    let _ = from_tensors(parts, &OpenOptions { limits, allow_non_finite: true, heads: None });
});
