//! Self-distillation without labels: the projection head and the whole step (beit-spec §8.2). The loss is
//! [`crate::ops::dino_loss`].

use super::classifier::features;
use super::vit::{OtherGrid, VitConfig, VitInputs, backbone_at, dense};
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{Pool, col_sum, dino_loss, gelu, l2_normalize, linear, moving_mean, scale_rows, stack_rows};
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

/// What a step looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct DinoStep {
    /// Pictures B; each has two global views.
    pub images: usize,
    /// Local views of each.
    pub locals: usize,
    /// Their side in pixels.
    pub local_side: usize,
    /// The head.
    pub head: DinoHeadConfig,
    /// Temperature of the student.
    pub student_temp: f32,
    /// Share of the old centre in the new one.
    pub keep: f32,
    /// Move the centre and draw stochastic depth (training).
    pub train: bool,
    /// Keep only block inputs for the backward pass.
    pub recompute: bool,
}

/// Draws a step: the student on all views, the teacher, whose parameters are those of the store `teacher`, on the two
/// global ones; the loss.
///
/// Inputs: `global[2·B,S,S,3]` and, with local views, `local[L·B,s,s,3]`, view after view; `temperature[1]`; `local_table`
/// and `local_positions` where the network has such positions ([`OtherGrid`]); `drop_key[4]`, `local_drop_key[4]` if
/// training with stochastic depth. Outputs: `loss`, `target_sum[K]` (sum of the teacher's distributions), and without
/// `train` also `targets[2·B,K]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn pretraining(g: &mut Graph, vit: &VitConfig, step: &DinoStep, teacher: &str) -> Result<Var> {
    let drops = step.train && vit.drop_path > 0.0;
    let key = |g: &mut Graph, name: &str| if drops { g.input_words(name, &[4]).map(Some) } else { Ok(None) };
    let (b, side) = (step.images, vit.image);
    let global = g.input("global", &[2 * b, side.0, side.1, 3])?;
    let drop_key = key(g, "drop_key")?;
    let inputs = VitInputs { image: global, mask: None, drop_key };
    let mut views = vec![view_features(g, vit, inputs, None, step.recompute)?];
    if step.locals > 0 {
        let small = VitConfig { image: (step.local_side, step.local_side), ..vit.clone() };
        let image = g.input("local", &[step.locals * b, step.local_side, step.local_side, 3])?;
        let other = other_grid(g, vit, &small)?;
        let drop_key = key(g, "local_drop_key")?;
        let inputs = VitInputs { image, mask: None, drop_key };
        views.push(view_features(g, &small, inputs, Some(other), step.recompute)?);
    }
    let all = stack_rows(g, &views)?;
    let student = head(g, &step.head, all)?;
    let taught = g.in_store(teacher, |g| {
        let inputs = VitInputs { image: global, mask: None, drop_key: None };
        let features = view_features(g, vit, inputs, None, false)?;
        head(g, &step.head, features)
    })?;
    let centre = g.statistic("centre", &[1, step.head.out], Init::Constant(0.0))?;
    let temperature = g.input("temperature", &[1])?;
    let out = dino_loss(g, student, taught, centre, temperature, step.student_temp)?;
    g.output("loss", out.loss);
    let sum = col_sum(g, out.targets, step.head.out, &[step.head.out])?;
    g.output("target_sum", sum);
    if step.train {
        moving_mean(g, centre, taught, step.keep)?;
    } else {
        g.output("targets", out.targets);
    }
    Ok(out.loss)
}

/// The class token behind the final norm, `[B,D]`.
fn view_features(
    g: &mut Graph,
    vit: &VitConfig,
    inputs: VitInputs,
    other: Option<OtherGrid>,
    recompute: bool,
) -> Result<Var> {
    let trunk = backbone_at(g, vit, inputs, other, recompute)?;
    features(g, vit, trunk.last(), Pool::Cls)
}

fn other_grid(g: &mut Graph, vit: &VitConfig, small: &VitConfig) -> Result<OtherGrid> {
    let spec = vit.attention_spec();
    let (rows, own) = (spec.table_rows(), small.attention_spec().table_rows());
    let table = match spec.grid {
        Some(_) => Some(g.input("local_table", &[own, rows])?),
        None => None,
    };
    let positions = match vit.abs_pos {
        true => Some(g.input("local_positions", &[small.tokens(), vit.tokens()])?),
        false => None,
    };
    Ok(OtherGrid { native: vit.image, table, positions })
}
