//! A model in the files of each library.

use super::{Head, ModelFile, Network, SegmenterHead};
use crate::error::{Error, Result};
use crate::io::hf::{self, HfConfig, preprocessor_config_json, transformers_config_json};
use crate::io::names::{self, Layout};
use crate::io::tensors::{Precision, Tensor, TensorData, Tensors, pt_metadata, write_safetensors_as};
use crate::io::torch::write_torch;
use crate::models::segmenter::SegmentHead;
use crate::models::{RelPos, TokenizerNetwork, VitConfig};
use crate::ops::Pool;
use serde_json::json;

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Hugging Face transformers: `model.safetensors`, `config.json`, `preprocessor_config.json`. It is also what
    /// this crate's own checkpoints hold; a tokenizer becomes `tokenizer.safetensors` and `tokenizer.json`.
    Transformers,
    /// timm: `model.safetensors` and `config.json`.
    Timm,
    /// The official code: `model.pth` with the weights under `model`, and the same tensors as `model.safetensors`; of a
    /// customised dVAE `pytorch_model.bin` with the weights under `weights`; of a VQ-KD tokenizer `model.pth` alone.
    Official,
    /// OpenAI's dVAE: `encoder.safetensors` and `decoder.safetensors`.
    Dalle,
}

/// Files by name, and what had to be left out or added, in sentences for a person.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Written {
    /// Plain file names and their bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// What the reader of the files should know.
    pub notes: Vec<String>,
}

/// The files of a model. `precision` is that of the floating-point tensors; [`Precision::Unset`] keeps the file's own.
///
/// Nothing is written to disk. A model that was read from the same format gives the same bytes.
///
/// # Errors
/// If the format has no place for such a model.
pub fn files_of(model: &ModelFile, format: Format, precision: Precision) -> Result<Written> {
    let precision = if precision == Precision::Unset { model.precision } else { precision };
    let writer = Writer { model, precision };
    let result = match (&model.network, format) {
        (Network::Tokenizer(t), _) => match (t.network(), format) {
            (_, Format::Transformers) => writer.tokenizer(),
            (TokenizerNetwork::Openai, Format::Dalle) => writer.dalle(),
            (TokenizerNetwork::Custom, Format::Official) => writer.custom_dvae(),
            (TokenizerNetwork::VqKd, Format::Official) => writer.vq_kd(),
            (network, _) => Err(Error::checkpoint("this tokenizer has no such format")
                .expected(match network {
                    TokenizerNetwork::Openai => "dalle, or transformers for a folder of beit",
                    TokenizerNetwork::Custom | TokenizerNetwork::VqKd => {
                        "official, or transformers for a folder of beit"
                    }
                })
                .got(format!("{format:?}").to_lowercase())),
        },
        (Network::Vit { config, head }, Format::Transformers) => writer.transformers(config, head),
        (Network::Vit { config, head }, Format::Timm) => writer.timm(config, head),
        (Network::Vit { config, .. }, Format::Official) => writer.official(config),
        (Network::Vit { .. }, Format::Dalle) => Err(Error::checkpoint("no dVAE").expected("a tokenizer")),
    };
    result.map_err(|e| super::about(&model.path, e))
}

/// What timm's BEiT adds to variances.
const TIMM_EPS: f32 = 1e-6;

struct Writer<'a> {
    model: &'a ModelFile,
    precision: Precision,
}

