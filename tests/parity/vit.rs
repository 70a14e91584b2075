//! What the cases with a transformer share: its configuration, its intermediate values, its gradients.

use std::collections::BTreeMap;

use beit::graph::{Graph, Var, grad};
use beit::interop::{Head, ModelFile, Resize, Shapes, adapt};
use beit::io::names::to_transformers;
use beit::io::tensors::Tensors;
use beit::models::vit::Backbone;
use beit::models::{RelPos, VitConfig};
use beit::ops::AttentionSpec;

use super::case::{Case, Outcome, Settings};
use super::device::{Outputs, permute};
use super::report::Report;

/// Store of the parameters.
pub const STORE: &str = "model";

/// The network of a case in the terms of transformers.
pub fn from_transformers(c: &Settings<'_>) -> Outcome<VitConfig> {
    let shared = c.flag("use_shared_relative_position_bias")?;
    Ok(VitConfig {
        image: c.sides("image_size")?,
        patch: c.count("patch_size")?,
        width: c.count("hidden_size")?,
        depth: c.count("num_hidden_layers")?,
        heads: c.count("num_attention_heads")?,
        mlp: c.count("intermediate_size")?,
        vocab: c.maybe_count("vocab_size")?.unwrap_or(1),
        layer_norm_eps: c.number("layer_norm_eps")? as f32,
        abs_pos: c.flag("use_absolute_position_embeddings")?,
        rel_pos: rel_pos(shared, c.flag("use_relative_position_bias")?)?,
        layer_scale: c.number_or_zero("layer_scale_init_value")? as f32,
        // the cases are computed in evaluation mode
        drop_path: 0.0,
    })
}

/// The network of a case in the terms of timm.
pub fn from_timm(c: &Settings<'_>) -> Outcome<VitConfig> {
    let width = c.count("embed_dim")?;
    let shared = c.flag("use_shared_rel_pos_bias")?;
    Ok(VitConfig {
        image: c.sides("img_size")?,
        patch: c.count("patch_size")?,
        width,
        depth: c.count("depth")?,
        heads: c.count("num_heads")?,
        mlp: (width as f64 * c.number("mlp_ratio")?) as usize,
        vocab: 1,
        layer_norm_eps: c.number("layer_norm_eps")? as f32,
        abs_pos: c.flag("use_abs_pos_emb")?,
        rel_pos: rel_pos(shared, c.flag("use_rel_pos_bias")?)?,
        layer_scale: c.number_or_zero("init_values")? as f32,
        drop_path: 0.0,
    })
}

fn rel_pos(shared: bool, per_layer: bool) -> Outcome<RelPos> {
    match (shared, per_layer) {
        (true, true) => Ok(RelPos::Both),
        (true, false) => Ok(RelPos::Shared),
        (false, true) => Ok(RelPos::PerLayer),
        (false, false) => Ok(RelPos::None),
    }
}

/// The model that the import makes of the case's files, which must be the one that the case describes.
pub fn imported(case: &Case, described: &VitConfig, head: &Head) -> Outcome<ModelFile> {
    let model = case.model()?;
    let masked = *head == Head::MaskedImage;
    // What files do not show is left aside: rates of training, the first value of the layer scale, the number of ids of
    // a model without a token head; and timm's files do not say what is added to variances.
    let shown = |c: &VitConfig| VitConfig {
        drop_path: 0.0,
        layer_scale: if c.layer_scale > 0.0 { 1.0 } else { 0.0 },
        vocab: if masked { c.vocab } else { 1 },
        layer_norm_eps: if case.kind == "timm" { 0.0 } else { c.layer_norm_eps },
        ..c.clone()
    };
    if shown(model.vit()?) != shown(described) || model.head()? != head {
        return Err(
            format!("imported as {:?}, the case describes {described:?}, {head:?}", model.network).into()
        );
    }
    Ok(model)
}

/// The tensors for a network, through the product's own step between a file and a network; all come from the file.
pub fn weights_for(model: &ModelFile, wanted: &Shapes) -> Outcome<Tensors> {
    let adapted = adapt(model, model.vit()?, wanted, Resize::Geometric)?;
    match adapted.fresh.as_slice() {
        [] => Ok(adapted.tensors),
        fresh => Err(format!("not in the file: {fresh:?}").into()),
    }
}

/// The images `[B,3,H,W]` of a case as the graph takes them, and their number.
pub fn images(case: &Case, name: &str) -> Outcome<(Vec<f32>, usize)> {
    let a = case.given(name)?;
    let &[b, c, h, w] = a.shape.as_slice() else { return Err(format!("{name}: {:?}", a.shape).into()) };
    Ok((permute(&a.reals(), b, c, h * w), b))
}

/// Marks what the backbone computes as outputs.
pub fn output_trunk(g: &mut Graph, trunk: &Backbone) {
    g.output("embeddings", trunk.embeddings);
    for (i, block) in trunk.blocks.iter().enumerate() {
        g.output(&format!("block.{i}"), *block);
        g.output(&format!("qkv.{i}"), trunk.qkv[i]);
        if let Some(table) = trunk.tables[i] {
            g.output(&format!("table.{i}"), table);
        }
    }
}

