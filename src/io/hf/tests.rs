use super::*;

#[test]
fn config_has_exactly_the_published_fields_and_comes_back() {
    let text = transformers_config_json(&HfConfig::default());
    let value: Value = serde_json::from_str(&text).unwrap();
    let object = value.as_object().unwrap();
    assert_eq!(object.len(), 22);
    assert_eq!(object["architectures"], serde_json::json!(["BeitForMaskedImageModeling"]));
    assert_eq!(object["layer_norm_eps"], 1e-12);
    assert_eq!(object["use_mean_pooling"], true);
    assert_eq!(parse_transformers_config(text.as_bytes()).unwrap(), HfConfig::default());
}

#[test]
fn labels_come_back() {
    let labels: Vec<String> = (0..12).map(|i| format!("class {i}")).collect();
    let config =
        HfConfig { architectures: vec![IMAGE_CLASSIFIER.into()], ..HfConfig::default() }.with_labels(&labels);
    let back = parse_transformers_config(transformers_config_json(&config).as_bytes()).unwrap();
    assert_eq!(back, config);
    assert_eq!(back.num_labels(), Some(12));
}

#[test]
fn unknown_keys_are_ignored_and_missing_ones_have_the_library_defaults() {
    let mut value: Value = serde_json::from_str(&transformers_config_json(&HfConfig::default())).unwrap();
    let object = value.as_object_mut().unwrap();
    object.insert("transformers_version".into(), "4.57.1".into());
    object.remove("hidden_size");
    object.insert("image_size".into(), Value::from(vec![224, 224]));
    assert_eq!(parse_transformers_config(value.to_string().as_bytes()).unwrap(), HfConfig::default());
    let short = parse_transformers_config(br#"{"model_type": "beit"}"#).unwrap();
    assert!(!short.use_mask_token && !short.use_shared_relative_position_bias);
    assert_eq!((short.hidden_size, short.architectures.len()), (768, 0));
    let message = parse_transformers_config(b"{}").unwrap_err().to_string();
    assert_eq!(message, "config lacks required keys: no model_type");
}

#[test]
fn impossible_values_are_refused_by_key() {
    for (key, value, needle) in [
        ("model_type", Value::from("vit"), "model_type: expected beit, got vit"),
        ("hidden_act", "gelu_new".into(), "hidden_act: expected gelu"),
        ("num_channels", 4.into(), "num_channels: expected 3"),
        ("hidden_size", 0.into(), "hidden_size: expected 1 to 1048576, got 0"),
        ("num_attention_heads", 7.into(), "a divisor of hidden_size 768, got 7"),
        ("patch_size", 15.into(), "a divisor of image_size 224, got 15"),
        ("hidden_size", (-1).into(), "wrong value in a config"),
        ("image_size", Value::from(vec![224, 200]), "a divisor of image_size 200"),
        ("image_size", Value::from(vec![224]), "wrong value in a config"),
        ("drop_path_rate", 1.5.into(), "drop_path_rate: expected 0 up to 1"),
    ] {
        let mut config = serde_json::to_value(HfConfig::default()).unwrap();
        config.as_object_mut().unwrap().insert(key.into(), value);
        let message = parse_transformers_config(config.to_string().as_bytes()).unwrap_err().to_string();
        assert!(message.contains(needle), "{message}");
    }
}

#[test]
fn preprocessor_comes_back_and_old_forms_are_read() {
    let ours = HfPreprocessor::square(32);
    assert_eq!(parse_preprocessor_config(preprocessor_config_json(&ours).as_bytes()).unwrap(), ours);
    let old = br#"{"feature_extractor_type": "BeitFeatureExtractor", "size": 640, "crop_size": 640,
        "resample": 2, "image_mean": [0.5,0.5,0.5], "image_std": [0.5,0.5,0.5], "reduce_labels": true}"#;
    let read = parse_preprocessor_config(old).unwrap();
    assert_eq!((read.size.height, read.resample, read.do_reduce_labels), (640, 2, true));
    assert!(read.do_rescale);
    let message = parse_preprocessor_config(b"{}").unwrap_err().to_string();
    assert_eq!(message, "config lacks required keys: no size, image_mean, image_std");
}
