//! Self-distillation without labels: the projection head (beit-spec §8.2). The loss is [`crate::ops::dino_loss`].

use super::vit::dense;
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{dino_loss, gelu, l2_normalize, linear, moving_mean, scale_rows};
use serde::{Deserialize, Serialize};

/// Sizes of the projection head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DinoHeadConfig {
    /// Width of the two hidden layers.
    pub hidden: usize,
    /// Width of the normalised bottleneck.
    pub bottleneck: usize,
    /// K, number of prototypes.
    pub out: usize,
    /// Whether the gain of the last layer is trained; the published recipe fixes it to 1.
    pub train_gain: bool,
}

impl Default for DinoHeadConfig {
    fn default() -> Self {
        DinoHeadConfig { hidden: 2048, bottleneck: 256, out: 65_536, train_gain: false }
    }
}

/// Draws the head on features `[R,D]`: MLP, rows of length 1, weight-normalised layer; `[R,K]`. Parameters are
/// `mlp.{0,2,4}.*`, `last_layer.weight_v` and, if trained, `last_layer.weight_g`.
///
/// # Errors
/// If the parameters were drawn with other sizes.
pub fn head(g: &mut Graph, cfg: &DinoHeadConfig, x: Var) -> Result<Var> {
    let init = Init::TruncatedNormal { std: 0.02, bound: 2.0, scale: 1.0 };
    let x = dense(g, "mlp.0", x, cfg.hidden, init)?;
    let x = gelu(g, x)?;
    let x = dense(g, "mlp.2", x, cfg.hidden, init)?;
    let x = gelu(g, x)?;
    let x = dense(g, "mlp.4", x, cfg.bottleneck, init)?;
    let x = l2_normalize(g, x, 1e-12)?;
    let direction = g.param("last_layer.weight_v", &[cfg.out, cfg.bottleneck], init)?;
    let mut weight = l2_normalize(g, direction, 1e-12)?;
    if cfg.train_gain {
        let gain = g.param("last_layer.weight_g", &[cfg.out, 1], Init::Constant(1.0))?;
        weight = scale_rows(g, weight, gain)?;
    }
    linear(g, x, weight, None)
}

/// Temperatures and centre of the loss.
#[derive(Debug, Clone, Copy)]
pub struct DinoTargets {
    /// Temperature of the student.
    pub student_temp: f32,
    /// Temperature of the teacher, `[1]`, an input that follows a schedule.
    pub teacher_temp: Var,
    /// Share of the old centre in the new one.
    pub keep: f32,
}

/// The loss of student outputs `[V·B,K]` and teacher outputs `[2·B,K]`, view after view, the two global ones first;
/// then the centre `centre [1,K]`, a statistic of the current store, moves to the teacher's mean.
///
/// # Errors
/// If the rows are not whole views.
pub fn loss(g: &mut Graph, student: Var, teacher: Var, with: DinoTargets) -> Result<Var> {
    let k = g.ty(student).cols();
    let centre = g.statistic("centre", &[1, k], Init::Constant(0.0))?;
    let out = dino_loss(g, student, teacher, centre, with.teacher_temp, with.student_temp)?;
    moving_mean(g, centre, teacher, with.keep)?;
    Ok(out.loss)
}
