//! The WGSL session on wgpu: adapters, shaders, pipelines, buffers, read-back. Nothing outside this folder names wgpu.

mod ahead;
mod arrivals;
mod caps;
mod lost;
mod pipelines;
mod profile;
mod readback;
mod session;
pub mod shaders;
#[cfg(not(target_arch = "wasm32"))]
pub mod tune;
mod upload;
#[cfg(not(target_arch = "wasm32"))]
mod warm;

pub use arrivals::Arrivals;
#[cfg(not(target_arch = "wasm32"))]
pub use caps::list_adapters;
pub use caps::{AdapterInfo, Gpu, list_adapters_async, useful_features};
pub use session::{Drawing, GpuSession, OutputBuffer, Standing};
