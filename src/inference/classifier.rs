//! A classifier from a file.

use super::{load, sizes, views};
use crate::data::{ClassBatches, ClassViews, Loader, LoaderOptions, Picture, Samples};
use crate::error::{Error, Result};
use crate::graph::PageKind;
use crate::interop::{Head, ModelFile};
use crate::models::classifier::HeadSpec;
use crate::ops::Caps;
use crate::rng::{Key, Stream};
use crate::session::{PlanId, Session};
use crate::tasks::classify::{Classifier, logits, measure};
use crate::tasks::ranking::Ranking;
use crate::train::page_bytes;
use std::sync::Arc;

/// A classifier in a session.
pub struct LoadedClassifier {
    session: Box<dyn Session>,
    plan: PlanId,
    batch: usize,
    views: ClassViews,
    classes: Vec<String>,
}

impl LoadedClassifier {
    /// Loads a classifier for batches of `batch` pictures; `side` asks for pictures of another size than the file's,
    /// `crop_share` for another evaluation crop (0 = the usual one).
    ///
    /// # Errors
    /// If the file is no classifier, or its weights do not fit.
    pub fn new(
        mut session: Box<dyn Session>,
        model: &ModelFile,
        batch: usize,
        side: Option<usize>,
        crop_share: f64,
    ) -> Result<LoadedClassifier> {
        let Head::Classifier { classes, pool } = *model.head()? else {
            return Err(Error::checkpoint("not a classifier")
                .at(model.path.display().to_string())
                .expected("a classifier (the result of `beit finetune classify`)")
                .got(model.kind()));
        };
        let vit = sizes(model, side)?;
        let views = views(model, vit.image.0, crop_share);
        views.validate()?;
        let network = Classifier { vit, head: HeadSpec { pool, classes, init_scale: 1.0 } };
        let caps: Caps = session.caps();
        let layout = network.layout(page_bytes(&caps))?;
        load(session.as_mut(), model, &network.vit, &layout)?;
        let plan = network.eval_plan(batch, &layout, &caps, PageKind::Param)?;
        let plan = session.load(Arc::new(plan))?;
        let named = model.labels.len() == classes;
        let classes =
            if named { model.labels.clone() } else { (0..classes).map(|i| i.to_string()).collect() };
        Ok(LoadedClassifier { session, plan, batch, views, classes })
    }

    /// Names of its classes; numbers where the file has none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Logits of some pictures, a row of C each.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn logits(&mut self, pictures: &[Picture]) -> Result<Vec<Vec<f32>>> {
        let mut rows = Vec::with_capacity(pictures.len());
        for part in pictures.chunks(self.batch) {
            let mut image = Vec::new();
            // the last batch is filled up with its last picture
            for picture in part.iter().chain(part.last().into_iter().cycle()).take(self.batch) {
                self.views.push(&mut image, picture, Key::new(0, Stream::Augment, 0));
            }
            let all = logits(self.session.as_mut(), self.plan, &image)?;
            rows.extend(all.chunks(self.classes.len()).take(part.len()).map(<[f32]>::to_vec));
        }
        Ok(rows)
    }

    /// Measures it on all labelled pictures of `samples` (in order); `workers` threads prepare them.
    ///
    /// # Errors
    /// If data or device fail.
    pub fn measure(&mut self, samples: Samples, workers: usize) -> Result<Ranking> {
        let images = samples.order().len();
        let maker = ClassBatches::new(samples, self.batch, self.views.clone(), self.classes.len())?;
        let steps = images.div_ceil(self.batch) as u64;
        let mut loader =
            Loader::new(LoaderOptions::new(workers, 0, steps), Arc::new(move |i| maker.make(i)))?;
        let mut ranking = Ranking::new(self.classes.len());
        let mut first = 0;
        while let Some(batch) = loader.next() {
            let end = (first + self.batch).min(images);
            measure(self.session.as_mut(), self.plan, &batch??, first..end, &mut ranking)?;
            first = end;
        }
        Ok(ranking)
    }
}
