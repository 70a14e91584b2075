//! `dvae`: encoder, decoder, pixel maps, the training loss with the noise given, all gradients.

use std::collections::BTreeMap;

use beit::graph::Graph;
use beit::models::dvae::{self, DvaeConfig, DvaeNetwork, Noise};
use beit::models::mim::TOKENIZER;
use beit::ops::{argmax, one_hot};
use beit::session::HostData;
use beit::tasks::tokenizer::{pixel_of_mu, unmap};

use super::case::{Array, Case, Outcome};
use super::device::{Device, Outputs, permute};
use super::report::Report;
use super::vit::output_gradients;

fn config(case: &Case) -> Outcome<DvaeConfig> {
    let c = case.config();
    for key in ["input_channels", "output_channels"] {
        if c.maybe_count(key)?.is_some_and(|n| n != 3) {
            return Err(format!("case.json: config.{key}: expected 3").into());
        }
    }
    let groups = c.count("group_count")?;
    Ok(DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: c.count("n_hid")?,
        n_init: c.count("n_init")?,
        groups,
        blocks: c.count("n_blk_per_group")?,
        pools: c.maybe_count("pools")?.unwrap_or(groups - 1),
        vocab: c.count("vocab_size")?,
    })
}

/// The noise `[B,V,h,w]` as the graph takes it.
fn channels_last(a: &Array) -> Outcome<Vec<f32>> {
    let &[b, c, h, w] = a.shape.as_slice() else { return Err(format!("shape {:?}", a.shape).into()) };
    Ok(permute(&a.reals(), b, c, h * w))
}

/// Everything that the case lists.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let cfg = config(case)?;
    let model = case.model()?;
    if *model.dvae()? != cfg {
        return Err(format!("imported as {:?}, the case describes {cfg:?}", model.network).into());
    }
    let image = case.given("in.image")?;
    let &[b, 3, h, w] = image.shape.as_slice() else {
        return Err(format!("in.image: {:?}", image.shape).into());
    };
    let graph = draw(&cfg, b, (h, w))?;
    let map = |v: &f64| 0.8 * v + 0.1;
    let mapped = Array { shape: image.shape.clone(), values: image.values.iter().map(map).collect() };
    report.tensor("encoder", "out.mapped", &mapped.values);
    let c = case.config();
    let kl_weight = cfg.kl_coefficient(c.number("kl_weight")?);
    let inputs = [
        ("image", HostData::F32(channels_last(&mapped)?)),
        ("random_codes", HostData::U32(case.given("in.random_codes")?.words())),
        ("noise", HostData::F32(channels_last(case.given("in.gumbel")?)?)),
        ("tau", HostData::F32(vec![c.number("temperature")? as f32])),
        ("kl_weight", HostData::F32(vec![kl_weight as f32])),
    ];
    let out = device.evaluate(&graph, TOKENIZER, &model.tensors, &inputs)?;
    compare_forward(report, &out, &cfg)?;
    if let Some(given) = case.io.get("in.unmap") {
        let got: Vec<f64> = given.reals().into_iter().map(|v| f64::from(unmap(v))).collect();
        report.tensor("decoder", "out.unmap", &got);
    }
    let gradients: BTreeMap<String, Vec<f64>> = out
        .tensors("grad.")?
        .iter()
        .map(|(n, t)| Ok((n.clone(), t.as_f32()?.iter().map(|&x| f64::from(x)).collect())))
        .collect::<Outcome<_>>()?;
    report.family("grad_params", "grad.", &gradients);
    report.required("grad_pixels", "grad.mapped_pixel_values", &out.planes("pixels")?);
    Ok(())
}

fn draw(cfg: &DvaeConfig, b: usize, side: (usize, usize)) -> Outcome<Graph> {
    let mut g = Graph::new();
    let (h, w) = (side.0 / cfg.stride(), side.1 / cfg.stride());
    let (loss, image) = g.in_store(TOKENIZER, |g| {
        let image = g.input("image", &[b, side.0, side.1, 3])?;
        let random = g.input_words("random_codes", &[b, h, w])?;
        let noise = g.input("noise", &[b, h, w, cfg.vocab])?;
        let (tau, kl_weight) = (g.input("tau", &[1])?, g.input("kl_weight", &[1])?);
        let (logits, stages) = dvae::encoder_stages(g, cfg, image)?;
        let codes = argmax(g, logits)?;
        let hot = one_hot(g, codes, cfg.vocab)?;
        let (decoded, decoder_stages) = dvae::decoder_stages(g, cfg, hot)?;
        let from_random = dvae::from_ids(g, cfg, random)?;
        let t = dvae::training(g, cfg, image, tau, kl_weight, Noise::Given(noise).into())?;
        for (name, v) in [
            ("logits", logits),
            ("codes", codes),
            ("decoded", decoded),
            ("from_random", from_random),
            ("soft", t.soft),
            ("from_soft", t.decoded),
            ("nll_values", t.nll_values),
            ("kl_rows", t.kl_rows),
            ("nll", t.nll),
            ("kl", t.kl),
            ("loss", t.loss),
        ] {
            g.output(name, v);
        }
        for (half, stages) in [("encoder", stages), ("decoder", decoder_stages)] {
            for (name, v) in stages {
                g.output(&format!("stage.{half}.{name}"), v);
            }
        }
        Ok((t.loss, image))
    })?;
    output_gradients(&mut g, loss, TOKENIZER, image)?;
    Ok(g)
}

fn compare_forward(report: &mut Report<'_>, out: &Outputs, cfg: &DvaeConfig) -> Outcome {
    report.required("encoder", "out.encoder_logits", &out.planes("logits")?);
    report.exact("out.codes", &out.get("codes")?.words());
    let decoded = out.planes("decoded")?;
    report.required("decoder", "out.decoder_from_codes", &decoded);
    report.tensor("decoder", "out.decoder_from_random_codes", &out.planes("from_random")?);
    report.tensor("decoder", "out.decoder_from_soft", &out.planes("from_soft")?);
    let pixels = &out.get("decoded")?.values;
    let mu: Vec<f64> =
        pixels.chunks(6).flat_map(|p| &p[..3]).map(|&mu| f64::from(pixel_of_mu(mu as f32))).collect();
    let images = out.get("decoded")?.shape[0];
    let reconstruction = permute(&mu, images, mu.len() / 3 / images, 3);
    report.tensor("decoder", "out.reconstruction", &reconstruction);
    for half in ["encoder", "decoder"] {
        let stages = ["input".to_string()].into_iter().chain((1..=cfg.groups).map(|i| format!("group_{i}")));
        for stage in stages {
            report.tensor(
                half,
                &format!("out.{half}.{stage}"),
                &out.planes(&format!("stage.{half}.{stage}"))?,
            );
        }
    }
    report.tensor("soft_codes", "out.soft_codes", &out.planes("soft")?);
    report.tensor("per_value_losses", "out.nll_per_value", &out.planes("nll_values")?);
    report.tensor("per_value_losses", "out.kl_per_position", &out.get("kl_rows")?.values);
    report.tensor("loss", "out.nll_mean", &out.get("nll")?.values);
    report.tensor("loss", "out.kl_mean_per_position", &out.get("kl")?.values);
    report.required("loss", "out.loss", &out.get("loss")?.values);
    Ok(())
}
