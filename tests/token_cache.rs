//! The token cache: its ids are those that the frozen tokenizer gives for the same crops, training on them resumes bit
//! for bit, and a cache of other things is refused.
#![cfg(feature = "cli")]

#[path = "support/run.rs"]
mod run;

use beit::config::{RunConfig, from_toml};
use beit::cpu::CpuSession;
use beit::data::batches::cached_view_key;
use beit::data::ids::{IdsFile, IdsKey};
use beit::data::{ViewIds, open, split, to_dvae_nhwc, token_view};
use beit::graph::PageKind;
use beit::models::mim::TOKENIZER;
use beit::session::{Data, Session};
use beit::tasks::tokenizer::encode_plan;
use beit::train::Tokenizer;
use run::{checkpoint_files, pretrain, run as beit, text};
use std::sync::Arc;

#[test]
fn cached_ids_are_the_tokenizers_and_training_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let call = |args: &[&str]| {
        let out = pretrain(dir.path(), args);
        assert!(out.status.success(), "{args:?}: {}", text(&out));
    };
    call(&["--quiet", "--token-cache", "3", "--out", "whole"]);
    let cache = dir.path().join("whole/token-cache");
    let key: IdsKey = serde_json::from_slice(&std::fs::read(cache.join("ids.json")).unwrap()).unwrap();
    let file = IdsFile::open(&cache, &key).unwrap();
    assert_eq!((key.views, key.grid), (3, (4, 4)));

    let text_of = std::fs::read_to_string(dir.path().join("whole/config.toml")).unwrap();
    let config: RunConfig = from_toml(&text_of, "config.toml").unwrap();
    let all = open(&config.data, config.seed).unwrap().source;
    let (train, _) = split(all.clone(), config.val_share.max(1.5 / all.len() as f64), config.seed).unwrap();
    assert_eq!(key.pictures, train.len());
    let mut session = CpuSession::<f32>::new();
    let tokenizer = Tokenizer::open(&dir.path().join("whole"), 1 << 20).unwrap();
    let (c, layout, side) = (&tokenizer.config, &tokenizer.layout, config.token_side());
    session.add_store(layout, &[PageKind::Param]).unwrap();
    session.write_page(TOKENIZER, PageKind::Param, 0, &tokenizer.pages[0]).unwrap();
    let plan = encode_plan(c, layout, side, 1, &session.caps()).unwrap();
    let plan = session.load(Arc::new(plan)).unwrap();
    let augment = config.views(true).augment.unwrap();
    let mut distinct = std::collections::BTreeSet::new();
    for picture in [0, 7, train.len() - 1] {
        let sample = train.load(picture).unwrap();
        for view in 0..3 {
            let key = cached_view_key(config.seed, picture, 3, view);
            let view_pixels = to_dvae_nhwc(&token_view(
                &sample.picture,
                &augment,
                key,
                (side.0, beit::data::Filter::Lanczos),
            ));
            session.write(plan, "image", Data::F32(&view_pixels)).unwrap();
            session.run(plan).unwrap();
            let ids = session.read(plan, "ids").unwrap().u32();
            assert_eq!(file.ids(picture, view).unwrap(), Some(ids.clone()), "picture {picture}, view {view}");
            distinct.insert(view_pixels.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
        }
    }
    assert_eq!(distinct.len(), 9, "every view is another crop");

    // stopped in the middle of pre-training and gone on with: the same bytes
    call(&["--quiet", "--token-cache", "3", "--out", "parts", "--stop-after", "13"]);
    let out = beit(dir.path(), &["pretrain", "--resume", "--quiet", "--adapter", "cpu", "--out", "parts"]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(checkpoint_files(&dir.path().join("whole")) == checkpoint_files(&dir.path().join("parts")));
}

#[test]
fn a_shared_cache_is_reused_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let call = |args: &[&str]| {
        let base = ["--quiet", "--token-cache", "2", "--token-cache-dir", "cache"];
        pretrain(dir.path(), &[&base[..], args].concat())
    };
    assert!(call(&["--out", "a"]).status.success());
    let made = |name: &str| {
        let path = dir.path().join("cache").join(name);
        (std::fs::read(&path).unwrap(), std::fs::metadata(&path).unwrap().modified().unwrap())
    };
    let before = made("ids.npy");
    assert!(call(&["--tokenizer", "a", "--out", "b"]).status.success());
    assert_eq!(made("ids.npy"), before, "the same tokenizer, pictures and crops: taken as it is");
    for (flags, word) in [
        (&["--tokenizer", "a", "--seed", "5"][..], "stale token ids"),
        (&["--tokenizer", "a", "--jitter", "0"], "other augmentation"),
        (&["--tokenizer", "a", "--data", "synthetic:70:32"], "other pictures"),
        (&["--tokenizer-steps", "9"], "other tokenizer weights"),
    ] {
        let out = call(&[flags, &["--out", "c"]].concat());
        let said = text(&out);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && said.contains("cache"), "no {word:?} in: {said}");
        // With a given tokenizer that is known before a run folder is made.
        let folder = dir.path().join("c");
        assert_eq!(folder.exists(), flags[0] != "--tokenizer", "{flags:?}");
        let _ = std::fs::remove_dir_all(folder);
    }
    assert_eq!(made("ids.npy"), before);
}
