//! The ops: one Rust file each, beside one WGSL file of the same name under `shaders/`.
//!
//! A file states the type rule, the vjp (which draws ops), the WGSL dispatches, the CPU kernel, the cost and sample
//! shapes. To add an op: write the two files and add one line to [`samples`]; the generic suite does the rest.

mod args;
mod kernel;
mod units;

pub(crate) mod accumulate;
pub(crate) mod adamw;
pub(crate) mod adaptive_pool;
pub(crate) mod add;
pub(crate) mod argmax;
pub(crate) mod attend;
pub(crate) mod attention;
pub(crate) mod attention_grad;
pub(crate) mod batch_norm;
pub(crate) mod channel_dropout;
pub(crate) mod clip;
pub(crate) mod codebook_update;
pub(crate) mod combine;
pub(crate) mod concat;
pub(crate) mod conv2d;
pub(crate) mod cross_entropy;
pub(crate) mod dino_loss;
pub(crate) mod ema;
pub(crate) mod embed;
pub(crate) mod epilogue;
pub(crate) mod fill;
pub(crate) mod fold;
pub(crate) mod fused;
pub(crate) mod gather;
pub(crate) mod gelu;
pub(crate) mod gemm;
pub(crate) mod group_mean;
pub(crate) mod gumbel;
pub(crate) mod head_loss;
pub(crate) mod kl_uniform;
pub(crate) mod l2_normalize;
pub(crate) mod layer_norm;
pub(crate) mod logit_laplace;
pub(crate) mod matmul;
pub(crate) mod max_pool;
pub(crate) mod members;
pub(crate) mod moving_mean;
pub(crate) mod nearest;
pub(crate) mod norm2;
pub(crate) mod one_hot;
pub(crate) mod patchify;
pub(crate) mod pixel_cross_entropy;
pub(crate) mod pool_tokens;
pub(crate) mod product;
pub(crate) mod qkv_bias;
pub(crate) mod reduce;
pub(crate) mod relu;
pub(crate) mod residual;
pub(crate) mod resize;
pub(crate) mod running_stats;
pub(crate) mod samples;
pub(crate) mod scale_rows;
pub(crate) mod slice;
pub(crate) mod soft_cross_entropy;
pub(crate) mod softmax;
pub(crate) mod tanh;
pub(crate) mod upsample;

pub use accumulate::accumulate;
pub use adamw::{AdamW, HYPER_LEN, Hyper};
pub use adaptive_pool::adaptive_pool;
pub use add::{add, add_scaled, scale, straight_through};
pub use argmax::argmax;
pub use args::{Args, View, ViewMut};
pub use attention::{AttentionSpec, attention};
pub use batch_norm::{BatchNormOut, batch_norm, batch_norm_running};
pub use channel_dropout::channel_dropout;
pub(crate) use clip::LossScale;
pub use clip::{CONTROL_LEN, ClipControl, Control};
pub use codebook_update::{Following, codebook_update};
pub use combine::combine;
pub use concat::{concat, stack_rows};
pub use conv2d::conv2d;
pub use cross_entropy::{CrossEntropyOut, cross_entropy};
pub use dino_loss::{DinoLossOut, dino_loss};
pub use ema::Ema;
pub use embed::{EmbedParams, embed};
pub use epilogue::{Ending, Epilogue, Fusions, Product};
pub use fill::fill;
pub use fold::{Window, conv2d_strided, conv2d_transposed};
pub(crate) use fused::Fused;
pub use gather::{gather_rows, gather_words};
pub use gelu::gelu;
pub use group_mean::group_mean;
pub use gumbel::{gumbel_softmax, gumbel_softmax_with_noise};
pub use head_loss::head_loss;
pub use kernel::{
    Access, Arg, Caps, DISPATCH_FLOPS, Grid, KernelCall, Kernels, Precision, Tier, UNIFORM_BINDING,
    UNIFORM_BYTES,
};
pub use kl_uniform::kl_uniform;
pub use l2_normalize::l2_normalize;
pub use layer_norm::layer_norm;
pub use logit_laplace::logit_laplace;
pub use matmul::{linear, matmul, mix_rows};
pub use max_pool::max_pool;
pub use members::{Chains, members};
pub use moving_mean::moving_mean;
pub use nearest::nearest;
pub use norm2::{Norm2, Norm2Accumulate};
pub use one_hot::one_hot;
pub use patchify::{patchify, unpatchify};
pub use pixel_cross_entropy::{Over, PixelLoss, pixel_cross_entropy};
pub use pool_tokens::{Pool, pool_tokens};
pub use product::{Choices, KernelChoices, ProductVariant, ShapeClass};
pub use qkv_bias::qkv_bias;
pub use reduce::{col_sum, mean, sum};
pub use relu::relu;
pub use residual::{DropPath, residual};
pub use resize::resize;
pub use running_stats::running_stats;
pub use samples::{Fill, Sample, samples};
pub use scale_rows::{row_dot, scale_rows};
pub use slice::{patch_image, slice, slice_rows};
pub use soft_cross_entropy::soft_cross_entropy;
pub use softmax::softmax;
pub use tanh::tanh;
pub use upsample::upsample;

use crate::error::Result;
use crate::graph::{Graph, TensorType, Var};
use std::fmt::Debug;

/// Work of one op application.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes read and written if every operand is touched once.
    pub bytes: u64,
}

