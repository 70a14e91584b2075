//! `metrics_segment` and `metrics_topk`: counts must agree exactly.

use beit::graph::Graph;
use beit::ops::cross_entropy;
use beit::session::HostData;
use beit::tasks::confusion::{ClassQuality, Confusion, IGNORED, reduce_zero_label};
use beit::tasks::topk::{TopK, cross_entropy as smoothed, rank};
use serde_json::Value;

use super::case::{Array, Case, Outcome};
use super::device::Device;
use super::report::Report;
use super::vit::STORE;

/// The whole set at once, and every image alone.
pub fn segment(case: &Case, report: &mut Report<'_>) -> Outcome {
    let c = case.config();
    let classes = c.count("num_classes")?;
    let ignored = c.count("ignore_index")? as u32;
    let reduce = c.flag("reduce_zero_label")?;
    let tolerance = case.json["tolerance"]["ratios"]["absolute"].as_f64().ok_or("no tolerance of ratios")?;
    let (pred, label) = (case.given("in.pred")?, case.given("in.label")?);
    let clean = |l: u32| match l {
        l if l == ignored => IGNORED,
        l if reduce => reduce_zero_label(l),
        l => l,
    };
    let mut all = Confusion::new(classes);
    for i in 0..pred.shape[0] {
        let words = |a: &Array| a.item(i).iter().map(|&v| v as u32).collect::<Vec<u32>>();
        let labels: Vec<u32> = words(label).into_iter().map(clean).collect();
        let mut alone = Confusion::new(classes);
        alone.add(&words(pred), &labels)?;
        all.merge(&alone);
        let wanted = &case.json["expected_per_image_alone"][i];
        if !wanted.is_null() {
            quality(report, &format!("image {i}"), &alone, wanted, tolerance)?;
        }
    }
    quality(report, "all images", &all, &case.json["expected"], tolerance)?;
    report.exact("out.confusion", &all.counts().iter().map(|&n| n as u32).collect::<Vec<_>>());
    let per_class = all.per_class();
    type Count = fn(&ClassQuality) -> u64;
    let counts: [(&str, Count); 4] = [
        ("out.intersection", |c| c.intersection),
        ("out.union", |c| c.union),
        ("out.area_pred", |c| c.predicted),
        ("out.area_label", |c| c.labelled),
    ];
    for (name, of) in counts {
        report.exact(name, &per_class.iter().map(|c| of(c) as u32).collect::<Vec<_>>());
    }
    type Ratio = fn(&ClassQuality) -> Option<f64>;
    let ratios: [(&str, Ratio); 3] =
        [("out.iou", |c| c.iou), ("out.class_accuracy", |c| c.accuracy), ("out.dice", |c| c.dice)];
    for (name, of) in ratios {
        let expected = case.given(name)?;
        report.claim([name.to_string()]);
        for (i, (got, &want)) in per_class.iter().map(of).zip(&expected.values).enumerate() {
            let same = match got {
                None => want.is_nan(),
                Some(got) => (got - want).abs() <= tolerance,
            };
            if !same || expected.values.len() != classes {
                report.fail(format!("{name} of class {i}: {got:?}, expected {want}"));
            }
        }
    }
    Ok(())
}

fn quality(report: &mut Report<'_>, what: &str, got: &Confusion, want: &Value, tolerance: f64) -> Outcome {
    let got = serde_json::to_value(got.quality())?;
    let renamed = |key: &str| match key {
        "pixels_counted" => "pixelsCounted".to_string(),
        "pixels_ignored" => "pixelsIgnored".to_string(),
        key => key.to_string(),
    };
    for (key, want) in want.as_object().ok_or("case.json: no expected means")? {
        let got = &got[renamed(key)];
        let exact = want.is_u64();
        let difference = (got.as_f64().unwrap_or(f64::NAN) - want.as_f64().unwrap_or(f64::NAN)).abs();
        let within = if exact { got == want } else { difference <= tolerance };
        report.claim([format!("{what}: {key}")]);
        if !within {
            report.fail(format!("{what}: {key}: {got}, expected {want}"));
        }
    }
    Ok(())
}

/// Ranks and shares on the host, cross-entropies on the device too.
pub fn topk(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let (logits, labels) = (case.given("in.logits")?, case.given("in.labels")?.words());
    let (n, classes) = (logits.shape[0], logits.shape[1]);
    let smoothing = case.config().number("label_smoothing")?;
    let rows: Vec<Vec<f32>> = (0..n).map(|i| logits.item(i).iter().map(|&x| x as f32).collect()).collect();
    let mut counts = TopK::default();
    let mut ranks = Vec::new();
    for (row, &label) in rows.iter().zip(&labels) {
        counts.add(row, label as usize)?;
        ranks.push(rank(row, label as usize).ok_or("a label that is no class")? as u32);
    }
    report.exact("out.rank_of_label", &ranks);

    let mut g = Graph::new();
    let x = g.input("logits", &[n, classes])?;
    let y = g.input_words("labels", &[n])?;
    let weights = g.input("weights", &[n])?;
    let out = cross_entropy(&mut g, x, y, weights)?;
    for (name, v) in [("loss", out.loss), ("accuracy", out.accuracy), ("rows", out.rows)] {
        g.output(name, v);
    }
    let inputs = [
        ("logits", HostData::F32(logits.reals())),
        ("labels", HostData::U32(labels.clone())),
        ("weights", HostData::F32(vec![1.0 / n as f32; n])),
    ];
    let out = device.evaluate(&g, STORE, &Default::default(), &inputs)?;
    let nll: Vec<f64> = out.get("rows")?.values.chunks(3).map(|r| r[1]).collect();
    report.required("cross_entropy", "out.cross_entropy", &nll);
    let soft: Vec<f64> = rows.iter().zip(&labels).map(|(r, &l)| smoothed(r, l as usize, smoothing)).collect();
    report.required("cross_entropy", "out.cross_entropy_smoothed", &soft);

    let (top1, top5, mean) = counts.means();
    let bound = case.json["tolerance"]["cross_entropy"][device.bound].as_f64().ok_or("no tolerance")?;
    let smoothed_mean = soft.iter().sum::<f64>() / n as f64;
    for (key, got, bound) in [
        ("top1", top1, 0.0),
        ("top5", top5, 0.0),
        ("mean_cross_entropy", mean, bound),
        ("mean_cross_entropy", out.get("loss")?.values[0], bound),
        ("mean_cross_entropy_smoothed", smoothed_mean, bound),
    ] {
        let want =
            case.json["expected"][key].as_f64().ok_or_else(|| format!("case.json: no expected {key}"))?;
        if (got - want).abs() > bound * want {
            report.fail(format!("{key}: {got}, expected {want}"));
        }
    }
    if (out.get("accuracy")?.values[0] - top1).abs() > 1e-6 {
        report.fail("the device counts another number of right labels");
    }
    Ok(())
}
