//! The CPU session: the ops' CPU kernels, in f64 the oracle of the tests, in f32 the built-in device.

mod conv;
mod gemm;
mod math;
mod par;
mod real;
mod session;
mod simd;

pub use conv::ConvShape;
pub(crate) use par::{chunked_sum, par_chunks, par_chunks2, par_chunks3, par_map, par_rows};
pub use real::{Mat, Real};
pub use session::{CpuSession, Dispatch};
pub(crate) use simd::{dispatch, wide};
