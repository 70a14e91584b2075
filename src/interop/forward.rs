//! One forward pass of a model file on given tensors: for comparing with other programs.

use super::fits::shapes_of_store;
use super::{Head, ModelFile, Network, Resize, adapt};
use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout, Var};
use crate::io::tensors::{Tensor, TensorData, Tensors};
use crate::models::batch_norm::Statistics;
use crate::models::mim::all_logits;
use crate::models::upernet::HeadMode;
use crate::models::vit::{VitInputs, backbone};
use crate::models::{DvaeNetwork, TokenizerModel, VitConfig, classifier, dvae, segmenter, vq_kd};
use crate::plan::{CompileOptions, compile};
use crate::session::{Data, HostData, Session};
use crate::train::{page_bytes, pages_of};
use std::sync::Arc;

/// Name of the pictures among the inputs, `[B,3,H,W]`, prepared as the network wants them.
pub const PIXELS: &str = "pixel_values";
/// Name of the mask among the inputs, `[B,n]`, 1 = masked.
pub const MASK: &str = "bool_masked_pos";

/// Runs a model once. Inputs: [`PIXELS`], and [`MASK`] for a masked image model.
///
/// Outputs of a transformer: `last_hidden_state[B,N,D]` (of the last block, before any norm) and `logits`: `[B,n,V]` of
/// the patches, `[B,classes]`, or `[B,classes,h,w]`. Of a tokenizer: `logits[B,V,h,w]` and `decoded[B,6,H,W]` of the
/// likeliest ids (`[B,3,H,W]` of the customised one); of a VQ-KD tokenizer `ids[B,h,w]`, `vectors[B,code,h,w]` and the
/// `features[B,T,h,w]` that its decoder makes of the codes.
///
/// # Errors
/// If an input is missing or of another shape, or the device fails.
pub fn forward(model: &ModelFile, session: &mut dyn Session, inputs: &Tensors) -> Result<Tensors> {
    let pixels = inputs.get(PIXELS).ok_or_else(|| Error::data("an input is missing").at(PIXELS))?;
    let &[b, 3, h, w] = pixels.shape.as_slice() else {
        return Err(Error::data("pictures of an odd shape")
            .at(PIXELS)
            .expected("[B,3,H,W]")
            .got(format!("{:?}", pixels.shape)));
    };
    let mut image = interleave(pixels.as_f32()?, b, 3, h * w);
    let mask = inputs.get(MASK).map(|m| words(m, b)).transpose()?;
    let mut g = Graph::new();
    let x = g.input("image", &[b, h, w, 3])?;
    let tensors = match &model.network {
        Network::Tokenizer(TokenizerModel::VqKd(config)) => {
            // as its library has it after preparing: values in −1..1
            image.iter_mut().for_each(|x| *x = 0.4 * *x + 0.5);
            let vectors = vq_kd::vectors(&mut g, config, x)?;
            let (ids, codes) = vq_kd::quantize(&mut g, config, vectors)?;
            let features = vq_kd::features(&mut g, config, codes)?;
            for (name, v) in [("ids", ids), ("vectors", vectors), ("features", features)] {
                g.output(name, v);
            }
            let own = shapes_of_store(&g, &store(&g));
            let drawn = model.tensors.iter().filter(|(name, _)| own.contains_key(*name));
            drawn.map(|(name, tensor)| (name.clone(), tensor.clone())).collect()
        }
        Network::Tokenizer(TokenizerModel::Dvae(config)) => {
            let logits = dvae::encoder(&mut g, config, x)?;
            let ids = crate::ops::argmax(&mut g, logits)?;
            let decoded = dvae::from_ids(&mut g, config, ids)?;
            if config.network == DvaeNetwork::Custom {
                // its published form takes values in −1..1, the graph those that all tokenizers share
                image.iter_mut().for_each(|x| *x = 0.4 * *x + 0.5);
            }
            g.output("logits", logits);
            g.output("decoded", decoded);
            model.tensors.clone()
        }
        Network::Vit { config, head } => {
            let masked = match &mask {
                Some((_, n)) => Some(g.input_words("mask", &[b, *n])?),
                None => None,
            };
            draw(&mut g, config, head, VitInputs { image: x, mask: masked, drop_key: None })?;
            let wanted = shapes_of_store(&g, &store(&g));
            adapt(model, config, &wanted, Resize::Geometric)?.tensors
        }
    };
    let mask = mask.map(|(words, _)| words);
    let caps = session.caps();
    let layout = ParamLayout::of(&g, &store(&g), page_bytes(&caps))?;
    session.add_store(&layout, &[PageKind::Param])?;
    for (page, values) in pages_of(&layout, &tensors)?.iter().enumerate() {
        session.write_page(&layout.store, PageKind::Param, page, values)?;
    }
    let plan = Arc::new(compile("forward", &g, &[&layout], &caps, &CompileOptions::default())?);
    let id = session.load(plan.clone())?;
    session.write(id, "image", Data::F32(&image))?;
    if let Some(mask) = &mask {
        session.write(id, "mask", Data::U32(mask))?;
    }
    session.run(id)?;
    let mut out = Tensors::new();
    for port in &plan.outputs {
        let shape = port.ty.shape();
        let tensor = match session.read(id, &port.name)? {
            HostData::F32(values) => as_planes(shape, values, model)?,
            HostData::U32(words) => Tensor {
                shape: shape.to_vec(),
                data: TensorData::I32(words.into_iter().map(|w| w as i32).collect()),
            },
        };
        out.insert(port.name.clone(), tensor);
    }
    Ok(out)
}

