//! `vq_kd`: one step of the tokenizer of BEiT v2: vectors, ids, losses, gradients, codebook, mean patches; k-means.

use beit::graph::Graph;
use beit::interop::{ModelFile, OpenOptions, Parts, from_tensors};
use beit::io::limits::FileLimits;
use beit::io::tensors::{Tensor, Tensors, read_safetensors};
use beit::models::mim::TOKENIZER;
use beit::models::vq_kd::{self, Learning};
use beit::models::{TokenizerModel, VqKdConfig};
use beit::ops::Following;
use beit::session::HostData;
use serde_json::json;

use super::case::{Array, Case, Outcome};
use super::device::{Device, permute};
use super::report::Report;
use super::stores::Loaded;
use super::vit::output_gradients;

/// The sizes as this crate's own file says them; the case has no mean patches, as official files have none.
fn config(case: &Case) -> Outcome<VqKdConfig> {
    let c = case.config();
    let side = c.count("side")?;
    Ok(VqKdConfig {
        image: (side, side),
        patch: c.count("patch")?,
        width: c.count("width")?,
        depth: c.count("depth")?,
        heads: c.count("heads")?,
        mlp: c.count("mlp")?,
        decoder_depth: c.count("decoder_depth")?,
        code: c.count("code")?,
        vocab: c.count("vocab")?,
        target: c.count("target")?,
        layer_norm_eps: c.number("layer_norm_eps")? as f32,
        mean_patches: false,
    })
}

/// The weights by the import that every command uses.
fn model(case: &Case, cfg: &VqKdConfig) -> Outcome<ModelFile> {
    let bytes = std::fs::read(case.dir.join("weights.safetensors"))?;
    let file = read_safetensors(&bytes, &FileLimits::native())?;
    let parts = Parts {
        path: case.dir.join("weights.safetensors"),
        tensors: file.tensors,
        sizes: Some(json!(TokenizerModel::from(cfg.clone())).to_string().into_bytes()),
        ..Parts::default()
    };
    Ok(from_tensors(parts, &OpenOptions::default())?)
}

fn channels_last(a: &Array) -> Outcome<Vec<f32>> {
    let &[b, c, h, w] = a.shape.as_slice() else { return Err(format!("shape {:?}", a.shape).into()) };
    Ok(permute(&a.reals(), b, c, h * w))
}

/// Everything that the case lists.
pub fn check(case: &Case, device: &Device, report: &mut Report<'_>) -> Outcome {
    let sizes = config(case)?;
    let model = model(case, &sizes)?;
    if *model.tokenizer()? != TokenizerModel::from(sizes.clone()) {
        return Err(format!("imported as {:?}, the case describes {sizes:?}", model.network).into());
    }
    // the same network with mean patches, which start empty
    let cfg = VqKdConfig { mean_patches: true, ..sizes };
    let mut weights = model.tensors.clone();
    let numbers = 3 * cfg.patch * cfg.patch;
    let zeros = |shape: Vec<usize>| {
        let n = shape.iter().product();
        Tensor::f32(shape, vec![0.0; n])
    };
    weights.insert("mean_patches.weight".into(), zeros(vec![cfg.vocab, numbers])?);
    weights.insert("mean_patches.count".into(), zeros(vec![cfg.vocab])?);
    one_step(case, device, report, &cfg, &weights)?;
    k_means(case, device, report, &cfg, &weights)
}

