//! A model's tensors for another use: fine-tuning, another resolution, another head (beit-spec §6.5).

use super::fits::{self, Shapes};
use super::tables::{self, Grid, Resize};
use super::{Head, ModelFile, Network};
use crate::error::{Error, Result};
use crate::io::fit::{check_fit, list};
use crate::io::tensors::{Tensor, Tensors};
use crate::models::{RelPos, VitConfig};

/// Tensors for a network, and what was done to get them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Adapted {
    /// Tensors by name, in the shapes that were asked for.
    pub tensors: Tensors,
    /// Names that were asked for and that the file cannot give: they start afresh.
    pub fresh: Vec<String>,
    /// What was done, in sentences for a person.
    pub steps: Vec<String>,
}

const SHARED: &str = "rel_pos_bias.relative_position_bias_table";
const OWN: &str = "attn.relative_position_bias_table";
const ABSOLUTE: &str = "pos_embed";

/// Parts of a network that may be left out of a file or started afresh: heads, the norms in front of them, the mask
/// token, a segmenter's neck.
const REPLACEABLE: [&str; 9] = [
    "head.",
    "lm_head.",
    "norm.",
    "fc_norm.",
    "mask_token",
    "fpn1.",
    "fpn2.",
    "decode_head.",
    "auxiliary_head.",
];

fn replaceable(name: &str) -> bool {
    REPLACEABLE.iter().any(|part| name.starts_with(part))
}

/// Makes the tensors of `model` fit a transformer `vit` whose parameters are `wanted` (all of them, heads included).
///
/// A shared relative table is copied to the blocks where each has its own; position tables of another grid are
/// resampled; heads of another shape are dropped; what is then missing in heads starts afresh. With mean pooling the
/// pre-training `norm` is not reused.
///
/// # Errors
/// If a tensor of the backbone is missing, unexpected or of another shape: all of them at once, with the preset that the
/// file would fit. If `model` is a tokenizer.
pub fn adapt(model: &ModelFile, vit: &VitConfig, wanted: &Shapes, resize: Resize) -> Result<Adapted> {
    let from = model.vit()?;
    let mut work =
        Work { tensors: model.tensors.clone(), steps: vec![], grids: (from.grid(), vit.grid()), resize };
    work.spread_shared_table(wanted, vit)?;
    work.resize_tables()?;
    work.drop_unwanted(wanted);
    let fresh: Vec<String> = wanted
        .keys()
        .filter(|name| replaceable(name) && !work.tensors.contains_key(*name))
        .cloned()
        .collect();
    if !fresh.is_empty() {
        work.steps.push(format!("started afresh: {}", list(&fresh)));
    }
    let expected = wanted.iter().filter(|(name, _)| !fresh.contains(name));
    check_fit(&work.tensors, &expected.map(|(n, s)| (n.clone(), s.clone())).collect()).map_err(|e| {
        let head = if let Network::Vit { head, .. } = &model.network { head } else { &Head::None };
        e.at(model.path.display().to_string()).hint(fits::in_words(from, head))
    })?;
    Ok(Adapted { tensors: work.tensors, fresh, steps: work.steps })
}

struct Work {
    tensors: Tensors,
    steps: Vec<String>,
    /// Of the file, and of the wanted network.
    grids: (Grid, Grid),
    resize: Resize,
}

impl Work {
    /// Shared table → one in each block; where a block has its own already, the two add up as they do in the network.
    fn spread_shared_table(&mut self, wanted: &Shapes, vit: &VitConfig) -> Result<()> {
        let own = |i: usize| format!("blocks.{i}.{OWN}");
        if wanted.contains_key(SHARED) || !wanted.contains_key(&own(0)) {
            return Ok(());
        }
        let Some(shared) = self.tensors.remove(SHARED) else { return Ok(()) };
        for i in 0..vit.depth {
            let table = match self.tensors.get(&own(i)) {
                None => shared.clone(),
                Some(present) => sum(present, &shared).map_err(|e| e.at(own(i)))?,
            };
            self.tensors.insert(own(i), table);
        }
        self.steps.push(format!("shared relative position table copied into each of {} blocks", vit.depth));
        Ok(())
    }

