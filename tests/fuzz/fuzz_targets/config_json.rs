//! `config.json` of transformers or timm and `preprocessor_config.json`, against the weights of a small model.
#![no_main]

use beit::interop::{OpenOptions, Parts, from_tensors};
use beit::io::hf::{parse_preprocessor_config, parse_transformers_config, transformers_config_json};
use beit::io::tensors::{Tensor, Tensors};
use std::sync::LazyLock;

/// A backbone of one block: width 2, patches of 1 on 2 × 2 pixels.
static WEIGHTS: LazyLock<Tensors> = LazyLock::new(|| {
    let shapes: [(&str, &[usize]); 17] = [
        ("cls_token", &[1, 1, 2]),
        ("pos_embed", &[1, 5, 2]),
        ("patch_embed.proj.weight", &[2, 3, 1, 1]),
        ("patch_embed.proj.bias", &[2]),
        ("blocks.0.norm1.weight", &[2]),
        ("blocks.0.norm1.bias", &[2]),
        ("blocks.0.norm2.weight", &[2]),
        ("blocks.0.norm2.bias", &[2]),
        ("blocks.0.attn.qkv.weight", &[6, 2]),
        ("blocks.0.attn.q_bias", &[2]),
        ("blocks.0.attn.v_bias", &[2]),
        ("blocks.0.attn.proj.weight", &[2, 2]),
        ("blocks.0.attn.proj.bias", &[2]),
        ("blocks.0.mlp.fc1.weight", &[4, 2]),
        ("blocks.0.mlp.fc1.bias", &[4]),
        ("blocks.0.mlp.fc2.weight", &[2, 4]),
        ("blocks.0.mlp.fc2.bias", &[2]),
    ];
    let tensor = |shape: &[usize]| Tensor::f32(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
    shapes.into_iter().map(|(name, shape)| (name.to_owned(), tensor(shape))).collect()
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(config) = parse_transformers_config(data) {
        let text = transformers_config_json(&config);
        assert!(parse_transformers_config(text.as_bytes()).is_ok(), "{text}");
    }
    let _ = parse_preprocessor_config(data);
    let parts = Parts { tensors: WEIGHTS.clone(), config: Some(data.to_vec()), ..Parts::default() };
    let _ = from_tensors(parts, &OpenOptions::default());
});
