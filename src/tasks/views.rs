//! Methods that compare views of a picture with a momentum network: plans, schedules, inputs of a step (beit-spec §8.2,
//! §8.3). The momentum network is the moving average that the update keeps beside the weights.

use super::pretrain::{MODEL, PretrainRecipe, Turn};
use crate::config::{DinoConfig, Method, MocoConfig, RunConfig};
use crate::data::ViewBatch;
use crate::error::{Error, Result};
use crate::graph::{Graph, ParamLayout, Var};
use crate::interop::tables;
use crate::models::dino::{self, DinoStep};
use crate::models::moco::{self, MocoStep};
use crate::models::{RelPos, VitConfig};
use crate::ops::{Caps, Hyper};
use crate::optim::{Cosine, Decay, Rates, Schedule, half_cosine};
use crate::plan::{Plan, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session, Ticket};
use crate::train::{AVERAGE, StepOptions, StepPlans, Stepper, with_average};

/// The settings of one of the two methods.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparing {
    /// Self-distillation.
    Dino(DinoConfig),
    /// Momentum contrast.
    Moco(MocoConfig),
}

/// A network and what it is to do with views.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewsModel {
    /// The transformer.
    pub vit: VitConfig,
    /// The method.
    pub method: Comparing,
}

impl ViewsModel {
    /// The one of a run.
    ///
    /// # Errors
    /// If the run's method does not compare views.
    pub fn of(config: &RunConfig) -> Result<ViewsModel> {
        let method = match &config.method {
            Method::Dino(d) => Comparing::Dino(d.clone()),
            Method::MocoV3(m) => Comparing::Moco(m.clone()),
            other => {
                return Err(Error::config("not a method that compares views").got(other.name()));
            }
        };
        Ok(ViewsModel { vit: config.model.clone(), method })
    }

    fn draw(&self, g: &mut Graph, images: usize, train: bool, recompute: bool) -> Result<Var> {
        match &self.method {
            Comparing::Dino(c) => {
                let step = DinoStep {
                    images,
                    locals: c.local_crops,
                    local_side: c.local_side,
                    head: c.head.clone(),
                    student_temp: c.student_temp as f32,
                    keep: c.center_momentum as f32,
                    train,
                    recompute,
                };
                dino::pretraining(g, &self.vit, &step, AVERAGE)
            }
            Comparing::Moco(c) => {
                let (head, temperature) = (c.head.clone(), c.temperature as f32);
                let step = MocoStep { images, head, temperature, train, recompute };
                moco::pretraining(g, &self.vit, &step, AVERAGE)
            }
        }
    }