/// One coarse operation of the graph.
pub trait Op: Debug + Send + Sync + 'static {
    /// Name, also the stem of the op's WGSL file.
    fn name(&self) -> &'static str;
    /// The type rule.
    ///
    /// # Errors
    /// If the operands do not fit.
    fn infer(&self, inputs: &[TensorType]) -> Result<Vec<TensorType>>;
    /// Draws the vector-Jacobian product: cotangents of the operands from those of the results.
    ///
    /// # Errors
    /// If the op has no derivative, or drawing fails.
    fn vjp(&self, v: &mut Vjp<'_>) -> Result<()> {
        let _ = v;
        Err(crate::error::Error::shape("no derivative").at(self.name()))
    }
    /// Whether a cotangent can flow to operand `input`.
    fn differentiable(&self, input: usize) -> bool {
        let _ = input;
        true
    }
    /// Pairs (operand, result) that share storage: the op updates the operand where it lies.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }
    /// Number of the result that holds the column sums of the first one, if the op has it for nothing: the gradient of a bias.
    fn column_sums(&self) -> Option<usize> {
        None
    }
    /// The op as a matrix product that may end with another op, if it is one.
    fn as_product(&self) -> Option<&dyn Product> {
        None
    }
    /// Whether the op is a matrix product, with or without an ending.
    fn is_product(&self) -> bool {
        self.as_product().is_some()
    }
    /// What the op is at the end of the product that gives its operand `input`, if it can be that.
    fn as_epilogue(&self, input: usize) -> Option<Epilogue> {
        let _ = input;
        None
    }
    /// Whether the kernels can read operand `input` in half precision.
    fn reads_half(&self, caps: &Caps, input: usize, inputs: &[TensorType]) -> bool {
        let _ = (caps, input, inputs);
        false
    }
    /// Whether the kernels can write result `output` in half precision.
    fn writes_half(&self, caps: &Caps, output: usize, inputs: &[TensorType]) -> bool {
        let _ = (caps, output, inputs);
        false
    }
    /// FLOPs; bytes are counted from the operand types.
    fn flops(&self, inputs: &[TensorType], outputs: &[TensorType]) -> u64 {
        let _ = inputs;
        outputs.iter().map(|t| t.elements() as u64).sum()
    }
    /// The WGSL dispatches.
    ///
    /// # Errors
    /// If no variant fits the adapter's limits.
    fn kernels(&self, caps: &Caps, inputs: &[TensorType], outputs: &[TensorType]) -> Result<Kernels> {
        let _ = (caps, inputs, outputs);
        Err(crate::error::Error::device("no WGSL kernel").at(self.name()))
    }
    /// The CPU kernel in f32.
    fn run_f32(&self, args: &mut Args<'_, f32>);
    /// The CPU kernel in f64.
    fn run_f64(&self, args: &mut Args<'_, f64>);
}

/// Implements the two CPU entry points of [`Op`] by a generic method `run`.
macro_rules! cpu_kernel {
    () => {
        fn run_f32(&self, args: &mut $crate::ops::Args<'_, f32>) {
            self.run(args);
        }
        fn run_f64(&self, args: &mut $crate::ops::Args<'_, f64>) {
            self.run(args);
        }
    };
}
pub(crate) use cpu_kernel;

/// What an op's vjp sees and fills in.
pub struct Vjp<'g> {
    /// The graph to draw into.
    pub g: &'g mut Graph,
    /// Operands of the forward op.
    pub inputs: Vec<Var>,
    /// Results of the forward op.
    pub outputs: Vec<Var>,
    /// Cotangent of each result, where one exists.
    pub cotangents: Vec<Option<Var>>,
    /// Whether the cotangent of each operand is needed.
    pub wanted: Vec<bool>,
    /// The cotangent that each operand has from its other readers so far. A vjp that takes one returns the sum: it adds while
    /// it writes, and the sum needs no pass of its own.
    pub onto: Vec<Option<Var>>,
    /// Cotangents of the operands, to be filled in.
    pub grads: Vec<Option<Var>>,
}

impl Vjp<'_> {
    /// The cotangent of the first result.
    ///
    /// # Errors
    /// If the others (statistics, accuracies) were used too: a vjp that read only the first would lose their part.
    pub fn cotangent(&self) -> Result<Var> {
        let auxiliary = || crate::error::Error::shape("gradient of an auxiliary result is not defined");
        match &self.cotangents[..] {
            [Some(first), others @ ..] if others.iter().all(Option::is_none) => Ok(*first),
            _ => Err(auxiliary()),
        }
    }
}

/// Checks the number of operands.
pub(crate) fn arity(inputs: &[TensorType], n: usize) -> Result<()> {
    if inputs.len() == n {
        return Ok(());
    }
    Err(crate::error::Error::shape("wrong number of operands")
        .expected(n.to_string())
        .got(inputs.len().to_string()))
}

/// Checks one operand's shape.
pub(crate) fn expect_shape(what: &str, ty: &TensorType, shape: &[usize]) -> Result<()> {
    if ty.shape() == shape {
        return Ok(());
    }
    Err(crate::error::Error::shape(format!("{what} has the wrong shape"))
        .expected(format!("{shape:?}"))
        .got(ty.to_string()))
}

/// Checks that an operand holds as many elements as another.
pub(crate) fn expect_elements(what: &str, ty: &TensorType, elements: usize) -> Result<()> {
    if ty.elements() == elements {
        return Ok(());
    }
    Err(crate::error::Error::shape(format!("{what} has the wrong size"))
        .expected(format!("{elements} elements"))
        .got(ty.to_string()))
}
