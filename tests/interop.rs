//! Models of every library through the import path that the commands use.

#[path = "interop/bad_input.rs"]
mod bad_input;
#[path = "interop/base.rs"]
mod base;
#[path = "interop/round_trips.rs"]
mod round_trips;

use beit::interop::{self, Head, Network, OpenOptions, Parts, Resize, Want, adapt, open, vit_shapes};
use beit::io::names::Layout;
use beit::models::RelPos;
use beit::ops::Pool;
use std::path::{Path, PathBuf};

fn fixture(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(case).join("weights.safetensors")
}

#[test]
fn each_layout_is_recognised() {
    let model = open(&fixture("mim_shared_relpos_32p8"), Want::Vit).unwrap();
    let Network::Vit { config, head } = &model.network else { panic!("a transformer") };
    assert_eq!((model.layout, head), (Layout::Transformers, &Head::MaskedImage));
    assert_eq!((config.width, config.heads, config.image, config.patch), (64, 4, (32, 32), 8));
    assert_eq!((config.rel_pos, config.vocab), (RelPos::Shared, 128));
    model.check_reconstructs().unwrap();

    let model = open(&fixture("timm_relpos_avg"), Want::Any).unwrap();
    assert_eq!(model.layout, Layout::Timm);
    assert_eq!(model.head().unwrap(), &Head::Classifier { classes: 10, pool: Pool::MeanPatches });
    assert!(model.check_reconstructs().unwrap_err().to_string().contains("does not predict"));

    let model = open(&fixture("cls_abspos_clspool"), Want::Vit).unwrap();
    assert_eq!(model.head().unwrap(), &Head::Classifier { classes: 7, pool: Pool::Cls });
    assert_eq!(model.vit().unwrap().heads, 1);
    assert!(model.notes[0].contains("assumed"), "{:?}", model.notes);
    let options = OpenOptions { heads: Some(4), ..OpenOptions::default() };
    let model = interop::open_with(&fixture("cls_abspos_clspool"), Want::Vit, &options).unwrap();
    assert_eq!((model.vit().unwrap().heads, model.notes.len()), (4, 0));

    let model = open(&fixture("dvae_tiny"), Want::Tokenizer).unwrap();
    let d = model.dvae().unwrap();
    assert_eq!((d.n_hid, d.n_init, d.groups, d.blocks, d.pools, d.vocab), (8, 8, 4, 1, 3, 32));
    let e = open(&fixture("dvae_tiny"), Want::Vit).unwrap_err().to_string();
    assert!(
        e.contains("expected a transformer, got a tokenizer") && e.contains("weights.safetensors"),
        "{e}"
    );
}

#[test]
fn fine_tuning_conversions_say_what_they_did() {
    let model = open(&fixture("mim_shared_relpos_32p8"), Want::Vit).unwrap();
    let mut vit = model.vit().unwrap().clone();
    (vit.image, vit.rel_pos) = ((48, 40), RelPos::PerLayer);
    let head = Head::Classifier { classes: 5, pool: Pool::MeanPatches };
    let wanted = vit_shapes(&vit, &head).unwrap();
    let adapted = adapt(&model, &vit, &wanted, Resize::Geometric).unwrap();
    assert_eq!(adapted.fresh, ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]);
    assert_eq!(adapted.tensors.len() + adapted.fresh.len(), wanted.len());
    let said = adapted.steps.join("\n");
    for word in
        ["copied into each of 3 blocks", "from a grid of 4 x 4 to 6 x 5", "mask_token", "started afresh"]
    {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    // nothing to do: the same tensors
    let wanted = vit_shapes(model.vit().unwrap(), &Head::MaskedImage).unwrap();
    let same = adapt(&model, model.vit().unwrap(), &wanted, Resize::Geometric).unwrap();
    assert_eq!((&same.tensors, same.steps.len(), same.fresh.len()), (&model.tensors, 0, 0));
}

#[test]
fn another_network_is_refused_with_everything_that_differs() {
    let model = open(&fixture("mim_shared_relpos_32p8"), Want::Vit).unwrap();
    let wanted = beit::config::preset("nano").unwrap().model;
    let shapes = vit_shapes(&wanted, &Head::MaskedImage).unwrap();
    let e = adapt(&model, &wanted, &shapes, Resize::Geometric).unwrap_err().to_string();
    for word in
        ["weights.safetensors", "15 missing", "11 wrong shape", "fits no preset", "width 64, 3 blocks"]
    {
        assert!(e.contains(word), "no {word:?} in {e}");
    }
}

#[test]
fn a_config_decides_and_is_compared_with_the_tensors() {
    let read = |case: &str| {
        let bytes = std::fs::read(fixture(case)).unwrap();
        beit::io::tensors::read_safetensors(&bytes, &Default::default()).unwrap()
    };
    let file = read("mim_abspos_32p8");
    let with = |config: &str| {
        let parts = Parts {
            tensors: file.tensors.clone(),
            config: Some(config.as_bytes().to_vec()),
            ..Parts::default()
        };
        interop::from_tensors(parts, &OpenOptions::default())
    };
    let good = r#"{"model_type":"beit","architectures":["BeitForMaskedImageModeling"],"hidden_size":64,"num_hidden_layers":3,
        "num_attention_heads":4,"intermediate_size":128,"image_size":32,"patch_size":8,"vocab_size":128,
        "use_mask_token":true,"use_absolute_position_embeddings":true}"#;
    let model = with(good).unwrap();
    assert_eq!((model.vit().unwrap().heads, model.vit().unwrap().abs_pos), (4, true));
    for (from, to, words) in [
        (
            "\"num_hidden_layers\":3",
            "\"num_hidden_layers\":12",
            &["num_hidden_layers", "12 blocks", "got 3"][..],
        ),
        ("\"hidden_size\":64", "\"hidden_size\":768", &["50 wrong shape", "and 30 more", "width 64"]),
        ("\"use_absolute_position_embeddings\":true", "\"x\":1", &["1 unexpected: pos_embed"]),
        ("BeitForMaskedImageModeling", "ViTModel", &["architectures", "BeitModel", "ViTModel"]),
        ("\"patch_size\":8", "\"patch_size\":5", &["divisor of image_size"]),
    ] {
        let e = with(&good.replace(from, to)).unwrap_err().to_string();
        for word in words {
            assert!(e.contains(word), "no {word:?} in {e}");
        }
    }
}
