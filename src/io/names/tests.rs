use std::collections::BTreeMap;

use super::*;
use crate::io::limits::FileLimits;
use crate::io::tensors::{TensorData, pt_metadata, read_safetensors, write_safetensors};

fn fixture(case: &str) -> (Vec<u8>, Tensors) {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let bytes = std::fs::read(root.join(case).join("weights.safetensors")).unwrap();
    let tensors = read_safetensors(&bytes, &FileLimits::native()).unwrap().tensors;
    (bytes, tensors)
}

fn layout(tensors: &Tensors) -> Option<Layout> {
    detect_layout(tensors.keys().map(String::as_str))
}

#[test]
fn transformers_files_come_back_byte_for_byte() {
    for case in ["mim_shared_relpos_32p8", "mim_abspos_32p8", "cls_relpos_meanpool", "cls_abspos_clspool"] {
        let (bytes, theirs) = fixture(case);
        assert_eq!(layout(&theirs), Some(Layout::Transformers), "{case}");
        let ours = from_transformers(theirs.clone()).unwrap();
        assert!(ours.contains_key("blocks.0.attn.qkv.weight"), "{case}");
        assert!(ours.keys().all(|name| !name.starts_with("beit.")), "{case}");
        let back = to_transformers(ours).unwrap();
        assert_eq!(back, theirs, "{case}");
        assert_eq!(write_safetensors(&back, &BTreeMap::new()), bytes, "{case}");
    }
}

#[test]
fn internal_files_come_back_byte_for_byte_through_transformers() {
    let (bytes, ours) = fixture("timm_relpos_avg");
    let back = from_transformers(to_transformers(ours.clone()).unwrap()).unwrap();
    assert_eq!(back, ours);
    assert_eq!(write_safetensors(&back, &BTreeMap::new()), bytes);
    assert_eq!(layout(&ours), Some(Layout::Timm));
    assert_eq!(to_timm(from_timm(ours.clone()).unwrap()).unwrap(), ours);
}

#[test]
fn final_norm_goes_where_the_head_looks_for_it() {
    let (_, mim) = fixture("mim_shared_relpos_32p8");
    assert!(mim.contains_key("layernorm.weight"));
    assert!(from_transformers(mim.clone()).unwrap().contains_key("norm.weight"));
    let (_, cls) = fixture("cls_abspos_clspool");
    assert!(cls.contains_key("beit.layernorm.weight"));
    assert!(from_transformers(cls.clone()).unwrap().contains_key("norm.weight"));
    let mut both = mim;
    both.insert("beit.layernorm.weight".into(), cls["beit.layernorm.weight"].clone());
    assert!(from_transformers(both).unwrap_err().to_string().contains("two final norms"));
}

#[test]
fn prefix_is_optional_and_index_buffers_are_ignored() {
    let (_, theirs) = fixture("mim_shared_relpos_32p8");
    let expected = from_transformers(theirs.clone()).unwrap();
    let mut bare: Tensors =
        theirs.into_iter().map(|(n, t)| (n.strip_prefix("beit.").unwrap_or(&n).to_owned(), t)).collect();
    let index = Tensor::new(vec![1], TensorData::I64(vec![0])).unwrap();
    bare.insert("encoder.relative_position_bias.relative_position_index".into(), index.clone());
    assert_eq!(from_transformers(bare).unwrap(), expected);
    let mut official = expected.clone();
    official.insert("rel_pos_bias.relative_position_index".into(), index);
    assert_eq!(layout(&official), Some(Layout::Official));
    assert_eq!(from_official(official.clone()).unwrap(), expected);
    assert_eq!(from_transformers(to_transformers(official).unwrap()).unwrap(), expected);
}

#[test]
fn stacked_rows_are_query_key_value() {
    let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let qkv = Tensor::f32(vec![6, 2], data).unwrap();
    let theirs = to_transformers(Tensors::from([("blocks.3.attn.qkv.weight".to_owned(), qkv)])).unwrap();
    let key = &theirs["encoder.layer.3.attention.attention.key.weight"];
    assert_eq!((key.shape.as_slice(), key.as_f32().unwrap()), (&[2, 2][..], &[4.0, 5.0, 6.0, 7.0][..]));
}

#[test]
fn key_bias_is_dropped_only_when_zero() {
    let (_, theirs) = fixture("cls_relpos_meanpool");
    let expected = from_transformers(theirs.clone()).unwrap();
    for (value, fine) in [(0.0, true), (0.5, false)] {
        let mut with_bias = theirs.clone();
        let bias = Tensor::f32(vec![64], vec![value; 64]).unwrap();
        with_bias.insert("beit.encoder.layer.1.attention.attention.key.bias".into(), bias);
        match from_transformers(with_bias) {
            Ok(ours) => assert!(fine && ours == expected),
            Err(e) => assert!(!fine && e.to_string().contains("key projection with a bias"), "{e}"),
        }
    }
}

