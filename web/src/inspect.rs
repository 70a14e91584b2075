//! A plan that gives everything a program may want of one picture: logits of all patches, features of every block.

use beit::Result;
use beit::graph::Graph;
use beit::models::mim::all_logits;
use beit::models::vit::{VitInputs, backbone};
use beit::ops::Caps;
use beit::plan::{CompileOptions, Plan, compile};

use crate::models::Weights;

/// Inputs `image[1,H,W,3]`, `mask[1,n]`; outputs `logits[1,N,V]` and `block.i[1,N,D]`, class token first.
///
/// # Errors
/// If the sizes do not fit.
pub(crate) fn plan(weights: &Weights, caps: &Caps) -> Result<Plan> {
    let (mut g, vit) = (Graph::new(), &weights.vit);
    let image = g.input("image", &[1, vit.image.0, vit.image.1, 3])?;
    let mask = g.input_words("mask", &[1, vit.patches()])?;
    let trunk = backbone(&mut g, vit, VitInputs { image, mask: Some(mask), drop_key: None }, false)?;
    let (_, logits) = all_logits(&mut g, vit, trunk.last())?;
    g.output("logits", logits);
    for (i, block) in trunk.blocks.iter().enumerate() {
        g.output(&format!("block.{i}"), *block);
    }
    compile("inspection", &g, &[&weights.model], caps, &CompileOptions::default())
}
