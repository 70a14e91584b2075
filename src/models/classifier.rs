//! The classification head: mean of the patch tokens and `fc_norm`, or `norm` and the class token (beit-spec §2.7).

use super::vit::{VitConfig, dense, norm};
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{Pool, pool_tokens};

/// Draws features `[B,D]` and logits `[B,classes]` from the last block's output `x[B,N,D]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn head(g: &mut Graph, vit: &VitConfig, x: Var, pool: Pool, classes: usize) -> Result<(Var, Var)> {
    let features = match pool {
        Pool::MeanPatches => {
            let pooled = pool_tokens(g, x, pool)?;
            norm(g, "fc_norm", pooled, vit.layer_norm_eps)?
        }
        Pool::Cls => {
            let normed = norm(g, "norm", x, vit.layer_norm_eps)?;
            pool_tokens(g, normed, pool)?
        }
    };
    let init = Init::TruncatedNormal { std: 0.02, bound: 2.0, scale: 0.001 };
    let logits = dense(g, "head", features, classes, init)?;
    Ok((features, logits))
}
