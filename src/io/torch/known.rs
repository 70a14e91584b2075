//! The closed list of names that a pickle of tensors may mention.

use crate::io::tensors::Dtype;

/// A name that the machine knows. Knowing a name never means running anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// A dict that keeps its order.
    OrderedDict,
    /// A view of a storage: (storage, offset, sizes, strides, …).
    RebuildTensor,
    /// A tensor that is trained: (tensor, …).
    RebuildParameter,
    /// A tuple of sizes.
    Size,
    /// A type of storage; those that hold no number type of ours have none.
    Storage(Option<Dtype>),
    /// Something that says how training was run: read over, never built.
    Inert,
}

/// The entry of a name.
pub(super) fn known(module: &str, name: &str) -> Option<Known> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Known::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Known::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Known::RebuildParameter,
        ("torch", "Size") => Known::Size,
        ("torch", "FloatStorage") => Known::Storage(Some(Dtype::F32)),
        ("torch", "HalfStorage") => Known::Storage(Some(Dtype::F16)),
        ("torch", "BFloat16Storage") => Known::Storage(Some(Dtype::Bf16)),
        ("torch", "DoubleStorage") => Known::Storage(Some(Dtype::F64)),
        ("torch", "LongStorage") => Known::Storage(Some(Dtype::I64)),
        ("torch", "IntStorage") => Known::Storage(Some(Dtype::I32)),
        ("torch", "ByteStorage") => Known::Storage(Some(Dtype::U8)),
        ("torch", "BoolStorage") => Known::Storage(Some(Dtype::Bool)),
        ("torch", "ShortStorage" | "CharStorage") => Known::Storage(None),
        // how a run was started, in official checkpoints
        ("argparse", "Namespace") | ("torch", "device") => Known::Inert,
        ("torch", "float32" | "float16" | "bfloat16" | "float64" | "int64") => Known::Inert,
        // numbers of numpy among the settings
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
        | ("numpy", "dtype")
        | ("_codecs", "encode") => Known::Inert,
        _ => return None,
    })
}