#[test]
fn what_does_not_belong_is_named() {
    let one = || Tensor::f32(vec![1], vec![0.0]).unwrap();
    let message = |result: Result<Tensors>| result.unwrap_err().to_string();
    let m = message(from_transformers(Tensors::from([("beit.extra".to_owned(), one())])));
    assert!(m.contains("1: beit.extra"), "{m}");
    let m = message(to_transformers(Tensors::from([("blocks.x.gamma_1".to_owned(), one())])));
    assert!(m.contains("blocks.x.gamma_1"), "{m}");
    let m = message(to_transformers(Tensors::from([("blocks.0.attn.qkv.weight".to_owned(), one())])));
    assert!(m.contains("expected F32 [3D, D], got F32 [1]"), "{m}");
    let query = "beit.encoder.layer.0.attention.attention.query.weight";
    let m = message(from_transformers(Tensors::from([(query.to_owned(), one())])));
    assert!(m.contains("three alike") || m.contains("without one of"), "{m}");
    let key = query.replace("query", "key");
    let m = message(from_transformers(Tensors::from([(key, one())])));
    assert!(m.contains("without a query"), "{m}");
    let m = message(to_timm(Tensors::from([("mask_token".to_owned(), one())])));
    assert!(m.contains("neither a masked-image model"), "{m}");
}

#[test]
fn tokenizer_halves_split_and_join() {
    let (bytes, both) = fixture("dvae_tiny");
    assert_eq!(layout(&both), Some(Layout::Dvae));
    let encoder = without_prefix(&both, "encoder");
    let decoder = without_prefix(&both, "decoder");
    assert_eq!(layout(&encoder), Some(Layout::DvaeHalf));
    assert!(encoder.contains_key("blocks.input.w"));
    let mut joined = with_prefix(encoder, "encoder");
    joined.extend(with_prefix(decoder, "decoder"));
    assert_eq!(write_safetensors(&joined, &BTreeMap::new()), bytes);
    assert_ne!(write_safetensors(&joined, &pt_metadata()), bytes);
}

/// Names of a segmenter as transformers 4 publishes them, and as version 5 has them in memory.
#[test]
fn renamed_modules_of_newer_versions_are_read() {
    for (new, ours) in [
        ("beit.layers.3.attention.o_proj.bias", "blocks.3.attn.proj.bias"),
        ("beit.layers.3.attention.q_proj.bias", "blocks.3.attn.q_bias"),
        ("layers.0.mlp.fc1.weight", "blocks.0.mlp.fc1.weight"),
        ("beit.layers.0.lambda_1", "blocks.0.gamma_1"),
        (
            "beit.layers.1.relative_position_bias.relative_position_bias_table",
            "blocks.1.attn.relative_position_bias_table",
        ),
        (
            "beit.shared_position_bias.relative_position_bias_table",
            "rel_pos_bias.relative_position_bias_table",
        ),
        ("fpn.fpn1.conv_transpose1.weight", "fpn1.0.weight"),
        ("fpn.fpn1.normalization.running_var", "fpn1.1.running_var"),
        ("fpn.fpn2.bias", "fpn2.0.bias"),
        (
            "decode_head.psp_modules.blocks.2.conv.convolution.weight",
            "decode_head.psp_modules.2.1.conv.weight",
        ),
        ("decode_head.psp_modules.blocks.2.conv.normalization.bias", "decode_head.psp_modules.2.1.bn.bias"),
        ("decode_head.psp_bottleneck.convolution.weight", "decode_head.bottleneck.conv.weight"),
        ("decode_head.lateral_convs.0.normalization.weight", "decode_head.lateral_convs.0.bn.weight"),
        ("auxiliary_head.classifier.bias", "auxiliary_head.conv_seg.bias"),
    ] {
        assert_eq!(official_name(new).as_deref(), Some(ours), "{new}");
    }
    for name in ["decode_head.psp_modules.0.1.conv.weight", "auxiliary_head.convs.0.bn.num_batches_tracked"] {
        assert_eq!(official_name(name).as_deref(), Some(name));
    }
}

#[test]
fn segmenters_of_the_official_code_lose_their_backbone_prefix() {
    let one = || Tensor::f32(vec![1], vec![0.0]).unwrap();
    let theirs: Tensors = ["backbone.cls_token", "backbone.fpn1.0.weight", "decode_head.conv_seg.bias"]
        .into_iter()
        .map(|name| (name.to_owned(), one()))
        .collect();
    let ours = from_official(theirs.clone()).unwrap();
    assert_eq!(ours.keys().collect::<Vec<_>>(), ["cls_token", "decode_head.conv_seg.bias", "fpn1.0.weight"]);
    assert_eq!(to_official(ours, (2, 2)).unwrap(), theirs);
}

#[test]
fn a_model_of_timm_without_biases_gets_zeros() {
    let weight = Tensor::f32(vec![6, 2], vec![1.0; 12]).unwrap();
    let got = from_timm(Tensors::from([("blocks.0.attn.qkv.weight".to_string(), weight.clone())])).unwrap();
    assert_eq!(got["blocks.0.attn.q_bias"], Tensor::f32(vec![2], vec![0.0; 2]).unwrap());
    assert_eq!(got["blocks.0.attn.v_bias"], got["blocks.0.attn.q_bias"]);
    let one = Tensors::from([
        ("blocks.0.attn.qkv.weight".to_string(), weight),
        ("blocks.0.attn.q_bias".to_string(), Tensor::f32(vec![2], vec![3.0; 2]).unwrap()),
    ]);
    assert!(!from_timm(one).unwrap().contains_key("blocks.0.attn.v_bias"), "half of the biases is damage");
}
