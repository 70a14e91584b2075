//! How much a file may ask for before it is refused.

/// Limits of a weight file. The defaults fit every published BEiT with room to spare;
/// raise a field explicitly for something larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// Whole file, in bytes.
    pub file_bytes: u64,
    /// JSON header of a safetensors file, in bytes.
    pub header_bytes: usize,
    /// Number of tensors.
    pub tensors: usize,
    /// Dimensions of one tensor.
    pub rank: usize,
    /// Length of a tensor's name, in bytes.
    pub name_bytes: usize,
}

impl FileLimits {
    /// Limits of a native program: 4 GiB files.
    pub const fn native() -> Self {
        FileLimits { file_bytes: 4 << 30, header_bytes: 1 << 20, tensors: 4096, rank: 6, name_bytes: 256 }
    }
    /// Limits of a browser tab: 256 MiB files.
    pub const fn browser() -> Self {
        FileLimits { file_bytes: 256 << 20, ..Self::native() }
    }
}

impl Default for FileLimits {
    fn default() -> Self {
        if cfg!(target_arch = "wasm32") { Self::browser() } else { Self::native() }
    }
}