    fn resize_tables(&mut self) -> Result<()> {
        let (from, to) = self.grids;
        if from == to {
            return Ok(());
        }
        let grids = format!("from a grid of {} x {} to {} x {}", from.0, from.1, to.0, to.1);
        let mut tables = 0;
        for (name, tensor) in &mut self.tensors {
            if name == ABSOLUTE {
                let width = tensor.shape.last().copied().unwrap_or(0);
                let data = tables::resize_absolute(tensor.as_f32()?, width, from, to)
                    .map_err(|e| e.at(name.clone()))?;
                *tensor = Tensor::f32(vec![1, to.0 * to.1 + 1, width], data)?;
                self.steps.push(format!("absolute positions resized {grids}: bicubic"));
            } else if name.ends_with("relative_position_bias_table") {
                let heads = tensor.shape.last().copied().unwrap_or(0);
                let data = tables::resize_relative(tensor.as_f32()?, heads, from, to, self.resize)
                    .map_err(|e| e.at(name.clone()))?;
                *tensor = Tensor::f32(vec![tables::table_rows(to), heads], data)?;
                tables += 1;
            }
        }
        if tables > 0 {
            self.steps.push(format!("{tables} relative position tables resized {grids}: {}", self.resize));
        }
        Ok(())
    }

    /// Drops replaceable tensors that the network has no place for, and heads of another shape.
    fn drop_unwanted(&mut self, wanted: &Shapes) {
        let (mut dropped, mut replaced) = (vec![], vec![]);
        self.tensors.retain(|name, tensor| match wanted.get(name) {
            _ if !replaceable(name) => true,
            None => {
                dropped.push(name.clone());
                false
            }
            Some(shape) if *shape != tensor.shape => {
                replaced.push(format!("{name} {:?} by {shape:?}", tensor.shape));
                false
            }
            Some(_) => true,
        });
        if !dropped.is_empty() {
            self.steps.push(format!("left out: {}", list(&dropped)));
        }
        if !replaced.is_empty() {
            self.steps.push(format!("replaced, being of another shape: {}", list(&replaced)));
        }
    }
}

fn sum(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape != b.shape {
        return Err(Error::shape("relative position tables of different shapes")
            .expected(format!("{:?}", a.shape))
            .got(format!("{:?}", b.shape)));
    }
    Tensor::f32(a.shape.clone(), a.as_f32()?.iter().zip(b.as_f32()?).map(|(a, b)| a + b).collect())
}

/// Changes of a model that make it another model, on the way into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Changes {
    /// Sides of the picture; position tables are resampled.
    pub image: Option<(usize, usize)>,
    /// Give every block its own relative table, as fine-tuning does.
    pub table_per_block: bool,
    /// Keep the backbone only.
    pub drop_head: bool,
}

/// The model after some changes, and what was done.
///
/// # Errors
/// As [`adapt`].
pub fn change(model: ModelFile, changes: &Changes, resize: Resize) -> Result<(ModelFile, Vec<String>)> {
    if *changes == Changes::default() {
        return Ok((model, vec![]));
    }
    let (mut vit, mut head) = (model.vit()?.clone(), model.head()?.clone());
    vit.image = changes.image.unwrap_or(vit.image);
    if changes.table_per_block && matches!(vit.rel_pos, RelPos::Shared | RelPos::Both) {
        vit.rel_pos = RelPos::PerLayer;
    }
    if changes.drop_head {
        head = Head::None;
    }
    vit.check()?;
    let mut wanted = fits::vit_shapes(&vit, &head)?;
    if !changes.drop_head {
        // what the file has beside the network stays: norms, a mask token, counters
        let beside = model.tensors.iter().filter(|(name, _)| replaceable(name));
        beside.for_each(|(name, t)| {
            wanted.entry(name.clone()).or_insert_with(|| t.shape.clone());
        });
    }
    let adapted = adapt(&model, &vit, &wanted, resize)?;
    let mut preprocessing = model.preprocessing.clone();
    if let Some((height, width)) = changes.image {
        (preprocessing.size.height, preprocessing.size.width) = (height, width);
        preprocessing.crop_size = preprocessing.size;
    }
    let labels = if changes.drop_head { vec![] } else { model.labels.clone() };
    let network = Network::Vit { config: vit, head };
    Ok((ModelFile { network, tensors: adapted.tensors, labels, preprocessing, ..model }, adapted.steps))
}
