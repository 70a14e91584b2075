//! Damaged, hostile, mislabelled and unsuitable files: one clear message that names the file, and nothing left behind.

use super::fixture;
use beit::interop::{OpenOptions, Parts, Want, check_pair, from_tensors, open, open_with};
use beit::io::limits::FileLimits;
use beit::io::tensors::{Tensor, TensorData, Tensors, pt_metadata, read_safetensors, write_safetensors};
use std::fs;
use std::path::Path;

fn tensors(case: &str) -> Tensors {
    read_safetensors(&fs::read(fixture(case)).unwrap(), &Default::default()).unwrap().tensors
}

fn saved(tensors: &Tensors) -> Vec<u8> {
    write_safetensors(tensors, &pt_metadata())
}

const CONFIG: &str = r#"{"model_type": "beit", "architectures": ["BeitForImageClassification"], "hidden_size": 64,
    "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128, "image_size": 32, "patch_size": 8,
    "use_relative_position_bias": true, "id2label": {"0": "a", "1": "b", "2": "c", "3": "d", "4": "e", "5": "f",
    "6": "g", "7": "h", "8": "i", "9": "j"}}"#;

/// Files of one folder, and words of the message.
type Case<'a> = (&'a str, Vec<(&'a str, Vec<u8>)>, &'a [&'a str]);

#[test]
fn every_bad_folder_gets_its_message() {
    let good = fs::read(fixture("cls_relpos_meanpool")).unwrap();
    let own = tensors("cls_relpos_meanpool");
    let with = |change: &dyn Fn(&mut Tensors)| {
        let mut changed = own.clone();
        change(&mut changed);
        saved(&changed)
    };
    let nan = with(&|t| {
        t.insert("classifier.bias".into(), Tensor::f32(vec![10], vec![f32::NAN; 10]).unwrap());
    });
    let integers = with(&|t| {
        let data = TensorData::I32(vec![0; 64 * 64]);
        let name = "beit.encoder.layer.0.attention.attention.query.weight";
        t.insert(name.into(), Tensor::new(vec![64, 64], data).unwrap());
    });
    let two_norms = with(&|t| {
        for name in ["layernorm.weight", "beit.layernorm.weight"] {
            t.insert(name.into(), Tensor::f32(vec![64], vec![1.0; 64]).unwrap());
        }
    });
    let gap = with(&|t| t.retain(|name, _| !name.contains("layer.1.")));
    let foreign = saved(&Tensors::from([("a".into(), Tensor::f32(vec![1], vec![0.0]).unwrap())]));
    let made = |shapes: &[(&str, &[usize])]| {
        let zeros = |s: &[usize]| Tensor::f32(s.to_vec(), vec![0.0; s.iter().product()]).unwrap();
        saved(&shapes.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect())
    };
    let blocks = made(&[
        ("encoder.blocks.input.w", &[1, 3, 1, 1]),
        ("decoder.blocks.input.w", &[1, 1, 1, 1]),
        ("encoder.blocks.output.conv.w", &[1, 1, 1, 1]),
        ("encoder.blocks.group_1.block_4000000000.w", &[1]),
    ]);
    let custom = made(&[("codebook.weight", &[5, 6]), ("encoder.0.0.weight", &[4, 3, 4, 4])]);
    let weights = |bytes: &[u8]| ("model.safetensors", bytes.to_vec());
    let config = |text: &str| vec![weights(&good), ("config.json", text.as_bytes().to_vec())];
    let index = |text: &str| vec![("model.safetensors.index.json", text.as_bytes().to_vec())];
    let png = b"\x89PNG\r\n\x1a\n".to_vec();
    let cases: Vec<Case> = vec![
        ("empty folder", vec![], &["no model found", "model.safetensors"]),
        (
            "two files",
            vec![("a.safetensors", good.clone()), ("b.pth", good.clone())],
            &["more than one", "a.safetensors, b.pth"],
        ),
        ("empty file", vec![weights(b"")], &["model.safetensors", "at least 8 bytes"]),
        ("cut header", vec![weights(&good[..40])], &["model.safetensors", "truncated safetensors header"]),
        ("cut data", vec![weights(&good[..good.len() - 1])], &["model.safetensors", "outside the file"]),
        ("appended", vec![weights(&[good.as_slice(), b"x"].concat())], &["does not fill the file"]),
        ("a picture", vec![weights(&png)], &["model.safetensors", "too long, or not a safetensors"]),
        ("a web page", vec![weights(b"<!DOCTYPE html><html></html>")], &["not a safetensors file"]),
        ("a git pointer", vec![weights(b"version https://git-lfs")], &["not a safetensors file"]),
        ("JSON as weights", vec![weights(b"{\"a\": 1}")], &["no index of shards", "weight_map"]),
        ("not a number", vec![weights(&nan)], &["classifier.bias", "10 of 10 NaN"]),
        ("integers", vec![weights(&integers)], &["wrong element type", "expected F32, got I32"]),
        ("two norms", vec![weights(&two_norms)], &["two final norms"]),
        ("a block is missing", vec![weights(&gap)], &["a block is missing", "blocks.1"]),
        ("too many blocks", vec![weights(&blocks)], &["a tokenizer too large", "4000000000 blocks"]),
        ("half a network", vec![weights(&custom)], &["model.safetensors", "blocks and vocab", "at least 1"]),
        ("another network", vec![weights(&foreign)], &["neither a BEiT nor a dVAE", "1 tensors: a"]),
        (
            "config of a ViT",
            config(&CONFIG.replace("\"beit\"", "\"vit\"")),
            &["model_type", "expected beit, got vit"],
        ),
        ("cut config", config(&CONFIG[..50]), &["malformed config"]),
        (
            "config of zeros",
            config(&CONFIG.replace("\"hidden_size\": 64", "\"hidden_size\": 0")),
            &["hidden_size", "1 to 1048576"],
        ),
        (
            "huge config",
            config(&CONFIG.replace("\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1000000")),
            &["num_hidden_layers", "1000000 blocks, got 3", "no preset"],
        ),
        ("config of base", config("{\"model_type\": \"beit\"}"), &["12 blocks, got 3", "width 64"]),
        ("deep config", config(&"[".repeat(100_000)), &["malformed config"]),
        (
            "classes",
            config(&CONFIG.replace(", \"9\": \"j\"", "")),
            &["2 wrong shape", "head.bias (expected [9], got [10])"],
        ),
        ("class numbers", config(&CONFIG.replace("\"9\"", "\"11\"")), &["id2label", "without gaps"]),
        (
            "preprocessor",
            [config(CONFIG), vec![("preprocessor_config.json", b"{}".to_vec())]].concat(),
            &["preprocessor_config.json", "image_mean"],
        ),
        (
            "shard outside",
            index(r#"{"weight_map": {"a": "../../etc/passwd"}}"#),
            &["file name that is not allowed", "../../etc"],
        ),
        (
            "shard missing",
            index(r#"{"weight_map": {"a": "b.safetensors"}}"#),
            &["cannot read", "b.safetensors"],
        ),
        (
            "shard of another",
            [
                index(r#"{"weight_map": {"a": "s.safetensors", "b": "s.safetensors"}}"#),
                vec![("s.safetensors", foreign.clone())],
            ]
            .concat(),
            &["no shard has", "1: b"],
        ),
        ("halves alone", vec![("encoder.safetensors", foreign.clone())], &["neither a BEiT"]),
    ];
    for (name, files, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        for (file, bytes) in files {
            fs::write(dir.path().join(file), bytes).unwrap();
        }
        let e = open(dir.path(), Want::Any).unwrap_err().to_string();
        assert!(e.contains(&dir.path().display().to_string()), "{name}: no path in {e}");
        for word in words {
            assert!(e.contains(word), "{name}: no {word:?} in {e}");
        }
        assert!(!e.contains('\n') && e.len() < 6000, "{name}: {e}");
    }
}

#[test]
fn limits_hold_and_can_be_raised() {
    let path = fixture("cls_relpos_meanpool");
    let refused = |limits: FileLimits| {
        let options = OpenOptions { limits, ..OpenOptions::default() };
        open_with(&path, Want::Vit, &options).unwrap_err().to_string()
    };
    let native = FileLimits::native();
    for (limits, words) in [
        (FileLimits { file_bytes: 1000, ..native }, "file too large"),
        (FileLimits { header_bytes: 100, ..native }, "at most 100 bytes"),
        (FileLimits { tensors: 5, ..native }, "more than 5 tensors"),
        (FileLimits { rank: 1, ..native }, "at most 1"),
        (FileLimits { name_bytes: 10, ..native }, "more than 10"),
    ] {
        let e = refused(limits);
        assert!(e.contains(words) && e.contains("weights.safetensors"), "no {words:?} in {e}");
    }
}

#[test]
fn values_that_are_no_numbers_can_be_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let mut changed = tensors("cls_relpos_meanpool");
    changed.insert("classifier.bias".into(), Tensor::f32(vec![10], vec![f32::INFINITY; 10]).unwrap());
    let path = dir.path().join("model.safetensors");
    fs::write(&path, saved(&changed)).unwrap();
    assert!(open(&path, Want::Vit).is_err());
    let options = OpenOptions { allow_non_finite: true, ..OpenOptions::default() };
    open_with(&path, Want::Vit, &options).unwrap();
}

#[test]
fn pairs_and_uses_that_do_not_fit_are_refused() {
    let (vit, dvae) = (
        open(&fixture("mim_shared_relpos_32p8"), Want::Vit).unwrap(),
        open(&fixture("dvae_tiny"), Want::Any).unwrap(),
    );
    let e = check_pair(&vit, &dvae).unwrap_err().to_string();
    assert!(e.contains("expected 128 ids, got 32 ids") && e.contains("dvae_tiny"), "{e}");
    let dir = tempfile::tempdir().unwrap();
    let mut changed = tensors("mim_shared_relpos_32p8");
    changed.remove("beit.embeddings.mask_token");
    fs::write(dir.path().join("model.safetensors"), saved(&changed)).unwrap();
    let model = open(dir.path(), Want::Vit).unwrap();
    let e = model.check_reconstructs().unwrap_err().to_string();
    assert!(e.contains("without a mask token") && e.contains("model.safetensors"), "{e}");
}

#[cfg(feature = "cli")]
fn beit(dir: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_beit")).current_dir(dir).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// Names in a folder.
fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(feature = "cli")]
#[test]
fn commands_convert_or_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mim = fixture("mim_shared_relpos_32p8").display().to_string();
    let (code, said) = beit(dir.path(), &["import", &mim, "--out", "own"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("a masked image model") && said.contains("wrote        own/model.safetensors"),
        "{said}"
    );
    let (code, said) =
        beit(dir.path(), &["export", "own", "--format", "transformers", "--out", "hf", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["model"]["kind"], "a masked image model");
    assert!(fs::read(dir.path().join("hf/model.safetensors")).unwrap() == fs::read(&mim).unwrap());
    fs::write(dir.path().join("cut.safetensors"), &fs::read(&mim).unwrap()[..500]).unwrap();
    let before = listing(dir.path());
    for (args, code, word) in [
        (&["import", "cut.safetensors", "--out", "x"][..], 1, "cut.safetensors"),
        (&["import", "none", "--out", "x"], 1, "none"),
        (&["export", "own", "--format", "timm", "--out", "x"], 1, "timm has neither"),
        (&["export", "own", "--format", "dalle", "--out", "x"], 1, "expected a tokenizer"),
        (&["export", "own", "--format", "onnx", "--out", "x"], 2, "transformers, timm"),
        (&["import", "own", "--out", "hf"], 2, "not empty"),
        (&["import", "own", "--image-size", "33", "--out", "x"], 2, "multiple of the patch side"),
    ] {
        let (status, said) = beit(dir.path(), args);
        assert_eq!(status, Some(code), "{args:?}: {said}");
        assert!(said.contains(word) && !said.contains("panicked"), "{args:?}: {said}");
    }
    assert_eq!(listing(dir.path()), before, "a refused command leaves nothing behind");
}

/// The inputs of the fuzz targets, those that once failed included: read or refused, and nothing else.
#[test]
fn corpora_of_the_fuzz_targets_are_read_or_refused() {
    let corpus = |target: &str| -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        listing(&dir).iter().map(|name| fs::read(dir.join(name)).unwrap()).collect()
    };
    let options = OpenOptions { limits: FileLimits::browser(), allow_non_finite: true, heads: None };
    let (mut read, mut refused) = (0, 0);
    let mut count = |fine: bool| if fine { read += 1 } else { refused += 1 };
    for data in corpus("safetensors_header") {
        let file = read_safetensors(&data, &options.limits);
        count(file.is_ok_and(|f| {
            let parts = Parts { tensors: f.tensors, ..Parts::default() };
            from_tensors(parts, &options).is_ok()
        }));
    }
    for data in corpus("torch_pickle") {
        count(beit::io::torch::read_torch(&data, &options.limits).is_ok());
    }
    for data in corpus("config_json") {
        count(beit::io::hf::parse_transformers_config(&data).is_ok());
        count(beit::io::hf::parse_preprocessor_config(&data).is_ok());
    }
    assert!(read >= 8 && refused >= 6, "{read} read, {refused} refused");
}
