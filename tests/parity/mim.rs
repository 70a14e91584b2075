//! `mim`: masked image modelling forward and backward.

use beit::graph::Graph;
use beit::interop::{Head, shapes_of_store};
use beit::models::mim::{MimBatchShape, MimOptions, all_logits, on_tokens};
use beit::session::HostData;
use beit::tasks::pretrain::MaskedInputs;

use super::case::{Case, Outcome};
use super::device::Device;
use super::report::Report;
use super::vit::{Names, STORE, compare_gradients, compare_trunk, from_transformers, images, imported};
use super::vit::{output_gradients, output_trunk, weights_for};

/// Every intermediate value, the loss, all gradients.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let cfg = from_transformers(&case.config())?;
    let model = imported(case, &cfg, &Head::MaskedImage)?;
    let (image, b) = images(case, "in.pixel_values")?;
    let mask = case.given("in.bool_masked_pos")?.flags();
    let count = mask.iter().filter(|&&m| m).count();
    let masked = MaskedInputs::new(&mask, cfg.patches(), count, count);
    let token_ids = case.given("in.token_ids")?.words();

    let mut g = Graph::new();
    let ids = g.input_words("ids", &[b, cfg.patches()])?;
    let shape = MimBatchShape { images: b, masked: count };
    let drawn =
        on_tokens(&mut g, &cfg, ids, shape, MimOptions { predictions: true, ..MimOptions::default() })?;
    let (normed, logits) = all_logits(&mut g, &cfg, drawn.trunk.last())?;
    output_trunk(&mut g, &drawn.trunk);
    for (name, v) in [("normed", normed), ("all_logits", logits), ("rows", drawn.rows)] {
        g.output(name, v);
    }
    output_gradients(&mut g, drawn.loss, STORE, drawn.image)?;

    let inputs = [
        ("ids", HostData::U32(token_ids)),
        ("image", HostData::F32(image)),
        ("mask", HostData::U32(masked.mask)),
        ("masked_rows", HostData::U32(masked.rows)),
        ("masked_inverse", HostData::U32(masked.inverse)),
        ("masked_patches", HostData::U32(masked.patches)),
        ("weights", HostData::F32(masked.weights)),
    ];
    let out = device.evaluate(&g, STORE, &weights_for(&model, &shapes_of_store(&g, STORE))?, &inputs)?;
    compare_trunk(report, &cfg, &out)?;
    report.tensor("hidden", "out.normed", &out.get("normed")?.values);
    let logits = &out.get("all_logits")?.values;
    let patches = logits.chunks(cfg.tokens() * cfg.vocab).flat_map(|image| &image[cfg.vocab..]);
    report.required("logits", "out.logits", &patches.copied().collect::<Vec<_>>());
    report.required("loss", "out.loss", &out.get("loss")?.values);
    let per_token: Vec<f64> = out.get("rows")?.values.chunks(3).map(|row| row[1]).collect();
    report.tensor("loss", "out.loss_per_masked_token", &per_token);
    compare_gradients(report, &out, Names::Transformers)
}
