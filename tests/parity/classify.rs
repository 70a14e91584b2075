//! `classify` and `timm`: classifiers in the naming of either library.

use beit::graph::Graph;
use beit::interop::{Head, shapes_of_store};
use beit::models::vit::{VitInputs, backbone};
use beit::models::{VitConfig, classifier};
use beit::ops::{Pool, cross_entropy};
use beit::session::HostData;

use super::case::{Case, Outcome};
use super::device::Device;
use super::report::Report;
use super::vit::{
    Names, STORE, compare_gradients, compare_gradients_without_biases, compare_trunk, from_timm,
    from_transformers, images,
};
use super::vit::{imported, output_gradients, output_trunk, weights_for};

/// A case of transformers.
pub fn transformers(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let pool = if c.flag("use_mean_pooling")? { Pool::MeanPatches } else { Pool::Cls };
    let head = (pool, c.count("num_labels")?);
    check(case, device, report, &from_transformers(&c)?, head, Names::Transformers)
}

/// A case of timm.
pub fn timm(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let pool = match c.text("global_pool")?.as_str() {
        "avg" => Pool::MeanPatches,
        "token" => Pool::Cls,
        other => return Err(format!("global_pool {other}").into()),
    };
    let head = (pool, c.count("num_classes")?);
    check(case, device, report, &from_timm(&c)?, head, Names::Timm)
}

fn check(
    case: &Case,
    device: &Device,
    report: &mut Report<'_>,
    cfg: &VitConfig,
    (pool, classes): (Pool, usize),
    names: Names,
) -> Outcome {
    let model = imported(case, cfg, &Head::Classifier { classes, pool })?;
    let (pixels, b) = images(case, "in.pixel_values")?;
    let mut g = Graph::new();
    let image = g.input("image", &[b, cfg.image.0, cfg.image.1, 3])?;
    let trunk = backbone(&mut g, cfg, VitInputs { image, mask: None, drop_key: None }, false)?;
    let (pooled, logits) = classifier::head(&mut g, cfg, trunk.last(), pool, classes)?;
    let labels = g.input_words("labels", &[b])?;
    let weights = g.input("weights", &[b])?;
    let loss = cross_entropy(&mut g, logits, labels, weights)?.loss;
    output_trunk(&mut g, &trunk);
    for (name, v) in [("pooled", pooled), ("logits", logits), ("loss", loss)] {
        g.output(name, v);
    }
    output_gradients(&mut g, loss, STORE, image)?;

    let tensors = weights_for(&model, &shapes_of_store(&g, STORE))?;
    let inputs = [
        ("image", HostData::F32(pixels)),
        ("labels", HostData::U32(case.given("in.labels")?.words())),
        ("weights", HostData::F32(vec![1.0 / b as f32; b])),
    ];
    let out = device.evaluate(&g, STORE, &tensors, &inputs)?;
    compare_trunk(report, cfg, &out)?;
    report.tensor("hidden", "out.pooled", &out.get("pooled")?.values);
    report.required("logits", "out.logits", &out.get("logits")?.values);
    report.required("loss", "out.loss", &out.get("loss")?.values);
    match case.json["config"]["qkv_bias"].as_bool() {
        Some(false) => compare_gradients_without_biases(report, &out, names),
        _ => compare_gradients(report, &out, names),
    }
}
