//! The classifier: backbone, mean of the patch tokens and `fc_norm`, or `norm` and the class token (beit-spec §2.7).

use super::vit::{VitConfig, VitInputs, backbone, dense, norm};
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{Pool, pool_tokens, soft_cross_entropy};

/// Factor on the initial weights of the head in the published recipes (beit-spec §2.8).
pub const INIT_SCALE: f32 = 0.001;

/// A classification head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeadSpec {
    /// What the head sees.
    pub pool: Pool,
    /// Number of classes.
    pub classes: usize,
    /// Factor on the head's initial weights.
    pub init_scale: f32,
}

/// What [`classification`] draws.
#[derive(Debug, Clone)]
pub struct Classification {
    /// Normalised features in front of the head `[B,D]`.
    pub features: Var,
    /// `[B,classes]`.
    pub logits: Var,
}

/// Draws features `[B,D]` and logits `[B,classes]` from the last block's output `x[B,N,D]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn head(g: &mut Graph, vit: &VitConfig, x: Var, pool: Pool, classes: usize) -> Result<(Var, Var)> {
    scaled_head(g, vit, x, HeadSpec { pool, classes, init_scale: INIT_SCALE })
}

fn scaled_head(g: &mut Graph, vit: &VitConfig, x: Var, spec: HeadSpec) -> Result<(Var, Var)> {
    let features = features(g, vit, x, spec.pool)?;
    let init = Init::TruncatedNormal { std: 0.02, bound: 2.0, scale: spec.init_scale };
    let logits = dense(g, "head", features, spec.classes, init)?;
    Ok((features, logits))
}

/// Draws the features in front of the head `[B,D]` from the last block's output.
///
/// # Errors
/// If the sizes do not fit.
pub fn features(g: &mut Graph, vit: &VitConfig, x: Var, pool: Pool) -> Result<Var> {
    match pool {
        Pool::MeanPatches => {
            let pooled = pool_tokens(g, x, pool)?;
            norm(g, "fc_norm", pooled, vit.layer_norm_eps)
        }
        Pool::Cls => {
            let normed = norm(g, "norm", x, vit.layer_norm_eps)?;
            pool_tokens(g, normed, pool)
        }
    }
}

/// Draws a classifier of `images` pictures. Inputs: `image[B,H,W,3]`, and `drop_key[4]` where `train` is set and the
/// model has stochastic depth. Output: `logits`.
///
/// # Errors
/// If the sizes do not fit.
pub fn classification(
    g: &mut Graph,
    vit: &VitConfig,
    spec: HeadSpec,
    images: usize,
    train: bool,
    recompute: bool,
) -> Result<Classification> {
    let image = g.input("image", &[images, vit.image.0, vit.image.1, 3])?;
    let drops = train && vit.drop_path > 0.0;
    let drop_key = if drops { Some(g.input_words("drop_key", &[4])?) } else { None };
    let trunk = backbone(g, vit, VitInputs { image, mask: None, drop_key }, recompute)?;
    let (features, logits) = scaled_head(g, vit, trunk.last(), spec)?;
    g.output("logits", logits);
    Ok(Classification { features, logits })
}

/// Draws the loss of a classifier. Further inputs: `targets[B,classes]` (smoothed, mixed) and `weights[B]`.
/// Outputs: `loss`, `accuracy`. Returns the loss.
///
/// # Errors
/// If the sizes do not fit.
pub fn loss(g: &mut Graph, logits: Var) -> Result<Var> {
    let shape = g.shape(logits).to_vec();
    let targets = g.input("targets", &shape)?;
    let weights = g.input("weights", &shape[..1])?;
    let out = soft_cross_entropy(g, logits, targets, weights)?;
    g.output("loss", out.loss);
    g.output("accuracy", out.accuracy);
    Ok(out.loss)
}
