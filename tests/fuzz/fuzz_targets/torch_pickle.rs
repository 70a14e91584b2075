//! Whole files of `torch.save`, in either container.
#![no_main]

use beit::io::limits::FileLimits;
use beit::io::torch::{read_torch, write_torch};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let limits = FileLimits::browser();
    if let Ok(file) = read_torch(data, &limits) {
        let bytes = write_torch(&file.tensors, "model", file.precision);
        assert_eq!(read_torch(&bytes, &limits).map(|f| f.tensors.len()), Ok(file.tensors.len()));
    }
});
