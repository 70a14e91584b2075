//! `segment`: UPerNet with its auxiliary head, in evaluation and in training.

use beit::graph::Graph;
use beit::interop::{Head, ModelFile, SegmenterHead, shapes_of_store};
use beit::models::VitConfig;
use beit::models::batch_norm::Statistics;
use beit::models::segmenter::{self, SegmentHead, SegmentLogits};
use beit::models::upernet::{AuxiliaryConfig, HeadMode, UperNetConfig, upernet};
use beit::models::vit::{VitInputs, backbone};
use beit::ops::{Over, resize};
use beit::session::HostData;

use super::case::{Case, Outcome};
use super::device::{Device, Outputs};
use super::report::Report;
use super::vit::{Names, STORE, compare_gradients, compare_trunk, from_transformers, images, renamed};
use super::vit::{imported, output_gradients, output_trunk, weights_for};

/// Both files of the case, on the same inputs.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let (cfg, (head_cfg, classes)) = (from_transformers(&case.config())?, head(case)?);
    let described = SegmenterHead { classes, head: SegmentHead::Upernet(head_cfg.clone()) };
    let model = imported(case, &cfg, &Head::Segmenter(described))?;
    let given = Case { io: case.arrays("io_eval.safetensors")?, ..case.clone() };
    for (file, prefix, statistics) in [
        ("io_eval.safetensors", "eval.", Statistics::Running),
        ("io_train.safetensors", "train.", Statistics::Batch),
    ] {
        report.turn_to(prefix, case.arrays(file)?);
        one(&given, (&model, &head_cfg, classes), device, report, statistics)?;
    }
    Ok(())
}

/// The head of a case.
fn head(case: &Case) -> Outcome<(UperNetConfig, usize)> {
    let c = case.config();
    let taps: Option<[usize; 4]> = serde_json::from_value(case.json["taps"].clone()).ok();
    let auxiliary = match c.flag("use_auxiliary_head")? {
        false => None,
        true => Some(AuxiliaryConfig {
            channels: c.count("auxiliary_channels")?,
            convs: c.count("auxiliary_num_convs")?,
            concat_input: c.flag("auxiliary_concat_input")?,
            weight: c.number("auxiliary_loss_weight")? as f32,
        }),
    };
    let cfg = UperNetConfig {
        taps: taps.ok_or("case.json: taps: expected four block numbers")?,
        channels: c.count("hidden_size")?,
        pool_scales: c.numbers("pool_scales")?.into_iter().map(|s| s as usize).collect(),
        auxiliary,
        // what the import takes for granted, of no effect in these cases
        dropout: 0.1,
    };
    if c.count("semantic_loss_ignore_index")? < c.count("num_labels")? {
        return Err("case.json: an ignored label that is a class".into());
    }
    Ok((cfg, c.count("num_labels")?))
}

fn one(
    case: &Case,
    (model, head_cfg, classes): (&ModelFile, &UperNetConfig, usize),
    device: &Device,
    report: &mut Report<'_>,
    statistics: Statistics,
) -> Outcome {
    let cfg: VitConfig = from_transformers(&case.config())?;
    let (pixels, b) = images(case, "in.pixel_values")?;
    let labels = case.given("in.labels")?;
    let &[_, height, width] = labels.shape.as_slice() else { return Err("in.labels: not [B,H,W]".into()) };

    let mut g = Graph::new();
    let image = g.input("image", &[b, cfg.image.0, cfg.image.1, 3])?;
    let words = g.input_words("labels", &[b, height, width])?;
    let trunk = backbone(&mut g, &cfg, VitInputs { image, mask: None, drop_key: None }, false)?;
    let mode = HeadMode { statistics, drop_key: None };
    let net = upernet(&mut g, &cfg, head_cfg, &trunk.blocks, classes, mode)?;
    let weight = head_cfg.auxiliary.as_ref().map_or(0.0, |a| a.weight);
    let logits = SegmentLogits { main: net.logits, auxiliary: net.auxiliary.map(|a| (a, weight)) };
    let loss = segmenter::loss(&mut g, logits, words, Over::Counted)?;
    let over_all = segmenter::loss(&mut g, logits, words, Over::All)?;
    output_trunk(&mut g, &trunk);
    for (i, level) in net.levels.into_iter().enumerate() {
        g.output(&format!("fpn.{i}"), level);
    }
    let upsampled = resize(&mut g, net.logits, (height, width))?;
    for (name, v) in [
        ("psp", net.pooled),
        ("fused", net.fused),
        ("logits", net.logits),
        ("upsampled", upsampled),
        ("loss", loss.total),
        ("loss_main", loss.main.loss),
        ("loss_mean_over_all_pixels", over_all.total),
    ] {
        g.output(name, v);
    }
    if let (Some(aux), Some(aux_loss)) = (net.auxiliary, loss.auxiliary) {
        g.output("aux_logits", aux);
        g.output("loss_aux", aux_loss.loss);
    }
    for (name, v) in g.params_of(STORE) {
        if name.contains(".running_") {
            g.output(&format!("after.{name}"), v);
        }
    }
    output_gradients(&mut g, loss.total, STORE, image)?;

    // Labels beyond the classes are ignored, the case's ignored one among them.
    let inputs = [("image", HostData::F32(pixels)), ("labels", HostData::U32(labels.words()))];
    let weights = weights_for(model, &shapes_of_store(&g, STORE))?;
    let out = device.evaluate(&g, STORE, &weights, &inputs)?;
    compare(report, &cfg, &out, statistics)
}

fn compare(report: &mut Report<'_>, cfg: &VitConfig, out: &Outputs, statistics: Statistics) -> Outcome {
    compare_trunk(report, cfg, out)?;
    for name in ["fpn.0", "fpn.1", "fpn.2", "fpn.3", "psp", "fused"] {
        report.tensor("hidden", &format!("out.{name}"), &out.planes(name)?);
    }
    report.required("logits", "out.logits", &out.planes("logits")?);
    if out.get("aux_logits").is_ok() {
        report.required("logits", "out.aux_logits", &out.planes("aux_logits")?);
        report.required("loss", "out.loss_aux", &out.get("loss_aux")?.values);
    }
    let first = out.planes("upsampled")?;
    let images = out.get("upsampled")?.shape[0];
    report.tensor("logits", "out.upsampled_logits_first_image", &first[..first.len() / images]);
    for name in ["loss", "loss_main"] {
        report.required("loss", &format!("out.{name}"), &out.get(name)?.values);
    }
    let over_all = &out.get("loss_mean_over_all_pixels")?.values;
    report.tensor("loss", "out.loss_mean_over_all_pixels", over_all);
    if statistics == Statistics::Batch {
        report.family("running_stats", "after.", &renamed(out.tensors("after.")?, Names::Transformers)?);
    }
    compare_gradients(report, out, Names::Transformers)
}