impl Writer<'_> {
    fn safetensors(&self, tensors: &Tensors) -> Vec<u8> {
        write_safetensors_as(tensors, &self.metadata(), self.precision)
    }

    /// What the source said about itself; a file of torch, which has no such strings, gets those that readers look for.
    fn metadata(&self) -> std::collections::BTreeMap<String, String> {
        let safetensors = !super::find::ENDINGS
            .iter()
            .skip(1)
            .any(|end| self.model.path.extension().is_some_and(|e| e == *end));
        if safetensors { self.model.metadata.clone() } else { pt_metadata() }
    }

    fn tokenizer(&self) -> Result<Written> {
        let sizes = serde_json::to_vec_pretty(self.model.tokenizer()?).unwrap_or_default();
        Ok(Written {
            files: vec![
                ("tokenizer.safetensors".into(), self.safetensors(&self.model.tensors)),
                ("tokenizer.json".into(), sizes),
            ],
            notes: vec![],
        })
    }

    fn dalle(&self) -> Result<Written> {
        let half = |name: &str| {
            let tensors = names::without_prefix(&self.model.tensors, name);
            (format!("{name}.safetensors"), self.safetensors(&tensors))
        };
        Ok(Written { files: vec![half("encoder"), half("decoder")], notes: vec![] })
    }

    fn custom_dvae(&self) -> Result<Written> {
        let bytes = write_torch(&self.model.tensors, "weights", self.precision);
        Ok(Written { files: vec![("pytorch_model.bin".into(), bytes)], notes: vec![] })
    }

    fn vq_kd(&self) -> Result<Written> {
        let weights = names::to_vq_kd(self.model.tensors.clone())?;
        let left_out = self.model.tensors.contains_key("mean_patches.weight");
        let note = "left out mean_patches.*: the official tokenizer draws no pictures".to_owned();
        Ok(Written {
            files: vec![("model.pth".into(), write_torch(&weights, "model", self.precision))],
            notes: left_out.then_some(note).into_iter().collect(),
        })
    }

    fn transformers(&self, config: &VitConfig, head: &Head) -> Result<Written> {
        let mut notes = vec![];
        let mut tensors = self.model.tensors.clone();
        let norm = tensors.contains_key("norm.weight");
        let fc_norm = tensors.contains_key("fc_norm.weight");
        let mean = match head {
            Head::MaskedImage => true,
            Head::Classifier { pool, .. } => *pool == Pool::MeanPatches,
            Head::Segmenter(_) => !norm,
            Head::None => fc_norm || !norm,
        };
        let keeps_fc_norm = mean && !matches!(head, Head::MaskedImage | Head::Segmenter(_));
        let keeps_norm = !mean || matches!(head, Head::MaskedImage);
        for (module, kept) in [("norm.", keeps_norm), ("fc_norm.", keeps_fc_norm)] {
            let before = tensors.len();
            tensors.retain(|name, _| kept || !name.starts_with(module));
            if tensors.len() < before {
                notes.push(format!("left out {module}*: this class of transformers has no place for it"));
            }
        }
        if keeps_fc_norm && !fc_norm {
            for (name, value) in [("fc_norm.weight", 1.0), ("fc_norm.bias", 0.0)] {
                tensors.insert(name.into(), Tensor::f32(vec![config.width], vec![value; config.width])?);
            }
            notes.push("added the pooler's layer norm, which is fresh: the model has none".into());
        }
        if let Head::Segmenter(s) = head {
            count_batches(&mut tensors);
            notes.push(match s.head {
                SegmentHead::SetrPup(_) => {
                    "only beit reads this segmenter: transformers has no SETR-PUP".into()
                }
                SegmentHead::Upernet(_) => {
                    "transformers counts out_indices differently from the official code: its \
                    own forward pass taps earlier blocks than the ones that are named"
                        .into()
                }
            });
        }
        if config.image.0 != config.image.1 && config.rel_pos != RelPos::None {
            notes.push("transformers gathers relative positions of oblong pictures in another order".into());
        }
        let mut hf = hf_config(config, head, &self.model.labels);
        hf.use_mean_pooling = mean;
        hf.use_mask_token = tensors.contains_key("mask_token");
        let weights = names::to_transformers(tensors)?;
        Ok(Written {
            files: vec![
                ("model.safetensors".into(), self.safetensors(&weights)),
                ("config.json".into(), transformers_config_json(&hf).into_bytes()),
                (
                    "preprocessor_config.json".into(),
                    preprocessor_config_json(&self.model.preprocessing).into_bytes(),
                ),
            ],
            notes,
        })
    }

    fn timm(&self, config: &VitConfig, head: &Head) -> Result<Written> {
        let mut weights = names::to_timm(self.model.tensors.clone())?;
        // timm 1.0.22 keeps the buffer of a shared table in its files, 1.0.31 does not: a file stays as it was
        if self.model.layout == Layout::Transformers || self.model.index_buffers {
            names::add_timm_index(&mut weights, config.grid())?;
        }
        let (classes, pool) = match head {
            Head::Classifier { classes, pool } => (*classes, *pool),
            _ if weights.contains_key("norm.weight") => (0, Pool::Cls),
            _ => (0, Pool::MeanPatches),
        };
        let p = &self.model.preprocessing;
        let interpolation = if p.resample == 2 { "bilinear" } else { "bicubic" };
        let text = json!({
            "architecture": "beit_base_patch16_224",
            "num_classes": classes,
            "num_features": config.width,
            "global_pool": if pool == Pool::MeanPatches { "avg" } else { "token" },
            "model_args": {
                "global_pool": if pool == Pool::MeanPatches { "avg" } else { "token" },
                "img_size": [config.image.0, config.image.1],
                "patch_size": config.patch,
                "embed_dim": config.width,
                "depth": config.depth,
                "num_heads": config.heads,
                "mlp_ratio": config.mlp as f64 / config.width as f64,
                "init_values": if config.layer_scale > 0.0 { json!(config.to_hf().layer_scale_init_value) } else { json!(null) },
                "use_abs_pos_emb": config.abs_pos,
                "use_rel_pos_bias": matches!(config.rel_pos, RelPos::PerLayer | RelPos::Both),
                "use_shared_rel_pos_bias": matches!(config.rel_pos, RelPos::Shared | RelPos::Both),
            },
            "label_names": self.model.labels,
            "pretrained_cfg": {
                "input_size": [3, config.image.0, config.image.1],
                "mean": p.image_mean,
                "std": p.image_std,
                "interpolation": interpolation,
                "crop_pct": 1.0,
                "num_classes": classes,
                "first_conv": "patch_embed.proj",
                "classifier": "head",
            },
        });
        Ok(Written {
            files: vec![
                ("model.safetensors".into(), self.safetensors(&weights)),
                ("config.json".into(), format!("{text:#}\n").into_bytes()),
            ],
            notes: if (config.layer_norm_eps - TIMM_EPS).abs() < 1e-9 {
                vec![]
            } else {
                vec![format!("timm adds {TIMM_EPS} to variances, this model {}", config.layer_norm_eps)]
            },
        })
    }

    fn official(&self, config: &VitConfig) -> Result<Written> {
        let weights = names::to_official(self.model.tensors.clone(), config.grid())?;
        Ok(Written {
            files: vec![
                ("model.pth".into(), write_torch(&weights, "model", self.precision)),
                ("model.safetensors".into(), self.safetensors(&weights)),
            ],
            notes: vec![],
        })
    }
}

