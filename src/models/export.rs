//! Our configs in the terms of the public libraries.

use super::vit::{RelPos, VitConfig};
use crate::io::hf::{HfConfig, HfImage, IMAGE_CLASSIFIER};
use crate::ops::Pool;

/// The number that a person would write: 1e-6 instead of the digits of its nearest F32.
fn short(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

impl VitConfig {
    /// The `config.json` of a masked image model of this size (beit-spec §10.3).
    pub fn to_hf(&self) -> HfConfig {
        HfConfig {
            hidden_size: self.width,
            intermediate_size: self.mlp,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            layer_norm_eps: short(self.layer_norm_eps),
            image_size: HfImage { height: self.image.0, width: self.image.1 },
            patch_size: self.patch,
            vocab_size: self.vocab,
            layer_scale_init_value: short(self.layer_scale),
            drop_path_rate: short(self.drop_path),
            use_absolute_position_embeddings: self.abs_pos,
            use_shared_relative_position_bias: matches!(self.rel_pos, RelPos::Shared | RelPos::Both),
            use_relative_position_bias: matches!(self.rel_pos, RelPos::PerLayer | RelPos::Both),
            ..HfConfig::default()
        }
    }

    /// The `config.json` of a classifier of this size.
    pub fn to_hf_classifier(&self, pool: Pool, classes: &[String]) -> HfConfig {
        let config = HfConfig {
            architectures: vec![IMAGE_CLASSIFIER.to_owned()],
            use_mask_token: false,
            use_mean_pooling: pool == Pool::MeanPatches,
            ..self.to_hf()
        };
        config.with_labels(classes)
    }
}
