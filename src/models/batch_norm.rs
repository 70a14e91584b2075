//! Batch norm as a layer, with its running statistics beside the parameters, and the convolution blocks made of it.

use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{batch_norm, batch_norm_running, conv2d, fill, linear, relu, running_stats};
use serde::{Deserialize, Serialize};

/// Added to the variance, as in the frameworks that the published weights come from.
pub const EPS: f32 = 1e-5;
/// Share of a new batch in the running statistics.
pub const MOMENTUM: f32 = 0.1;

/// Which statistics normalise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// Those of the batch, which also move the running ones (training).
    Batch,
    /// Those of the batch; no running ones are kept (momentum encoders).
    BatchOnly,
    /// The running ones, as they are (evaluation).
    Running,
}

/// Batch norm over the innermost dimension with parameters `{name}.weight`, `{name}.bias` if `affine`, and statistics
/// `{name}.running_mean`, `{name}.running_var`.
///
/// Drawn twice with [`Statistics::Batch`] it updates the running statistics twice, in the order of drawing. It must not
/// be drawn in a recomputed segment, which would count a batch twice.
///
/// # Errors
/// If the parameters were drawn with another width.
pub fn norm(g: &mut Graph, name: &str, x: Var, affine: bool, statistics: Statistics) -> Result<Var> {
    let (c, rows) = (g.ty(x).cols(), g.ty(x).rows());
    let gain = |g: &mut Graph, part: &str, value: f32| match affine {
        true => g.param(&format!("{name}.{part}"), &[c], Init::Constant(value)),
        false => fill(g, value, &[c]),
    };
    let (gamma, beta) = (gain(g, "weight", 1.0)?, gain(g, "bias", 0.0)?);
    if statistics == Statistics::BatchOnly {
        return Ok(batch_norm(g, x, gamma, beta, EPS)?.y);
    }
    let mean = g.statistic(&format!("{name}.running_mean"), &[c], Init::Constant(0.0))?;
    let variance = g.statistic(&format!("{name}.running_var"), &[c], Init::Constant(1.0))?;
    match statistics {
        Statistics::Running => batch_norm_running(g, x, (gamma, beta), (mean, variance), EPS),
        Statistics::Batch | Statistics::BatchOnly => {
            let out = batch_norm(g, x, gamma, beta, EPS)?;
            running_stats(g, (mean, variance), out.stats, rows, MOMENTUM)?;
            Ok(out.y)
        }
    }
}

/// "CBR k": a `k × k` convolution without bias to `out` channels, batch norm, ReLU (beit-spec §7.3), with parameters
/// `{name}.conv.weight` and `{name}.bn.*`.
///
/// # Errors
/// If `x` is not an image or the parameters were drawn with another shape.
pub(crate) fn conv_block(
    g: &mut Graph,
    name: &str,
    x: Var,
    (k, out): (usize, usize),
    statistics: Statistics,
) -> Result<Var> {
    let c = g.ty(x).cols();
    let std = (2.0 / (out * k * k) as f32).sqrt();
    let weight = g.param(&format!("{name}.conv.weight"), &[out, c, k, k], Init::Normal(std))?;
    let y = if k == 1 {
        linear(g, x, weight, None)?
    } else {
        let zero = fill(g, 0.0, &[out])?;
        conv2d(g, x, weight, zero)?
    };
    let y = norm(g, &format!("{name}.bn"), y, true, statistics)?;
    relu(g, y)
}
