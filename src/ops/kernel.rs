//! WGSL dispatches as plain data, and what the planner may ask about the adapter.

use crate::graph::TensorType;
use serde::{Deserialize, Serialize};

/// How a dispatch touches a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
    /// `var<uniform>`: read in vectors of four, at most [`UNIFORM_BYTES`].
    Uniform,
}

/// Floating-point operations of one dispatch on a GPU, and of one submit: a few milliseconds on a fast GPU, well under a
/// display's watchdog on a slow one. Larger products and attentions are cut into several dispatches.
pub const DISPATCH_FLOPS: u64 = 20_000_000_000;

/// Binding of the uniform block of a dispatch, in the group of its storage buffers: one group instead of two saves the host a
/// third of what a dispatch costs it.
pub const UNIFORM_BINDING: u32 = 15;

/// Largest operand that a kernel may bind as a uniform (WebGPU's guaranteed limit).
pub const UNIFORM_BYTES: u64 = 64 << 10;

/// What a binding refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Arg {
    /// Operand.
    In(usize),
    /// Result.
    Out(usize),
    /// A transient of this op alone.
    Scratch(usize),
}

/// Workgroups per dimension.
pub type Grid = [u32; 3];

/// One dispatch: shader text, entry point, defines, bindings, constants, grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelCall {
    /// File stem under `shaders/`.
    pub shader: &'static str,
    /// Entry point.
    pub entry: &'static str,
    /// Preprocessor constants; a define with the value `0` counts as not set in `#if`.
    pub defines: Vec<(&'static str, u32)>,
    /// Buffers at `@group(0) @binding(0..)`, in order.
    pub bindings: Vec<(Arg, Access)>,
    /// Words of the uniform block `p` at [`UNIFORM_BINDING`]; shapes and constants that never change.
    pub params: Vec<u32>,
    /// Workgroups.
    pub grid: Grid,
    /// Floating-point operations, where the dispatch knows them better than its op; 0 = an equal share of the op's.
    pub flops: u64,
}

impl KernelCall {
    /// A call without bindings; add them with the methods below.
    pub fn new(shader: &'static str, entry: &'static str) -> Self {
        KernelCall {
            shader,
            entry,
            defines: vec![],
            bindings: vec![],
            params: vec![],
            grid: [1, 1, 1],
            flops: 0,
        }
    }
    /// Adds operands read by the kernel.
    pub fn reads(mut self, ins: &[usize]) -> Self {
        self.bindings.extend(ins.iter().map(|&i| (Arg::In(i), Access::Read)));
        self
    }
    /// Adds results written by the kernel.
    pub fn writes(mut self, outs: &[usize]) -> Self {
        self.bindings.extend(outs.iter().map(|&i| (Arg::Out(i), Access::Write)));
        self
    }
    /// Adds one binding.
    pub fn bind(mut self, arg: Arg, access: Access) -> Self {
        self.bindings.push((arg, access));
        self
    }
    /// Adds a preprocessor constant.
    pub fn define(mut self, name: &'static str, value: u32) -> Self {
        self.defines.push((name, value));
        self
    }
    /// Marks an operand or result that is kept in half precision.
    pub(crate) fn half(self, name: &'static str, ty: &TensorType) -> Self {
        if ty.is_half() { self.define(name, 1) } else { self }
    }
    /// Adds a word to the uniform block.
    pub fn word(mut self, value: usize) -> Self {
        self.params.push(value as u32);
        self
    }
    /// Adds words to the uniform block.
    pub fn words(mut self, values: &[usize]) -> Self {
        self.params.extend(values.iter().map(|&v| v as u32));
        self
    }
    /// Adds a real constant to the uniform block.
    pub fn float(mut self, value: f32) -> Self {
        self.params.push(value.to_bits());
        self
    }
    /// Sets the work.
    pub(crate) fn work(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }
    /// Sets the grid.
    pub fn grid(mut self, grid: Grid) -> Self {
        self.grid = grid;
        self
    }
    /// One invocation per item in workgroups of `size`, folded into two dimensions beyond 65,535 workgroups.
    ///
    /// The shader recovers the item as `gid.x + gid.y * size * 65535` (see `common/grid.wgsl`).
    pub fn over(self, items: usize, size: usize) -> Self {
        let groups = items.div_ceil(size).max(1);
        self.groups(groups)
    }
    /// `groups` workgroups, folded into two dimensions beyond 65,535.
    pub fn groups(self, groups: usize) -> Self {
        let wide = groups.min(65_535);
        self.grid([wide as u32, groups.div_ceil(wide) as u32, 1])
    }
}

/// The dispatches of one op application and the transients they need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kernels {
    /// Dispatches in order.
    pub calls: Vec<KernelCall>,
    /// Transients that live during this op only.
    pub scratch: Vec<TensorType>,
}

impl From<KernelCall> for Kernels {
    fn from(call: KernelCall) -> Self {
        Kernels { calls: vec![call], scratch: vec![] }
    }
}

/// Precision of activations and of the operands of matrix products on a GPU. Parameters, statistics, losses and the
/// optimiser are in f32 either way, and so are sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, with dynamic loss scaling.
    F16,
}

impl std::str::FromStr for Precision {
    type Err = crate::error::Error;
    fn from_str(name: &str) -> crate::error::Result<Self> {
        match name {
            "f32" => Ok(Precision::F32),
            "f16" => Ok(Precision::F16),
            _ => Err(crate::error::Error::config("no such precision").expected("f32 or f16").got(name)),
        }
    }
}

/// Class of adapter, which decides between kernel variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// No kernels: the plan runs on the CPU session.
    Cpu,
    /// A software rasteriser: register tiles, no workgroup memory.
    Software,
    /// A GPU.
    Hardware,
}

/// What kernels may ask about the adapter. The defaults are WebGPU's guaranteed limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Caps {
    /// Class of adapter.
    pub tier: Tier,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Storage buffers per shader stage.
    pub max_storage_buffers: u32,
    /// Subgroup operations usable (size known to be constant).
    pub subgroup_size: u32,
    /// 64-bit integers in shaders: a software adapter loads two numbers in one move with them.
    pub int64: bool,
    /// 16-bit floats in shaders.
    pub f16: bool,
    /// Cooperative matrices of 16 × 16 with f16 operands and f32 sums, and subgroups of 32.
    pub cooperative: bool,
    /// Activations and the operands of matrix products are kept in half precision (chosen by the user).
    pub half: bool,
    /// Variants of matrix products chosen for the adapter, by class of shapes.
    pub products: super::Choices,
    /// What is joined to matrix products.
    pub fusions: super::Fusions,
}

impl Caps {
    /// WebGPU's guaranteed limits on an adapter of the given class.
    pub fn guaranteed(tier: Tier) -> Self {
        Caps {
            tier,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_storage_buffers: 8,
            subgroup_size: 0,
            int64: false,
            f16: false,
            cooperative: false,
            half: false,
            products: [None; 4],
            fusions: super::Fusions::ALL,
        }
    }
    /// The CPU session: no kernels, nothing joined, pages of up to 1 GiB.
    pub fn cpu() -> Self {
        let fusions = super::Fusions::NONE;
        Caps { max_binding: 1 << 30, max_buffer: 1 << 30, fusions, ..Self::guaranteed(Tier::Cpu) }
    }
}