/// Marks the gradients of a scalar with respect to all parameters and the image as outputs.
pub fn output_gradients(g: &mut Graph, loss: Var, store: &str, image: Var) -> Outcome {
    let params = g.params_of(store);
    let wrt: Vec<Var> = params.iter().map(|p| p.1).chain([image]).collect();
    let names = params.iter().map(|p| format!("grad.{}", p.0)).chain(["pixels".to_string()]);
    for (name, gradient) in names.collect::<Vec<_>>().into_iter().zip(grad(g, loss, &wrt)?) {
        if let Some(gradient) = gradient {
            g.output(&name, gradient);
        }
    }
    Ok(())
}

/// Compares encoder input, blocks, attention maps and bias tables, under the names of either library.
pub fn compare_trunk(report: &mut Report<'_>, cfg: &VitConfig, out: &Outputs) -> Outcome {
    report.tensor("hidden", "out.embeddings", &out.get("embeddings")?.values);
    for i in 0..cfg.depth {
        let block = &out.get(&format!("block.{i}"))?.values;
        report.tensor("hidden", &format!("out.hidden_states.{}", i + 1), block);
        report.tensor("hidden", &format!("out.block.{i}"), block);
        if i + 1 == cfg.depth {
            report.tensor("hidden", "out.last_hidden_state", block);
        }
    }
    let spec = AttentionSpec { heads: cfg.heads, grid: (cfg.rel_pos != RelPos::None).then(|| cfg.grid()) };
    for i in 0..cfg.depth {
        let table = out.get(&format!("table.{i}")).ok().map(|t| t.values.as_slice());
        let bias = bias_map(&spec, cfg.tokens(), table);
        if table.is_some() {
            report.tensor("hidden", &format!("out.relative_position_bias.layer{i}"), &bias);
            if i == 0 {
                report.tensor("hidden", "out.relative_position_bias", &bias);
            }
        }
        let name = format!("out.attentions.{i}");
        if report.expected(&name).is_some() {
            let maps = attention_maps(cfg, &out.get(&format!("qkv.{i}"))?.values, &bias);
            report.tensor("hidden", &name, &maps);
        }
    }
    let n = cfg.tokens();
    if spec.grid.is_some() {
        let index: Vec<u32> = (0..n * n).map(|ij| spec.table_row(ij / n, ij % n) as u32).collect();
        report.exact("out.relative_position_index", &index);
    }
    Ok(())
}

/// `[heads, N, N]` gathered from a table `[rows, heads]`; zeros without one.
fn bias_map(spec: &AttentionSpec, n: usize, table: Option<&[f64]>) -> Vec<f64> {
    let at = |h: usize, ij: usize| table.map_or(0.0, |t| t[spec.table_row(ij / n, ij % n) * spec.heads + h]);
    (0..spec.heads * n * n).map(|k| at(k / (n * n), k % (n * n))).collect()
}

/// `softmax(q·k / √(head size) + bias)`, `[B, heads, N, N]`, from the device's `qkv[B,N,3D]`.
fn attention_maps(cfg: &VitConfig, qkv: &[f64], bias: &[f64]) -> Vec<f64> {
    let (n, d, hd) = (cfg.tokens(), cfg.width, cfg.width / cfg.heads);
    let images = qkv.len() / (n * 3 * d);
    let mut maps = Vec::with_capacity(images * cfg.heads * n * n);
    for (b, h, i) in (0..images * cfg.heads * n).map(|r| (r / n / cfg.heads, r / n % cfg.heads, r % n)) {
        let row = |token: usize, part: usize| &qkv[(b * n + token) * 3 * d + part * d + h * hd..][..hd];
        let score = |j: usize| {
            let dot: f64 = row(i, 0).iter().zip(row(j, 1)).map(|(q, k)| q * k).sum();
            dot / (hd as f64).sqrt() + bias[(h * n + i) * n + j]
        };
        let scores: Vec<f64> = (0..n).map(score).collect();
        let largest = scores.iter().copied().fold(f64::MIN, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        maps.extend(scores.iter().map(|s| (s - largest).exp() / total));
    }
    maps
}

/// The naming of a case's gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// transformers.
    Transformers,
    /// timm.
    Timm,
}

/// Tensors of this crate in the names of a case.
pub fn renamed(tensors: Tensors, names: Names) -> Outcome<BTreeMap<String, Vec<f64>>> {
    let theirs = match names {
        Names::Transformers => to_transformers(tensors)?,
        // timm's names of parameters are this crate's own
        Names::Timm => tensors,
    };
    let reals = |t: &beit::io::tensors::Tensor| -> Outcome<Vec<f64>> {
        Ok(t.as_f32()?.iter().map(|&x| f64::from(x)).collect())
    };
    theirs.iter().map(|(n, t)| Ok((n.clone(), reals(t)?))).collect()
}

/// Compares the gradients of all parameters and of the images.
pub fn compare_gradients(report: &mut Report<'_>, out: &Outputs, names: Names) -> Outcome {
    compare_these(report, out.tensors("grad.")?, out, names)
}

/// As [`compare_gradients`], for a peer that has no biases of query and value: ours are zeros that it cannot have gradients of.
pub fn compare_gradients_without_biases(report: &mut Report<'_>, out: &Outputs, names: Names) -> Outcome {
    let mut gradients = out.tensors("grad.")?;
    gradients.retain(|name, _| !name.ends_with("attn.q_bias") && !name.ends_with("attn.v_bias"));
    compare_these(report, gradients, out, names)
}

fn compare_these(report: &mut Report<'_>, gradients: Tensors, out: &Outputs, names: Names) -> Outcome {
    report.family("grad_params", "grad.", &renamed(gradients, names)?);
    report.required("grad_pixels", "grad.pixel_values", &out.planes("pixels")?);
    Ok(())
}