fn store(g: &Graph) -> String {
    g.params().first().map(|p| p.store.clone()).unwrap_or_default()
}

fn draw(g: &mut Graph, config: &VitConfig, head: &Head, inputs: VitInputs) -> Result<()> {
    let trunk = backbone(g, config, inputs, false)?;
    let x = trunk.last();
    g.output("last_hidden_state", x);
    let logits: Option<Var> = match head {
        Head::None => None,
        Head::MaskedImage => Some(all_logits(g, config, x)?.1),
        Head::Classifier { classes, pool } => Some(classifier::head(g, config, x, *pool, *classes)?.1),
        Head::Segmenter(s) => {
            let mode = HeadMode { statistics: Statistics::Running, drop_key: None };
            Some(segmenter::head(g, config, &s.head, &trunk, s.classes, mode)?.main)
        }
    };
    logits.into_iter().for_each(|l| g.output("logits", l));
    Ok(())
}

/// `[B,c,n]` → `[B,n,c]`; with `c` and `n` exchanged, back.
fn interleave(values: &[f32], b: usize, c: usize, n: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(b * c * n);
    for image in values.chunks_exact((c * n).max(1)) {
        for i in 0..n {
            out.extend(image.iter().skip(i).step_by(n).copied());
        }
    }
    out
}

/// A mask as words, and its length per picture.
fn words(mask: &Tensor, b: usize) -> Result<(Vec<u32>, usize)> {
    let all: Vec<u32> = match &mask.data {
        TensorData::U8(v) => v.iter().map(|&x| u32::from(x != 0)).collect(),
        TensorData::I64(v) => v.iter().map(|&x| u32::from(x != 0)).collect(),
        TensorData::I32(v) => v.iter().map(|&x| u32::from(x != 0)).collect(),
        other => {
            return Err(Error::data("wrong element type").at(MASK).expected("BOOL").got(other.dtype_name()));
        }
    };
    match mask.shape.as_slice() {
        &[images, n] if images == b => Ok((all, n)),
        other => Err(Error::data("mask of an odd shape")
            .at(MASK)
            .expected(format!("[{b}, n]"))
            .got(format!("{other:?}"))),
    }
}

/// Maps as channels first; token logits without the class token.
fn as_planes(shape: &[usize], values: Vec<f32>, model: &ModelFile) -> Result<Tensor> {
    match *shape {
        [b, h, w, c] => Tensor::f32(vec![b, c, h, w], interleave(&values, b, h * w, c)),
        [b, n, v] if matches!(model.network, Network::Vit { head: Head::MaskedImage, ref config } if v == config.vocab) =>
        {
            let patches = values.chunks_exact((n * v).max(1)).flat_map(|image| image.iter().skip(v).copied());
            Tensor::f32(vec![b, n - 1, v], patches.collect())
        }
        _ => Tensor::f32(shape.to_vec(), values),
    }
}
