//! Models from files at work: a classifier's logits, and the features of every layer of a frozen transformer.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod classifier;
mod features;
pub mod knn;
pub mod linear;

pub use classifier::LoadedClassifier;
pub use features::{FeatureSet, LoadedBackbone};

use crate::data::{ClassViews, Normalization};
use crate::error::{Error, Result};
use crate::graph::{PageKind, ParamLayout};
use crate::interop::{ModelFile, Resize, adapt};
use crate::models::VitConfig;
use crate::session::Session;

/// How pictures are prepared for a model: evaluation crops as its file says; `crop_share` other than 0 asks for another
/// margin.
fn views(model: &ModelFile, side: usize, crop_share: f64) -> ClassViews {
    let p = &model.preprocessing;
    let own = if p.do_center_crop { p.crop_size.height as f64 / p.size.height as f64 } else { 1.0 };
    ClassViews {
        side,
        crop_share: if crop_share == 0.0 { own.min(1.0) } else { crop_share },
        normalization: Normalization {
            mean: p.image_mean.map(|m| m as f32),
            std: p.image_std.map(|s| s as f32),
        },
        augment: None,
    }
}

/// The model's sizes at another side, if one is asked for.
fn sizes(model: &ModelFile, side: Option<usize>) -> Result<VitConfig> {
    let mut vit = VitConfig { drop_path: 0.0, ..model.vit()?.clone() };
    if let Some(side) = side {
        vit.image = (side, side);
        vit.check()?;
    }
    if vit.image.0 != vit.image.1 {
        return Err(Error::config("a model of oblong pictures")
            .at(model.path.display().to_string())
            .expected("a square picture")
            .got(format!("{} x {}", vit.image.0, vit.image.1))
            .hint("choose a side with --image-size"));
    }
    Ok(vit)
}

/// Puts a model's weights into a session.
fn load(session: &mut dyn Session, model: &ModelFile, vit: &VitConfig, layout: &ParamLayout) -> Result<()> {
    let wanted = layout.views.iter().map(|v| (v.name.clone(), v.shape.clone())).collect();
    let adapted = adapt(model, vit, &wanted, Resize::Geometric)?;
    if let Some(name) = adapted.fresh.first() {
        return Err(Error::checkpoint("the model lacks a part that is needed here")
            .at(model.path.display().to_string())
            .got(format!("no {name}")));
    }
    let mut pages: Vec<Vec<f32>> = layout.pages.iter().map(|&n| vec![0.0; n]).collect();
    for (name, tensor) in &adapted.tensors {
        let Some(v) = layout.view(name) else { continue };
        pages[v.page][v.offset..v.offset + v.elements()].copy_from_slice(tensor.as_f32()?);
    }
    session.add_store(layout, &[PageKind::Param])?;
    for (p, page) in pages.iter().enumerate() {
        session.write_page(&layout.store, PageKind::Param, p, page)?;
    }
    Ok(())
}
