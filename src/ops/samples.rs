//! Sample applications of every op, for the generic suite: forward, vjp, determinism, guards, variants.

use super::Op;
use crate::graph::{DType, TensorType};
use crate::rng::Key;
use std::sync::Arc;

/// What a sample operand is filled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Standard normal numbers, none closer to 0 than 1/64 (where some ops have a kink).
    Normal,
    /// Uniform in (low, high).
    Uniform(f32, f32),
    /// All equal.
    Constant(f32),
    /// The first element as given, the others uniform in (0.1, 0.9): a control block with a norm of one's choice.
    Head(f32),
    /// Integers from −2 to 2, so that ties and exact zeros happen.
    Ties,
    /// Words below the bound.
    Words(u32),
    /// Word `i` is `(first + i·step) mod rows`; different words if `step` and `rows` have no common factor.
    Steps(Steps),
    /// The inverse of [`Fill::Steps`] over its first `slots` words: 1 + the position of row `r`, or 0.
    InverseSteps(Steps, u32),
}

/// Parameters of [`Fill::Steps`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Row of the first word.
    pub first: u32,
    /// Distance of consecutive words.
    pub step: u32,
    /// Number of rows.
    pub rows: u32,
}

impl Steps {
    fn at(self, i: u32) -> u32 {
        ((u64::from(self.first) + u64::from(i) * u64::from(self.step)) % u64::from(self.rows.max(1))) as u32
    }
}

impl Fill {
    /// Element type of an operand with these contents.
    pub fn dtype(self) -> DType {
        match self {
            Fill::Words(_) | Fill::Steps(_) | Fill::InverseSteps(..) => DType::U32,
            _ => DType::F32,
        }
    }
    /// `n` real numbers.
    pub fn reals(self, key: Key, n: usize) -> Vec<f32> {
        let at = |i: u32| match self {
            Fill::Normal => match key.normal(i) {
                z if z.abs() < 1.0 / 64.0 => z + (1.0f32 / 64.0).copysign(z),
                z => z,
            },
            Fill::Uniform(low, high) => low + (high - low) * key.uniform(i),
            Fill::Constant(c) => c,
            Fill::Head(first) if i == 0 => first,
            Fill::Head(_) => 0.1 + 0.8 * key.uniform(i),
            _ => (key.uniform(i) * 5.0).floor() - 2.0,
        };
        (0..n as u32).map(at).collect()
    }
    /// `n` words.
    pub fn words(self, key: Key, n: usize) -> Vec<u32> {
        let below = |word: u32, bound: u32| ((u64::from(word) * u64::from(bound)) >> 32) as u32;
        let mut words: Vec<u32> = (0..n as u32)
            .map(|i| match self {
                Fill::Words(bound) => below(key.words(i)[0], bound),
                Fill::Steps(s) => s.at(i),
                _ => 0,
            })
            .collect();
        if let Fill::InverseSteps(s, slots) = self {
            for slot in 0..slots {
                if let Some(w) = words.get_mut(s.at(slot) as usize) {
                    *w = slot + 1;
                }
            }
        }
        words
    }
}

/// One application of an op.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The op.
    pub op: Arc<dyn Op>,
    /// Operand types and contents.
    pub inputs: Vec<(TensorType, Fill)>,
    /// Whether central differences exist here: no ties at a kink, no padding that passes no cotangent on purpose.
    pub smooth: bool,
}

/// Shapes for element-wise ops: 1, primes, one around workgroup sizes, several ranks, more than one CPU chunk.
pub(crate) const ODD: &[&[usize]] = &[
    &[1],
    &[2],
    &[7],
    &[33],
    &[64],
    &[65],
    &[255],
    &[256],
    &[257],
    &[2, 3, 5],
    &[3, 1, 17, 2],
    &[4097],
    &[5, 8191],
];

/// Shapes for ops along rows: rows and columns of 1, primes, one around subgroup and workgroup sizes, many rows.
pub(crate) const ROWS: &[&[usize]] = &[
    &[1, 1],
    &[3, 1],
    &[1, 2],
    &[2, 7],
    &[5, 17],
    &[3, 63],
    &[4, 64],
    &[2, 65],
    &[2, 3, 33],
    &[3, 255],
    &[2, 256],
    &[2, 257],
    &[257, 5],
    &[2, 1031],
];

/// More rows than workgroups fit in one dimension of a grid.
pub(crate) const MANY_ROWS: usize = 65_537;

/// Builds samples tersely; impossible shapes are left out (a test counts the samples of every op).
pub(crate) struct Builder(Vec<Sample>);

impl Builder {
    /// Adds an application; `inputs` are (shape, contents).
    pub(crate) fn add(&mut self, op: impl Op, inputs: &[(&[usize], Fill)]) {
        self.push(Arc::new(op), inputs, true);
    }
    /// Adds an application at a kink or with padding, where central differences say nothing.
    pub(crate) fn add_kinked(&mut self, op: impl Op, inputs: &[(&[usize], Fill)]) {
        self.push(Arc::new(op), inputs, false);
    }
    fn push(&mut self, op: Arc<dyn Op>, inputs: &[(&[usize], Fill)], smooth: bool) {
        let typed =
            |(shape, fill): &(&[usize], Fill)| Some((TensorType::new(shape, fill.dtype()).ok()?, *fill));
        let typed: Option<Vec<_>> = inputs.iter().map(typed).collect();
        self.0.extend(typed.map(|inputs| Sample { op, inputs, smooth }));
    }
}

/// The list of all ops.
const ALL: &[fn(&mut Builder)] = &[
    super::accumulate::samples,
    super::adamw::samples,
    super::adaptive_pool::samples,
    super::add::samples,
    super::argmax::samples,
    super::attention::samples,
    super::attention_grad::samples,
    super::batch_norm::samples,
    super::channel_dropout::samples,
    super::clip::samples,
    super::codebook_update::samples,
    super::combine::samples,
    super::concat::samples,
    super::conv2d::samples,
    super::cross_entropy::samples,
    super::dino_loss::samples,
    super::ema::samples,
    super::embed::samples,
    super::fill::samples,
    super::fold::samples,
    super::fused::samples,
    super::gather::samples,
    super::gelu::samples,
    super::group_mean::samples,
    super::gumbel::samples,
    super::head_loss::samples,
    super::kl_uniform::samples,
    super::l2_normalize::samples,
    super::layer_norm::samples,
    super::logit_laplace::samples,
    super::matmul::samples,
    super::max_pool::samples,
    super::members::samples,
    super::moving_mean::samples,
    super::nearest::samples,
    super::norm2::samples,
    super::one_hot::samples,
    super::patchify::samples,
    super::pixel_cross_entropy::samples,
    super::pool_tokens::samples,
    super::qkv_bias::samples,
    super::reduce::samples,
    super::relu::samples,
    super::residual::samples,
    super::resize::samples,
    super::running_stats::samples,
    super::scale_rows::samples,
    super::slice::samples,
    super::softmax::samples,
    super::tanh::samples,
    super::soft_cross_entropy::samples,
    super::upsample::samples,
];

/// Samples of every op.
pub fn samples() -> Vec<Sample> {
    let mut b = Builder(vec![]);
    ALL.iter().for_each(|add| add(&mut b));
    b.0
}
