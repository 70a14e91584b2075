//! What comes in goes out byte for byte, in every layout and element type.

use super::fixture;
use beit::interop::{
    Changes, Format, ModelFile, OpenOptions, Resize, Want, change, files_of, open, open_with,
};
use beit::io::names::Layout;
use beit::io::tensors::{
    Precision, Tensors, pt_metadata, read_safetensors, write_safetensors, write_safetensors_as,
};
use beit::models::{DvaeConfig, DvaeNetwork};
use beit::train::Tokenizer;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const TRANSFORMERS: [&str; 5] = [
    "mim_shared_relpos_32p8",
    "mim_shared_relpos_48p16",
    "mim_abspos_32p8",
    "cls_relpos_meanpool",
    "cls_abspos_clspool",
];

fn tensors(case: &str) -> Tensors {
    read_safetensors(&fs::read(fixture(case)).unwrap(), &Default::default()).unwrap().tensors
}

/// Writes a model into a folder of that name.
fn write(dir: &Path, name: &str, model: &ModelFile, format: Format) -> std::path::PathBuf {
    let out = dir.join(name);
    fs::create_dir(&out).unwrap();
    for (file, bytes) in files_of(model, format, Precision::Unset).unwrap().files {
        fs::write(out.join(file), bytes).unwrap();
    }
    out
}

fn heads(n: usize) -> OpenOptions {
    OpenOptions { heads: Some(n), ..OpenOptions::default() }
}

#[test]
fn transformers_in_and_out_is_the_same_file() {
    for case in TRANSFORMERS {
        let dir = tempfile::tempdir().unwrap();
        let source = open_with(&fixture(case), Want::Vit, &heads(4)).unwrap();
        let folder = write(dir.path(), "a", &source, Format::Transformers);
        let bytes = fs::read(fixture(case)).unwrap();
        assert!(fs::read(folder.join("model.safetensors")).unwrap() == bytes, "{case}");
        // with the config that was written
        let again = open(&folder, Want::Vit).unwrap();
        assert_eq!((&again.network, &again.tensors), (&source.network, &source.tensors), "{case}");
        let folder = write(dir.path(), "b", &again, Format::Transformers);
        for file in ["model.safetensors", "config.json", "preprocessor_config.json"] {
            let read = |name: &str| fs::read(dir.path().join(name).join(file)).unwrap();
            assert!(read("a") == read("b"), "{case}: {file} of {}", folder.display());
        }
    }
}

#[test]
fn official_files_hold_the_same_model() {
    for case in TRANSFORMERS {
        let dir = tempfile::tempdir().unwrap();
        let source = open_with(&fixture(case), Want::Vit, &heads(4)).unwrap();
        let folder = write(dir.path(), "official", &source, Format::Official);
        for file in ["model.pth", "model.safetensors"] {
            let model = open_with(&folder.join(file), Want::Vit, &heads(4)).unwrap();
            assert_eq!(model.tensors, source.tensors, "{case} {file}");
            let again = files_of(&model, Format::Official, Precision::Unset).unwrap().files;
            let same = again.iter().find(|(name, _)| name == file).unwrap();
            assert!(same.1 == fs::read(folder.join(file)).unwrap(), "{case} {file}");
        }
        let tables = tensors(case).keys().filter(|n| n.ends_with("relative_position_bias_table")).count();
        let file =
            read_safetensors(&fs::read(folder.join("model.safetensors")).unwrap(), &Default::default());
        let buffers = file.unwrap().tensors.into_keys().filter(|n| n.ends_with("position_index")).count();
        assert_eq!(buffers, tables, "{case}: an index buffer beside every table");
    }
}

#[test]
fn timm_in_and_out_is_the_same_file_also_on_oblong_grids() {
    for case in ["timm_relpos_avg", "timm_oblong_shared"] {
        let dir = tempfile::tempdir().unwrap();
        let source = open(&fixture(case), Want::Vit).unwrap();
        let folder = write(dir.path(), "timm", &source, Format::Timm);
        assert!(
            fs::read(folder.join("model.safetensors")).unwrap() == fs::read(fixture(case)).unwrap(),
            "{case}"
        );
        let again = open(&folder, Want::Vit).unwrap();
        assert_eq!((&again.network, &again.tensors), (&source.network, &source.tensors), "{case}");
        // through the folder that import writes
        let own = write(dir.path(), "own", &source, Format::Transformers);
        let back = open(&own, Want::Vit).unwrap();
        assert_eq!(back.vit().unwrap().image, source.vit().unwrap().image, "{case}");
        let files = files_of(&back, Format::Timm, Precision::Unset).unwrap().files;
        assert!(files[0].1 == fs::read(fixture(case)).unwrap(), "{case} through import");
    }
}

#[test]
fn tokenizers_come_back_whole_and_in_halves() {
    for case in ["dvae_tiny", "dvae_full_depth"] {
        let dir = tempfile::tempdir().unwrap();
        let source = open(&fixture(case), Want::Tokenizer).unwrap();
        let halves = write(dir.path(), "dalle", &source, Format::Dalle);
        let own = write(dir.path(), "own", &source, Format::Transformers);
        for path in [halves.clone(), halves.join("decoder.safetensors"), own.clone()] {
            let again = open(&path, Want::Tokenizer).unwrap();
            assert_eq!((&again.network, &again.tensors), (&source.network, &source.tensors), "{case}");
        }
        let bytes = fs::read(own.join("tokenizer.safetensors")).unwrap();
        assert!(bytes == fs::read(fixture(case)).unwrap(), "{case}");
        fs::remove_file(halves.join("decoder.safetensors")).unwrap();
        let e = open(&halves, Want::Any).unwrap_err().to_string();
        assert!(e.contains("half of a dVAE") && e.contains("encoder.safetensors"), "{e}");
    }
}