    /// Compiles a training step.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plans(&self, recipe: &PretrainRecipe, caps: &Caps) -> Result<StepPlans> {
        let mut g = Graph::new();
        let loss = self.draw(&mut g, recipe.micro_batch(), true, recipe.recompute)?;
        let (name, decay) = match &self.method {
            Comparing::Dino(_) => ("self-distillation step", Decay::Official),
            Comparing::Moco(_) => ("momentum contrast step", Decay::All),
        };
        let options =
            StepOptions { ema: true, accumulate: recipe.accumulate, decay, rates: self.rates(0, recipe) };
        StepPlans::new(name, g, loss, MODEL, &[], caps, options)
    }

    /// Compiles an evaluation of `images` pictures.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn eval_plan(&self, images: usize, layout: &ParamLayout, caps: &Caps) -> Result<Plan> {
        let mut g = Graph::new();
        self.draw(&mut g, images, false, false)?;
        compile("evaluation on views", &g, &[layout], caps, &with_average(MODEL))
    }

    /// What stays as it is in update `i`: the last layer of the head at first, or the patch projection.
    pub fn rates(&self, i: u64, recipe: &PretrainRecipe) -> Rates {
        match &self.method {
            Comparing::Dino(c) if (i as f64) < c.freeze_last_layer * recipe.steps as f64 => {
                Rates::Except("last_layer.")
            }
            Comparing::Moco(c) if c.freeze_patch => Rates::Except("patch_embed."),
            _ => Rates::Equal,
        }
    }

    /// Share of the momentum network's old weights in the new ones after update `i`.
    pub fn momentum(&self, i: u64, recipe: &PretrainRecipe) -> f64 {
        let start = match &self.method {
            Comparing::Dino(c) => c.momentum,
            Comparing::Moco(c) => c.momentum,
        };
        half_cosine(start, 1.0, i, recipe.steps)
    }

    /// Weight decay of update `i`.
    pub fn weight_decay(&self, i: u64, recipe: &PretrainRecipe) -> f64 {
        match &self.method {
            Comparing::Dino(c) => half_cosine(recipe.weight_decay, c.weight_decay_end, i, recipe.steps),
            Comparing::Moco(_) => recipe.weight_decay,
        }
    }

    /// Temperature of the teacher in update `i` (of the contrast, which is constant).
    pub fn temperature(&self, i: u64, recipe: &PretrainRecipe) -> f64 {
        match &self.method {
            Comparing::Dino(c) => {
                let rise = (c.teacher_temp_warmup * recipe.steps as f64).max(1.0);
                let share = (i as f64 / rise).min(1.0);
                c.teacher_temp_start + share * (c.teacher_temp - c.teacher_temp_start)
            }
            Comparing::Moco(c) => c.temperature,
        }
    }

    fn hyper(&self, i: u64, recipe: &PretrainRecipe) -> Hyper {
        let (weight_decay, ema) = (self.weight_decay(i, recipe), self.momentum(i, recipe));
        Hyper { weight_decay, ema, ..recipe.hyper(i) }
    }

    /// Writes what stays the same in all runs of a plan for `images` pictures.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn write_constants(&self, session: &mut dyn Session, plan: PlanId, images: usize) -> Result<()> {
        match &self.method {
            Comparing::Moco(_) => {
                let labels: Vec<u32> = (0..images as u32).collect();
                session.write(plan, "labels", Data::U32(&labels))?;
                session.write(plan, "weights", Data::F32(&vec![1.0 / images as f32; images]))
            }
            Comparing::Dino(c) if c.local_crops > 0 => {
                let small = VitConfig { image: (c.local_side, c.local_side), ..self.vit.clone() };
                if self.vit.rel_pos != RelPos::None {
                    let matrix = inner_table(self.vit.grid(), small.grid());
                    session.write(plan, "local_table", Data::F32(&matrix))?;
                }
                if self.vit.abs_pos {
                    let matrix = resized_positions(&self.vit, &small)?;
                    session.write(plan, "local_positions", Data::F32(&matrix))?;
                }
                Ok(())
            }
            Comparing::Dino(_) => Ok(()),
        }
    }

    /// Writes the views of some pictures of a batch.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn write_views(
        &self,
        session: &mut dyn Session,
        plan: PlanId,
        batch: &ViewBatch,
        images: std::ops::Range<usize>,
    ) -> Result<()> {
        match &self.method {
            Comparing::Dino(c) => {
                session.write(plan, "global", Data::F32(&batch.part(0..2, images.clone())))?;
                if c.local_crops > 0 {
                    session.write(plan, "local", Data::F32(&batch.part(2..2 + c.local_crops, images)))?;
                }
                Ok(())
            }
            Comparing::Moco(_) => session.write(plan, "views", Data::F32(&batch.part(0..2, images))),
        }
    }

    /// The small outputs that are read with every report.
    pub fn outputs(&self) -> &'static [&'static str] {
        match &self.method {
            Comparing::Dino(_) => &["loss", "target_sum"],
            Comparing::Moco(_) => &["loss", "accuracy", "keys"],
        }
    }

    /// Writes a batch and runs one update, split into micro-batches; the tickets of [`ViewsModel::outputs`].
    ///
    /// # Errors
    /// If the device refuses.
    pub fn step(
        &self,
        stepper: &mut Stepper,
        recipe: &PretrainRecipe,
        turn: Turn,
        batch: &ViewBatch,
    ) -> Result<Vec<Ticket>> {
        let (micro, plan) = (recipe.micro_batch(), stepper.micro());
        if turn.i > 0 && self.rates(turn.i, recipe) != self.rates(turn.i - 1, recipe) {
            stepper.set_rates(self.rates(turn.i, recipe))?;
        }
        let mut tickets = Vec::new();
        for m in 0..recipe.accumulate {
            self.write_views(stepper.session.as_mut(), plan, batch, m * micro..(m + 1) * micro)?;
            let dino = matches!(self.method, Comparing::Dino(_));
            if dino {
                let temperature = self.temperature(turn.i, recipe) as f32;
                stepper.write("temperature", Data::F32(&[temperature]))?;
            }
            if self.vit.drop_path > 0.0 {
                let key = Key::new(turn.seed, Stream::DropPath, turn.i as u32).child(m as u32);
                stepper.write("drop_key", Data::U32(&key.0))?;
                if matches!(&self.method, Comparing::Dino(c) if c.local_crops > 0) {
                    stepper.write("local_drop_key", Data::U32(&key.child(1).0))?;
                }
            }
            let last = m + 1 == recipe.accumulate;
            stepper.run_batch(last.then(|| self.hyper(turn.i, recipe)).as_ref())?;
            if turn.report {
                tickets.push(stepper.session.fetch(plan, self.outputs())?);
            }
        }
        Ok(tickets)
    }
}

