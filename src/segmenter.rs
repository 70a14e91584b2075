//! A trained segmenter: opening its checkpoint, measuring it, and showing what it sees.

use crate::data::Normalization;
use crate::data::picture::Picture;
use crate::data::source::Source;
use crate::error::{Error, Result};
use crate::graph::{PageKind, ParamLayout};
use crate::interop::{self, Head, ModelFile, Want};
use crate::io::checkpoint;
use crate::io::hf::{HfConfig, SEGMENTER};
use crate::models::segmenter::SegmentHead;
use crate::session::Session;
use crate::tasks::confusion::Confusion;
use crate::tasks::segment::{MODEL, SegmentModel};
use crate::tasks::sliding::{Segmenter, Slide};
use crate::train::{page_bytes, pages_of, state_limits};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File of a checkpoint that describes a segmenter completely.
pub const FILE: &str = "segment.json";

/// Everything about a segmenter but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Description {
    /// Sizes.
    pub model: SegmentModel,
    /// Names of the classes.
    pub names: Vec<String>,
    /// Subtracted from samples in 0..1.
    pub mean: [f32; 3],
    /// Divided by afterwards.
    pub std: [f32; 3],
    /// How whole pictures were segmented while training.
    pub slide: Slide,
}

impl Description {
    /// The file.
    pub fn to_json(&self) -> Vec<u8> {
        // plain structs of numbers and strings always serialise
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// The `config.json` of transformers' segmentation model; a head that it has no place for keeps its own sizes in
/// [`FILE`] only.
pub fn hf_config(model: &SegmentModel, names: &[String]) -> HfConfig {
    let mut config = HfConfig {
        architectures: vec![SEGMENTER.to_owned()],
        use_mask_token: false,
        semantic_loss_ignore_index: Some(255),
        ..model.vit.to_hf()
    };
    if let SegmentHead::Upernet(head) = &model.head {
        config.out_indices = Some(head.taps.to_vec());
        config.pool_scales = Some(head.pool_scales.clone());
        config.use_auxiliary_head = Some(head.auxiliary.is_some());
        if let Some(a) = &head.auxiliary {
            config.auxiliary_loss_weight = Some(f64::from(a.weight));
            config.auxiliary_channels = Some(a.channels);
            config.auxiliary_num_convs = Some(a.convs);
            config.auxiliary_concat_input = Some(a.concat_input);
        }
    }
    config.with_labels(names)
}

/// Whether a path holds a segmenter, of this crate or another library; not if it cannot be read.
pub fn is_segmenter(path: &Path) -> bool {
    let of_others =
        || interop::open(path, Want::Vit).is_ok_and(|m| matches!(m.head(), Ok(Head::Segmenter(_))));
    matches!(own(path), Ok(Some(_))) || of_others()
}

/// A segmenter on a session.
pub struct Loaded {
    /// What it is.
    pub description: Description,
    session: Box<dyn Session>,
    segmenter: Segmenter,
}

/// Windows at a time.
const BATCH: usize = 8;

impl Loaded {
    /// Opens a run of `finetune segment`, one of its checkpoints, or a segmentation model of another library.
    ///
    /// # Errors
    /// If there is no segmenter.
    pub fn open(path: &Path, mut session: Box<dyn Session>) -> Result<Loaded> {
        let (description, tensors) = match own(path)? {
            Some(dir) => read_own(&dir)?,
            None => foreign(interop::open(path, Want::Vit)?)?,
        };
        let caps = session.caps();
        let layout = ParamLayout::of(&description.model.graph()?, MODEL, page_bytes(&caps))?;
        let pages = pages_of(&layout, &tensors).map_err(|e| e.at(path.display().to_string()))?;
        session.add_store(&layout, &[PageKind::Param])?;
        for (p, page) in pages.iter().enumerate() {
            session.write_page(MODEL, PageKind::Param, p, page)?;
        }
        let plan = session.load(Arc::new(description.model.predict_plan(BATCH, &layout, &caps)?))?;
        let normalization = Normalization { mean: description.mean, std: description.std };
        let segmenter = Segmenter::new(&description.model, plan, BATCH, normalization);
        Ok(Loaded { description, session, segmenter })
    }
    /// The class of every pixel of a picture.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn labels(&mut self, picture: &Picture, slide: &Slide) -> Result<Vec<u32>> {
        self.segmenter.labels(self.session.as_mut(), picture, slide)
    }
    /// Counts over labelled pictures. `tell` hears of unreadable ones, which are left out, and of every hundredth.
    ///
    /// # Errors
    /// If the device refuses, or labels are no classes.
    pub fn measure(
        &mut self,
        source: &dyn Source,
        slide: &Slide,
        mut tell: impl FnMut(&str),
    ) -> Result<Confusion> {
        let mut counts = Confusion::new(self.description.model.classes);
        for i in 0..source.len() {
            let sample = match source.load(i) {
                Ok(sample) => sample,
                Err(e) => {
                    tell(&format!("left out: {e}"));
                    continue;
                }
            };
            let predicted = self.labels(&sample.picture, slide)?;
            let map = sample.segmentation.unwrap_or_default();
            counts.add(&predicted, &map.into_iter().map(u32::from).collect::<Vec<_>>())?;
            if (i + 1) % 100 == 0 {
                tell(&format!("{} of {} pictures", i + 1, source.len()));
            }
        }
        Ok(counts)
    }
}

/// The checkpoint folder of this crate's own segmenters, if `path` is or holds one.
fn own(path: &Path) -> Result<Option<PathBuf>> {
    if path.join(FILE).is_file() {
        return Ok(Some(path.to_path_buf()));
    }
    if !path.join("checkpoints").is_dir() {
        return Ok(None);
    }
    let newest = checkpoint::newest(path)?.0;
    let dir = newest.filter(|f| f.has(FILE)).map(|f| checkpoint::step_dir(path, f.step));
    Ok(dir)
}

type Opened = (Description, crate::io::tensors::Tensors);

fn read_own(dir: &Path) -> Result<Opened> {
    let read = |name: &str| {
        let path = dir.join(name);
        std::fs::read(&path).map_err(|e| Error::io("cannot read", &path, &e))
    };
    let description: Description = serde_json::from_slice(&read(FILE)?).map_err(|e| {
        Error::checkpoint("damaged description of a segmenter")
            .at(dir.join(FILE).display().to_string())
            .got(e.to_string())
    })?;
    let layout = ParamLayout::of(&description.model.graph()?, MODEL, 1 << 30)?;
    let file = crate::io::tensors::read_safetensors(&read("model.safetensors")?, &state_limits(&layout))?;
    Ok((description, crate::io::names::from_transformers(file.tensors)?))
}

fn foreign(model: ModelFile) -> Result<Opened> {
    let Head::Segmenter(head) = model.head()?.clone() else {
        return Err(Error::checkpoint("not a segmentation model")
            .at(model.path.display().to_string())
            .expected("a segmenter: a run of `beit finetune segment`, or UPerNet of another library")
            .got(model.kind()));
    };
    let names = match model.labels.len() {
        n if n == head.classes => model.labels.clone(),
        _ => (0..head.classes).map(|c| format!("class {c}")).collect(),
    };
    let vit = model.vit()?.clone();
    let description = Description {
        model: SegmentModel { vit, head: head.head, classes: head.classes },
        names,
        mean: model.preprocessing.image_mean.map(|m| m as f32),
        std: model.preprocessing.image_std.map(|s| s as f32),
        slide: Slide::default(),
    };
    Ok((description, model.tensors))
}

/// Measures and the table of the classes.
pub fn table_json(counts: &Confusion, names: &[String]) -> Value {
    let rows = counts.per_class().into_iter().zip(names).map(|(c, name)| {
        json!({
            "class": name, "iou": c.iou, "accuracy": c.accuracy, "dice": c.dice,
            "labelled": c.labelled, "predicted": c.predicted, "intersection": c.intersection, "union": c.union,
        })
    });
    let mut all = serde_json::to_value(counts.quality()).unwrap_or_default();
    all["classes"] = Value::Array(rows.collect());
    all
}

/// Colour of a class: the first is grey, the others turn the hue by the golden angle and step through brightness.
pub fn colour(class: u32) -> [u8; 3] {
    if class == 0 {
        return [96, 96, 104];
    }
    let hue = f64::from(class) * 0.618_033_988_75 % 1.0 * 6.0;
    let value = [235.0, 190.0, 145.0][class as usize % 3];
    let x = value * (1.0 - 0.85 * (hue % 2.0 - 1.0).abs());
    let low = 0.15 * value;
    let rgb = match hue as u8 {
        0 => [value, x, low],
        1 => [x, value, low],
        2 => [low, value, x],
        3 => [low, x, value],
        4 => [x, low, value],
        _ => [value, low, x],
    };
    rgb.map(|v| v as u8)
}

/// Label maps in colours; pixels that do not count are black.
pub fn colours(labels: &[u32]) -> Vec<u8> {
    labels.iter().flat_map(|&l| if l == 255 { [0; 3] } else { colour(l) }).collect()
}

/// The picture with its predicted classes in colours over it.
pub fn overlay(picture: &Picture, labels: &[u32]) -> Picture {
    let mixed =
        picture.rgb.iter().zip(colours(labels)).map(|(&p, c)| ((u16::from(p) + u16::from(c)) / 2) as u8);
    Picture { rgb: mixed.collect(), ..*picture }
}

/// Classes of a map with the share of its pixels, the commonest first.
pub fn legend(labels: &[u32]) -> Vec<(u32, f64)> {
    let mut counts = std::collections::BTreeMap::<u32, usize>::new();
    labels.iter().for_each(|&l| *counts.entry(l).or_default() += 1);
    let mut all: Vec<(u32, f64)> =
        counts.into_iter().map(|(c, n)| (c, n as f64 / labels.len().max(1) as f64)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_many_classes_differ() {
        let all: std::collections::BTreeSet<[u8; 3]> = (0..150).map(colour).collect();
        assert_eq!(all.len(), 150);
        assert_eq!(colours(&[255]), [0; 3]);
    }

    #[test]
    fn legends_count_pixels() {
        assert_eq!(legend(&[1, 1, 0, 1]), [(1, 0.75), (0, 0.25)]);
    }
}
