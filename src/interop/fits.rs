//! Names and shapes that a network calls for, taken from the graph that draws it, and the preset that a file would fit.

use super::{Head, SegmenterHead};
use crate::config::{PRESETS, preset};
use crate::error::Result;
use crate::graph::Graph;
use crate::models::batch_norm::Statistics;
use crate::models::mim::all_logits;
use crate::models::upernet::HeadMode;
use crate::models::vit::{VitInputs, backbone};
use crate::models::{TokenizerModel, VitConfig, classifier, segmenter};
use std::collections::BTreeMap;

/// Shapes by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The parameters that a graph draws in one store.
pub fn shapes_of_store(g: &Graph, store: &str) -> Shapes {
    let own = g.params().iter().filter(|p| p.store == store);
    own.map(|p| (p.name.clone(), p.shape.clone())).collect()
}

/// The parameters of a transformer with a head.
///
/// # Errors
/// If the sizes do not fit together.
pub fn vit_shapes(config: &VitConfig, head: &Head) -> Result<Shapes> {
    let mut g = Graph::new();
    let image = g.input("image", &[1, config.image.0, config.image.1, 3])?;
    let mask = match head {
        Head::MaskedImage => Some(g.input_words("mask", &[1, config.patches()])?),
        _ => None,
    };
    let trunk = backbone(&mut g, config, VitInputs { image, mask, drop_key: None }, false)?;
    let x = trunk.last();
    match head {
        Head::None => {}
        Head::Segmenter(s) => {
            let mode = HeadMode { statistics: Statistics::Running, drop_key: None };
            segmenter::head(&mut g, config, &s.head, &trunk, s.classes, mode)?;
        }
        Head::MaskedImage => {
            all_logits(&mut g, config, x)?;
        }
        Head::Classifier { classes, pool } => {
            classifier::head(&mut g, config, x, *pool, *classes)?;
        }
    }
    let store = g.params().first().map(|p| p.store.clone()).unwrap_or_default();
    Ok(shapes_of_store(&g, &store))
}

/// The parameters of a tokenizer, all parts.
///
/// # Errors
/// If the sizes do not fit together.
pub fn tokenizer_shapes(config: &TokenizerModel) -> Result<Shapes> {
    let mut g = Graph::new();
    config.whole(&mut g)?;
    let store = g.params().first().map(|p| p.store.clone()).unwrap_or_default();
    Ok(shapes_of_store(&g, &store))
}

/// The preset whose transformer has these sizes (flavour of positions, resolution and vocabulary left aside).
pub fn preset_of(config: &VitConfig) -> Option<&'static str> {
    let sizes = |c: &VitConfig| (c.width, c.depth, c.heads, c.mlp, c.patch);
    PRESETS.into_iter().find(|name| preset(name).is_ok_and(|p| sizes(&p.model) == sizes(config)))
}

/// Sizes in words, with the preset that has them.
pub(super) fn in_words(config: &VitConfig, head: &Head) -> String {
    let sizes = format!(
        "width {}, {} blocks, {} heads, MLP {}, patches of {} on {} x {} pixels",
        config.width, config.depth, config.heads, config.mlp, config.patch, config.image.0, config.image.1
    );
    let head = match head {
        Head::None => "no head".to_owned(),
        Head::MaskedImage => format!("{} visual tokens", config.vocab),
        Head::Classifier { classes, .. } => format!("{classes} classes"),
        Head::Segmenter(SegmenterHead { classes, .. }) => format!("a segmenter of {classes} classes"),
    };
    match preset_of(config) {
        Some(name) => format!("the file fits preset {name}: {sizes}, {head}"),
        None => format!("the file fits no preset; its tensors are those of {sizes}, {head}"),
    }
}
