//! Our configs in the terms of the public libraries.

use super::vit::{RelPos, VitConfig};
use crate::io::hf::HfConfig;

impl VitConfig {
    /// The `config.json` of a masked image model of this size (beit-spec §10.3).
    pub fn to_hf(&self) -> HfConfig {
        HfConfig {
            hidden_size: self.width,
            intermediate_size: self.mlp,
            num_hidden_layers: self.depth,
            num_attention_heads: self.heads,
            layer_norm_eps: f64::from(self.layer_norm_eps),
            image_size: self.image.0,
            patch_size: self.patch,
            vocab_size: self.vocab,
            layer_scale_init_value: f64::from(self.layer_scale),
            drop_path_rate: f64::from(self.drop_path),
            use_absolute_position_embeddings: self.abs_pos,
            use_shared_relative_position_bias: self.rel_pos == RelPos::Shared,
            use_relative_position_bias: self.rel_pos == RelPos::PerLayer,
            ..HfConfig::default()
        }
    }
}