/// The second dVAE of the official code: under its own names, in a folder of ours and in the official container.
#[test]
fn customised_tokenizers_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = DvaeConfig {
        network: DvaeNetwork::Custom,
        n_hid: 6,
        n_init: 10,
        groups: 2,
        blocks: 2,
        pools: 2,
        vocab: 12,
    };
    let layout = Tokenizer::layout(&config.clone().into(), 1 << 30).unwrap();
    let pages = layout.initial(1);
    let tokenizer = Tokenizer { config: config.clone().into(), layout, pages };
    // what sizes a bare file shows
    let path = dir.path().join("bare.safetensors");
    fs::write(&path, tokenizer.weights().unwrap()).unwrap();
    let source = open(&path, Want::Tokenizer).unwrap();
    assert_eq!((source.dvae().unwrap(), source.layout), (&config, Layout::CustomDvae));
    let official = write(dir.path(), "official", &source, Format::Official);
    let own = write(dir.path(), "own", &source, Format::Transformers);
    for want in [Want::Tokenizer, Want::Any] {
        for folder in [&official, &own] {
            let again = open(folder, want).unwrap();
            assert_eq!((&again.network, &again.tensors), (&source.network, &source.tensors));
        }
    }
    assert!(fs::read(own.join("tokenizer.safetensors")).unwrap() == fs::read(&path).unwrap());
    let again =
        files_of(&open(&official, Want::Tokenizer).unwrap(), Format::Official, Precision::Unset).unwrap();
    assert_eq!(again.files[0].0, "pytorch_model.bin");
    assert!(again.files[0].1 == fs::read(official.join("pytorch_model.bin")).unwrap());
    let e = files_of(&source, Format::Dalle, Precision::Unset).unwrap_err().to_string();
    assert!(e.contains("official") && e.contains("dalle"), "{e}");
}

#[test]
fn half_precision_files_stay_as_they_are() {
    for precision in [Precision::F16, Precision::Bf16] {
        let dir = tempfile::tempdir().unwrap();
        let narrow = write_safetensors_as(&tensors("cls_relpos_meanpool"), &pt_metadata(), precision);
        let path = dir.path().join("model.safetensors");
        fs::write(&path, &narrow).unwrap();
        let model = open(&path, Want::Vit).unwrap();
        assert_eq!(model.precision, precision);
        assert!(files_of(&model, Format::Transformers, Precision::Unset).unwrap().files[0].1 == narrow);
        let wide = &files_of(&model, Format::Transformers, Precision::F32).unwrap().files[0].1;
        assert!(wide.len() > narrow.len());
        let pth = &files_of(&model, Format::Official, Precision::Unset).unwrap().files[0].1;
        fs::write(dir.path().join("model.pth"), pth).unwrap();
        let back = open(&dir.path().join("model.pth"), Want::Vit).unwrap();
        assert_eq!((back.precision, &back.tensors), (precision, &model.tensors));
    }
}

#[test]
fn shards_are_one_model() {
    let dir = tempfile::tempdir().unwrap();
    let (mut map, mut shards) = (BTreeMap::new(), [Tensors::new(), Tensors::new()]);
    for (i, (name, tensor)) in tensors("cls_relpos_meanpool").into_iter().enumerate() {
        map.insert(name.clone(), format!("model-{}.safetensors", i % 2));
        shards[i % 2].insert(name, tensor);
    }
    for (i, shard) in shards.iter().enumerate() {
        let path = dir.path().join(format!("model-{i}.safetensors"));
        fs::write(path, write_safetensors(shard, &pt_metadata())).unwrap();
    }
    let index = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map}).to_string();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    let whole = open(&fixture("cls_relpos_meanpool"), Want::Vit).unwrap();
    for path in [dir.path().to_path_buf(), dir.path().join("model.safetensors.index.json")] {
        let model = open(&path, Want::Vit).unwrap();
        assert_eq!((&model.tensors, &model.network), (&whole.tensors, &whole.network));
    }
}

#[test]
fn changes_on_the_way_out_are_said() {
    let model = open(&fixture("mim_shared_relpos_32p8"), Want::Vit).unwrap();
    assert!(
        files_of(&model, Format::Timm, Precision::Unset)
            .unwrap_err()
            .to_string()
            .contains("timm has neither")
    );
    let changes = Changes { image: Some((64, 64)), table_per_block: true, drop_head: true };
    let (changed, steps) = change(model, &changes, Resize::Geometric).unwrap();
    assert!(steps.iter().any(|s| s.contains("4 x 4 to 8 x 8")), "{steps:?}");
    assert!(steps.iter().any(|s| s.contains("left out: lm_head.bias")), "{steps:?}");
    let files = files_of(&changed, Format::Timm, Precision::Unset).unwrap().files;
    assert!(String::from_utf8_lossy(&files[1].1).contains("\"global_pool\": \"avg\""));
    assert_eq!(changed.preprocessing.size.height, 64);
}