/// The rows of a bias table that a smaller grid uses, as a matrix `[R',R]`: the offset between two patches means the
/// same on every grid, so a local view takes the inner part of the table.
fn inner_table(native: (usize, usize), own: (usize, usize)) -> Vec<f32> {
    let (rows, own_rows) = (tables::table_rows(native), tables::table_rows(own));
    let mut matrix = vec![0.0; own_rows * rows];
    let (width, own_width) = (2 * native.1 - 1, 2 * own.1 - 1);
    for r in 0..own_rows {
        let from = match own_rows - r {
            special @ 1..=3 => rows - special,
            _ => (r / own_width + native.0 - own.0) * width + r % own_width + native.1 - own.1,
        };
        matrix[r * rows + from] = 1.0;
    }
    matrix
}

/// Bicubic resizing of absolute positions as a matrix `[N',N]`.
fn resized_positions(vit: &VitConfig, small: &VitConfig) -> Result<Vec<f32>> {
    let n = vit.tokens();
    let mut identity = vec![0.0; n * n];
    identity.iter_mut().step_by(n + 1).for_each(|v| *v = 1.0);
    tables::resize_absolute(&identity, n, vit.grid(), small.grid())
}

/// Learning rate of update `i`.
pub fn lr_at(recipe: &PretrainRecipe, i: u64) -> f64 {
    Cosine { peak: recipe.lr, min: recipe.min_lr, warmup: recipe.warmup, total: recipe.steps }.at(i)
}

/// Entropy in nats of a distribution that need not be normalised.
pub fn entropy_of(weights: &[f32]) -> f64 {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    let of = |w: &f32| {
        let p = f64::from(*w) / total;
        if p > 0.0 { -p * p.ln() } else { 0.0 }
    };
    weights.iter().map(of).sum()
}

/// How evenly keys `[R,E]` of length 1 lie: √E times the mean over columns of the deviation over rows; about 1 where
/// they are spread over the sphere, 0 where all are the same.
pub fn spread(keys: &[f32], width: usize) -> f64 {
    let rows: Vec<Vec<f64>> = keys
        .chunks(width)
        .map(|k| {
            let norm = k.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt().max(1e-12);
            k.iter().map(|v| f64::from(*v) / norm).collect()
        })
        .collect();
    let n = rows.len().max(1) as f64;
    let deviation = |c: usize| {
        let mean = rows.iter().map(|r| r[c]).sum::<f64>() / n;
        (rows.iter().map(|r| (r[c] - mean).powi(2)).sum::<f64>() / n).sqrt()
    };
    (width as f64).sqrt() * (0..width).map(deviation).sum::<f64>() / width.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::AttentionSpec;

    /// Every pair of tokens of the small grid has the bias that a pair of the same offset has on the large one.
    #[test]
    fn inner_tables_keep_offsets() {
        for (native, own) in [((8, 8), (3, 3)), ((5, 7), (5, 2)), ((4, 4), (4, 4))] {
            let (large, small) =
                (AttentionSpec { heads: 1, grid: Some(native) }, AttentionSpec { heads: 1, grid: Some(own) });
            let matrix = inner_table(native, own);
            let from = |r: usize| (0..large.table_rows()).find(|c| matrix[r * large.table_rows() + c] == 1.0);
            for i in 0..=own.0 * own.1 {
                for j in 0..=own.0 * own.1 {
                    let at = |t: usize| match t {
                        0 => 0,
                        t => (t - 1) / own.1 * native.1 + (t - 1) % own.1 + 1,
                    };
                    assert_eq!(from(small.table_row(i, j)), Some(large.table_row(at(i), at(j))), "{i} {j}");
                }
            }
        }
    }

    #[test]
    fn collapse_is_seen() {
        assert!((entropy_of(&[2.0; 8]) - 8f64.ln()).abs() < 1e-12);
        assert_eq!(entropy_of(&[0.0, 3.0, 0.0]), 0.0);
        let even: Vec<f32> = (0..4000).map(|i| Key::new(1, Stream::Test, 0).normal(i)).collect();
        assert!((spread(&even, 16) - 1.0).abs() < 0.02, "{}", spread(&even, 16));
        assert!(spread(&[0.3f32, -0.2].repeat(50), 2) < 1e-6);
    }
}
