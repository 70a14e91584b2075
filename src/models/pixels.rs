//! Regression of the pixels of masked patches: the ablation of the paper that leaves the tokens out (beit-spec §9.2).

use super::mim::{MimBatchShape, MimOptions};
use super::vit::{MATRIX, VitConfig, VitInputs, backbone, dense, norm};
use crate::error::Result;
use crate::graph::{Graph, Var};
use crate::ops::{add_scaled, gather_rows, row_dot, scale, scale_rows, sum};

/// Scope of the head; its parameters are this crate's own.
pub const HEAD: &str = "pixel_head";

/// Numbers of one patch: `[P,P,3]`, rows from the top.
pub fn patch_numbers(vit: &VitConfig) -> usize {
    3 * vit.patch * vit.patch
}

/// Draws the loss: mean over patches and their numbers of the squared error, in units of normalised pixels.
///
/// Inputs: those of [`super::mim::on_tokens`] without `masked_patches`, and `targets[M, 3·P²]`, the normalised pixels
/// of the patches that are predicted. Outputs: `loss`, and with `predictions` also `predicted[M, 3·P²]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn on_pixels(g: &mut Graph, vit: &VitConfig, shape: MimBatchShape, options: MimOptions) -> Result<Var> {
    let image = g.input("image", &[shape.images, vit.image.0, vit.image.1, 3])?;
    let mask = g.input_words("mask", &[shape.images, vit.patches()])?;
    let drops = options.train && vit.drop_path > 0.0;
    let drop_key = if drops { Some(g.input_words("drop_key", &[4])?) } else { None };
    let trunk = backbone(g, vit, VitInputs { image, mask: Some(mask), drop_key }, options.recompute)?;
    let rows = g.input_words("masked_rows", &[shape.masked])?;
    let inverse = g.input_words("masked_inverse", &[shape.images * vit.tokens()])?;
    let weights = g.input("weights", &[shape.masked])?;
    let targets = g.input("targets", &[shape.masked, patch_numbers(vit)])?;
    let normed = norm(g, "norm", trunk.last(), vit.layer_norm_eps)?;
    let picked = gather_rows(g, normed, rows, inverse)?;
    let predicted = dense(g, HEAD, picked, patch_numbers(vit), MATRIX)?;
    let error = add_scaled(g, predicted, targets, -1.0)?;
    let weighted = scale_rows(g, error, weights)?;
    let squares = row_dot(g, weighted, error)?;
    let total = sum(g, squares)?;
    let loss = scale(g, total, 1.0 / patch_numbers(vit) as f32)?;
    if options.predictions {
        g.output("predicted", predicted);
    }
    g.output("loss", loss);
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;
    use crate::cpu::CpuSession;
    use crate::graph::{PageKind, ParamLayout};
    use crate::ops::Caps;
    use crate::plan::{CompileOptions, compile};
    use crate::session::{Data, Session};
    use std::sync::Arc;

    /// The loss is the weighted mean of squared differences between predictions and targets; padding counts nothing.
    #[test]
    fn mean_squared_error() {
        let mut vit = preset("nano").unwrap().model;
        (vit.image, vit.depth, vit.width, vit.mlp) = ((8, 8), 1, 8, 8);
        let mut g = Graph::new();
        let options = MimOptions { predictions: true, ..MimOptions::default() };
        on_pixels(&mut g, &vit, MimBatchShape { images: 1, masked: 3 }, options).unwrap();
        let layout = ParamLayout::of(&g, "model", 1 << 20).unwrap();
        let plan = compile("t", &g, &[&layout], &Caps::cpu(), &CompileOptions::default()).unwrap();
        let mut s = CpuSession::<f64>::new();
        s.add_store(&layout, &[PageKind::Param]).unwrap();
        for (p, page) in layout.initial(1).iter().enumerate() {
            s.write_page("model", PageKind::Param, p, page).unwrap();
        }
        let id = s.load(Arc::new(plan)).unwrap();
        let image: Vec<f32> = (0..192).map(|i| (i % 17) as f32 / 9.0 - 1.0).collect();
        let targets: Vec<f32> = (0..144).map(|i| (i % 5) as f32 - 2.0).collect();
        s.write(id, "image", Data::F32(&image)).unwrap();
        s.write(id, "mask", Data::U32(&[0, 1, 0, 1])).unwrap();
        s.write(id, "masked_rows", Data::U32(&[2, 4, 0])).unwrap();
        s.write(id, "masked_inverse", Data::U32(&[0, 0, 1, 0, 2])).unwrap();
        s.write(id, "weights", Data::F32(&[0.5, 0.5, 0.0])).unwrap();
        s.write(id, "targets", Data::F32(&targets)).unwrap();
        s.run(id).unwrap();
        let predicted = s.read(id, "predicted").unwrap().f32();
        let square = |i: usize| f64::from(predicted[i] - targets[i]).powi(2);
        let want = (0..96).map(square).sum::<f64>() / 96.0;
        let got = f64::from(s.read(id, "loss").unwrap().f32()[0]);
        assert!((got / want - 1.0).abs() < 1e-5, "{got} not {want}");
    }
}
