//! Features of a frozen transformer: every block's raw output, class token and mean of the patches (beit-spec §6.7).

use super::{load, sizes, views};
use crate::data::{ClassViews, Loader, LoaderOptions, Samples};
use crate::error::{Error, Result};
use crate::graph::{Graph, ParamLayout};
use crate::interop::ModelFile;
use crate::models::vit::{VitInputs, backbone};
use crate::ops::{Pool, pool_tokens};
use crate::plan::{CompileOptions, compile};
use crate::rng::{Key, Stream};
use crate::session::{Data, PlanId, Session};
use crate::tasks::pretrain::MODEL;
use crate::train::page_bytes;
use std::sync::Arc;

/// A transformer in a session.
pub struct LoadedBackbone {
    session: Box<dyn Session>,
    plan: PlanId,
    batch: usize,
    views: ClassViews,
    depth: usize,
    width: usize,
}

/// Features of a data set, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    /// Width D.
    pub width: usize,
    /// Class tokens `[N,D]` of each layer.
    pub cls: Vec<Vec<f32>>,
    /// Means of the patch tokens `[N,D]` of each layer.
    pub mean: Vec<Vec<f32>>,
    /// Label of each picture.
    pub labels: Vec<Option<u32>>,
    /// Number of each picture in the data set.
    pub samples: Vec<usize>,
}

/// A batch on its way to the device.
#[derive(Default)]
struct Prepared {
    image: Vec<f32>,
    indices: Vec<usize>,
    labels: Vec<Option<u32>>,
}

impl FeatureSet {
    /// Pictures.
    pub fn len(&self) -> usize {
        self.samples.len()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
    /// Class token and mean of the patches of one layer side by side, `[N,2D]`.
    pub fn both(&self, layer: usize) -> Vec<f32> {
        let rows = self.cls[layer].chunks(self.width).zip(self.mean[layer].chunks(self.width));
        rows.flat_map(|(cls, mean)| cls.iter().chain(mean).copied()).collect()
    }
}

impl LoadedBackbone {
    /// Loads a transformer for batches of `batch` pictures; its head, if any, is left out.
    ///
    /// # Errors
    /// If the file is no transformer, or its weights do not fit.
    pub fn new(
        mut session: Box<dyn Session>,
        model: &ModelFile,
        batch: usize,
        side: Option<usize>,
        crop_share: f64,
    ) -> Result<LoadedBackbone> {
        let vit = sizes(model, side)?;
        let views = views(model, vit.image.0, crop_share);
        views.validate()?;
        let caps = session.caps();
        let mut g = Graph::new();
        let image = g.input("image", &[batch, vit.image.0, vit.image.1, 3])?;
        let trunk = backbone(&mut g, &vit, VitInputs { image, mask: None, drop_key: None }, false)?;
        for (i, &x) in trunk.blocks.iter().enumerate() {
            let (cls, mean) =
                (pool_tokens(&mut g, x, Pool::Cls)?, pool_tokens(&mut g, x, Pool::MeanPatches)?);
            g.output(&format!("cls.{i}"), cls);
            g.output(&format!("mean.{i}"), mean);
        }
        let layout = ParamLayout::of(&g, MODEL, page_bytes(&caps))?;
        load(session.as_mut(), model, &vit, &layout)?;
        let plan = compile("features", &g, &[&layout], &caps, &CompileOptions::default())?;
        let plan = session.load(Arc::new(plan))?;
        Ok(LoadedBackbone { session, plan, batch, views, depth: vit.depth, width: vit.width })
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Features of all readable pictures of `samples` (in order); `workers` threads prepare them.
    ///
    /// # Errors
    /// If data or device fail.
    pub fn features(&mut self, samples: Samples, workers: usize) -> Result<FeatureSet> {
        let (images, batch, views) = (samples.order().len(), self.batch, self.views.clone());
        let make = move |step: u64| -> Result<Prepared> {
            let mut out = Prepared::default();
            for p in step * batch as u64..(step + 1) * batch as u64 {
                let (index, sample) = samples.load(p)?;
                views.push(&mut out.image, &sample.picture, Key::new(0, Stream::Augment, 0));
                out.indices.push(index);
                out.labels.push(sample.label);
            }
            Ok(out)
        };
        let steps = images.div_ceil(batch) as u64;
        let mut loader = Loader::new(LoaderOptions::new(workers, 0, steps), Arc::new(make))?;
        let empty = vec![vec![]; self.depth];
        let mut set = FeatureSet {
            width: self.width,
            cls: empty.clone(),
            mean: empty,
            labels: vec![],
            samples: vec![],
        };
        let mut first = 0;
        while let Some(next) = loader.next() {
            let Prepared { image, indices, labels } = next??;
            let wanted = first..(first + batch).min(images);
            let fits = |slot: usize| wanted.clone().nth(slot) == Some(indices[slot]);
            let kept: Vec<usize> = (0..wanted.len()).filter(|&s| fits(s)).collect();
            self.run(&image, &kept, &mut set)?;
            set.labels.extend(kept.iter().map(|&s| labels[s]));
            set.samples.extend(kept.iter().map(|&s| indices[s]));
            first += batch;
        }
        if set.is_empty() {
            return Err(Error::data("no picture could be read"));
        }
        Ok(set)
    }

    fn run(&mut self, image: &[f32], kept: &[usize], set: &mut FeatureSet) -> Result<()> {
        self.session.write(self.plan, "image", Data::F32(image))?;
        self.session.run(self.plan)?;
        let width = self.width;
        for layer in 0..self.depth {
            for (kind, to) in [("cls", &mut set.cls[layer]), ("mean", &mut set.mean[layer])] {
                let rows = self.session.read(self.plan, &format!("{kind}.{layer}"))?.f32();
                kept.iter().for_each(|&s| to.extend_from_slice(&rows[s * width..][..width]));
            }
        }
        Ok(())
    }
}
