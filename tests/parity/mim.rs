//! `mim`: masked image modelling forward and backward.

use beit::graph::Graph;
use beit::interop::{Head, shapes_of_store};
use beit::models::VitConfig;
use beit::models::mim::{HeadLoss, MaskedImageModel, MimBatchShape, MimOptions, all_logits, on_tokens};
use beit::session::HostData;
use beit::tasks::pretrain::MaskedInputs;

use super::case::{Case, Outcome};
use super::device::{Device, Outputs};
use super::report::Report;
use super::vit::{Names, STORE, compare_gradients, compare_trunk, from_transformers, images, imported};
use super::vit::{output_gradients, output_trunk, weights_for};

/// Every intermediate value, the loss, all gradients; loss and gradients once more with the head fused with the loss.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let cfg = from_transformers(&case.config())?;
    let model = imported(case, &cfg, &Head::MaskedImage)?;
    let (image, b) = images(case, "in.pixel_values")?;
    let mask = case.given("in.bool_masked_pos")?.flags();
    let count = mask.iter().filter(|&&m| m).count();
    let masked = MaskedInputs::new(&mask, cfg.patches(), count, count);
    let token_ids = case.given("in.token_ids")?.words();

    let shape = MimBatchShape { images: b, masked: count };
    let inputs = [
        ("ids", HostData::U32(token_ids)),
        ("image", HostData::F32(image)),
        ("mask", HostData::U32(masked.mask)),
        ("masked_rows", HostData::U32(masked.rows)),
        ("masked_inverse", HostData::U32(masked.inverse)),
        ("masked_patches", HostData::U32(masked.patches)),
        ("weights", HostData::F32(masked.weights)),
    ];
    let mut g = Graph::new();
    let drawn = draw(&mut g, &cfg, shape, MimOptions { predictions: true, ..MimOptions::default() })?;
    let (normed, logits) = all_logits(&mut g, &cfg, drawn.trunk.last())?;
    output_trunk(&mut g, &drawn.trunk);
    g.output("normed", normed);
    g.output("all_logits", logits);
    let weights = weights_for(&model, &shapes_of_store(&g, STORE))?;
    let out = device.evaluate(&g, STORE, &weights, &inputs)?;
    compare_trunk(report, &cfg, &out)?;
    report.tensor("hidden", "out.normed", &out.get("normed")?.values);
    let logits = &out.get("all_logits")?.values;
    let patches = logits.chunks(cfg.tokens() * cfg.vocab).flat_map(|image| &image[cfg.vocab..]);
    report.required("logits", "out.logits", &patches.copied().collect::<Vec<_>>());
    compare_loss(report, &out)?;

    let mut g = Graph::new();
    draw(&mut g, &cfg, shape, MimOptions { head: HeadLoss::Chunked, ..MimOptions::default() })?;
    compare_loss(report, &device.evaluate(&g, STORE, &weights, &inputs)?)
}

/// The network with its loss and all gradients.
fn draw(
    g: &mut Graph,
    cfg: &VitConfig,
    shape: MimBatchShape,
    options: MimOptions,
) -> Outcome<MaskedImageModel> {
    let ids = g.input_words("ids", &[shape.images, cfg.patches()])?;
    let drawn = on_tokens(g, cfg, ids, shape, options)?;
    g.output("rows", drawn.rows);
    output_gradients(g, drawn.loss, STORE, drawn.image)?;
    Ok(drawn)
}

fn compare_loss(report: &mut Report<'_>, out: &Outputs) -> Outcome {
    report.required("loss", "out.loss", &out.get("loss")?.values);
    let per_token: Vec<f64> = out.get("rows")?.values.chunks(3).map(|row| row[1]).collect();
    report.tensor("loss", "out.loss_per_masked_token", &per_token);
    compare_gradients(report, out, Names::Transformers)
}
