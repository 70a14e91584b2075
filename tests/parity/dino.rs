//! `dino_loss` and `dino_head`.

use std::collections::BTreeMap;

use beit::graph::{Graph, grad};
use beit::io::tensors::{Tensor, Tensors};
use beit::models::dino::{self, DinoHeadConfig, DinoTargets};
use beit::ops::{row_dot, sum};
use beit::session::HostData;

use super::case::{Case, Outcome};
use super::device::Device;
use super::report::Report;
use super::stores::{Loaded, plain_weights};
use super::vit::{STORE, output_gradients};

/// Several steps with the moving centre.
pub fn loss(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let (student, teacher) = (case.given("in.student")?, case.given("in.teacher")?);
    let mut g = Graph::new();
    let s = g.input("student", &student.shape[1..])?;
    let t = g.input("teacher", &teacher.shape[1..])?;
    let teacher_temp = g.input("temperature", &[1])?;
    let with = DinoTargets {
        student_temp: c.number("student_temp")? as f32,
        teacher_temp,
        keep: c.number("center_momentum")? as f32,
    };
    let loss = dino::loss(&mut g, s, t, with)?;
    let centre = g.param_var(STORE, "centre").ok_or("no centre was drawn")?;
    let grads = grad(&mut g, loss, &[s, t])?;
    if grads[1].is_some() {
        report.fail("a gradient flows to the teacher");
    }
    for (name, v) in [("loss", loss), ("centre", centre), ("grad", grads[0].ok_or("no gradient")?)] {
        g.output(name, v);
    }
    let start = case.given("in.center")?;
    let weights = Tensors::from([("centre".to_string(), Tensor::f32(start.shape.clone(), start.reals())?)]);
    let mut net = Loaded::new(device, &g, &[(STORE, &weights)])?;
    let (mut losses, mut centres, mut gradients) = (vec![], vec![], vec![]);
    for (i, temperature) in c.numbers("teacher_temp_per_step")?.into_iter().enumerate() {
        let item = |a: &super::case::Array| a.item(i).iter().map(|&x| x as f32).collect();
        net.run(&[
            ("student", HostData::F32(item(student))),
            ("teacher", HostData::F32(item(teacher))),
            ("temperature", HostData::F32(vec![temperature as f32])),
        ])?;
        losses.extend(net.read("loss")?);
        centres.extend(net.read("centre")?);
        gradients.extend(net.read("grad")?);
    }
    report.required("loss", "out.loss", &losses);
    report.required("center", "out.center", &centres);
    report.required("grad", "grad.student", &gradients);
    Ok(())
}

/// The projection head with a trained gain.
pub fn head(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let features = case.given("in.features")?;
    let cfg = DinoHeadConfig {
        hidden: c.count("hidden_dim")?,
        bottleneck: c.count("bottleneck_dim")?,
        out: c.count("out_dim")?,
        train_gain: true,
    };
    let mut g = Graph::new();
    let x = g.input("features", &features.shape)?;
    let cotangent = g.input("cotangent", &case.given("in.cotangent")?.shape)?;
    let y = dino::head(&mut g, &cfg, x)?;
    g.output("output", y);
    let products = row_dot(&mut g, y, cotangent)?;
    let loss = sum(&mut g, products)?;
    output_gradients(&mut g, loss, STORE, x)?;
    let inputs = [
        ("features", HostData::F32(features.reals())),
        ("cotangent", HostData::F32(case.given("in.cotangent")?.reals())),
    ];
    let out = device.evaluate(&g, STORE, &plain_weights(case)?, &inputs)?;
    report.required("output", "out.output", &out.get("output")?.values);
    let mut gradients = BTreeMap::from([("features".to_string(), out.get("pixels")?.values.clone())]);
    for (name, t) in out.tensors("grad.")? {
        gradients.insert(name, t.as_f32()?.iter().map(|&x| f64::from(x)).collect());
    }
    report.family("grad", "grad.", &gradients);
    Ok(())
}