fn one_step(
    case: &Case,
    device: &Device,
    report: &mut Report<'_>,
    cfg: &VqKdConfig,
    weights: &Tensors,
) -> Outcome {
    let (image, target) = (case.given("in.image")?, case.given("in.target")?);
    let (b, grid) = (image.shape[0], cfg.grid());
    let mut g = Graph::new();
    let (loss, x) = g.in_store(TOKENIZER, |g| {
        let x = g.input("image", &[b, cfg.image.0, cfg.image.1, 3])?;
        let target = g.input("target", &[b, grid.0, grid.1, cfg.target])?;
        let key = g.input_words("key", &[4])?;
        let keep = case.config().number("keep").unwrap_or(f64::NAN) as f32;
        let how = Learning { commitment: 1.0, following: Following { keep, restart: 0.0 }, key };
        let drawn = vq_kd::training(g, cfg, x, target, how)?;
        for (name, v) in [
            ("vectors", drawn.vectors),
            ("ids", drawn.ids),
            ("features", drawn.features),
            ("distance", drawn.distance),
            ("commitment", drawn.commitment),
            ("loss", drawn.loss),
        ] {
            g.output(name, v);
        }
        for (name, statistic) in STATISTICS {
            if let Some(v) = g.param_var(TOKENIZER, statistic) {
                g.output(name, v);
            }
        }
        Ok((drawn.loss, x))
    })?;
    output_gradients(&mut g, loss, TOKENIZER, x)?;
    let mapped: Vec<f32> = channels_last(image)?.iter().map(|v| 0.8 * v + 0.1).collect();
    let mut net = Loaded::new(device, &g, &[(TOKENIZER, weights)])?;
    net.run(&[
        ("image", HostData::F32(mapped)),
        ("target", HostData::F32(target.reals())),
        ("key", HostData::U32(vec![1, 2, 3, 4])),
    ])?;
    let ids: Vec<u32> = net.read("ids")?.iter().map(|&v| v as u32).collect();
    report.exact("out.ids", &ids);
    for name in ["vectors", "features"] {
        report.required("forward", &format!("out.{name}"), &net.read(name)?);
    }
    for name in ["distance", "commitment", "loss"] {
        report.required("loss", &format!("out.{name}"), &net.read(name)?);
    }
    for (name, _) in STATISTICS {
        report.required("codebook", &format!("out.{name}"), &net.read(name)?);
    }
    let mut gradients = std::collections::BTreeMap::new();
    for name in net.outputs() {
        if let Some(parameter) = name.strip_prefix("grad.") {
            gradients.insert(parameter.to_owned(), net.read(&name)?);
        }
    }
    report.family("grad", "grad.", &gradients);
    Ok(())
}

/// What a step moves without a gradient.
const STATISTICS: [(&str, &str); 3] = [
    ("codebook", "quantize.embedding.weight"),
    ("cluster_size", "quantize.cluster_size"),
    ("mean_patches", "mean_patches.weight"),
];

/// Rounds of k-means on the expected vectors.
fn k_means(
    case: &Case,
    device: &Device,
    report: &mut Report<'_>,
    cfg: &VqKdConfig,
    weights: &Tensors,
) -> Outcome {
    let (start, vectors) = (case.given("in.k_means_start")?, case.given("out.vectors")?);
    let mut g = Graph::new();
    let rows = vectors.values.len() / cfg.code;
    g.in_store(TOKENIZER, |g| {
        let vectors = g.input("vectors", &[rows, cfg.code])?;
        let key = g.input_words("key", &[4])?;
        vq_kd::k_means_round(g, cfg, vectors, key)?;
        if let Some(v) = g.param_var(TOKENIZER, "quantize.embedding.weight") {
            g.output("codes", v);
        }
        Ok(())
    })?;
    let own = ["quantize.embedding.weight", "quantize.cluster_size"];
    let mut weights: Tensors =
        own.iter().filter_map(|n| Some(((*n).to_owned(), weights.get(*n)?.clone()))).collect();
    weights.insert(own[0].into(), Tensor::f32(start.shape.clone(), start.reals())?);
    let mut net = Loaded::new(device, &g, &[(TOKENIZER, &weights)])?;
    for _ in 0..case.config().count("k_means_rounds")? {
        net.run(&[("vectors", HostData::F32(vectors.reals())), ("key", HostData::U32(vec![1, 2, 3, 4]))])?;
    }
    report.required("codebook", "out.k_means", &net.read("codes")?);
    Ok(())
}