/// Readers of batch norm want its counter of batches, which no computation uses.
fn count_batches(tensors: &mut Tensors) {
    let modules: Vec<String> =
        tensors.keys().filter_map(|n| Some(n.strip_suffix(".running_mean")?.to_owned())).collect();
    for module in modules {
        let zero = Tensor { shape: vec![], data: TensorData::I64(vec![0]) };
        tensors.entry(format!("{module}.num_batches_tracked")).or_insert(zero);
    }
}

fn hf_config(config: &VitConfig, head: &Head, labels: &[String]) -> HfConfig {
    let mut hf = config.to_hf();
    let (class, classes) = match head {
        Head::None => (hf::BACKBONE, None),
        Head::MaskedImage => (hf::MASKED_IMAGE_MODEL, None),
        Head::Classifier { classes, .. } => (hf::IMAGE_CLASSIFIER, Some(*classes)),
        Head::Segmenter(SegmenterHead { head: SegmentHead::SetrPup(_), classes }) => {
            (hf::SEGMENTER, Some(*classes))
        }
        Head::Segmenter(SegmenterHead { head: SegmentHead::Upernet(upernet), classes }) => {
            hf.out_indices = Some(upernet.taps.to_vec());
            hf.pool_scales = Some(upernet.pool_scales.clone());
            hf.use_auxiliary_head = Some(upernet.auxiliary.is_some());
            if let Some(a) = &upernet.auxiliary {
                (hf.auxiliary_channels, hf.auxiliary_num_convs) = (Some(a.channels), Some(a.convs));
                hf.auxiliary_loss_weight = a.weight.to_string().parse().ok();
                hf.auxiliary_concat_input = Some(a.concat_input);
            }
            hf.semantic_loss_ignore_index = Some(255);
            (hf::SEGMENTER, Some(*classes))
        }
    };
    hf.architectures = vec![class.to_owned()];
    match classes {
        None => hf,
        Some(n) if labels.len() == n => hf.with_labels(labels),
        Some(n) => hf.with_labels(&(0..n).map(|i| format!("LABEL_{i}")).collect::<Vec<_>>()),
    }
}
