//! The same numbers as the native program: token ids, logits, predictions; the op suite on the browser's shaders.

use beit::cpu::CpuSession;
use beit::data::{ImageLimits, Picture, decode};
use beit::graph::PageKind;
use beit::session::{Data, Session};
use serde_json::json;
use std::sync::Arc;

use super::{browser, bytes_expression, chromium::WEBGPU, fixture, site};

const PICTURES: [&str; 3] = ["rgb_300x200.png", "jpeg444_250x187.jpg", "palette_80x61.png"];

/// Ids and logits of a picture under a mask, computed natively in f64.
fn native(weights: &beit_web::Weights, picture: &Picture, mask: &[bool]) -> (Vec<u32>, Vec<f64>) {
    use beit::graph::Graph;
    use beit::models::mim::all_logits;
    use beit::models::vit::{VitInputs, backbone};
    use beit::plan::{CompileOptions, compile};
    let (vit, dvae) = (&weights.vit, &weights.dvae);
    let mut session = CpuSession::<f64>::new();
    for (layout, pages) in
        [(&weights.model, &weights.model_pages), (&weights.tokenizer, &weights.tokenizer_pages)]
    {
        session.add_store(layout, &[PageKind::Param]).unwrap();
        for (p, page) in pages.iter().enumerate() {
            session.write_page(&layout.store, PageKind::Param, p, page).unwrap();
        }
    }
    let side = vit.image.0;
    let (patch_view, token_view) =
        beit::data::eval_views(picture, side, (vit.grid().0 * dvae.stride(), beit::data::Filter::Lanczos));
    let caps = session.caps();
    let mut g = Graph::new();
    let image = g.input("image", &[1, side, side, 3]).unwrap();
    let words = g.input_words("mask", &[1, vit.patches()]).unwrap();
    let trunk = backbone(&mut g, vit, VitInputs { image, mask: Some(words), drop_key: None }, false).unwrap();
    let (_, logits) = all_logits(&mut g, vit, trunk.last()).unwrap();
    g.output("logits", logits);
    let plan = compile("native", &g, &[&weights.model], &caps, &CompileOptions::default()).unwrap();
    let id = session.load(Arc::new(plan)).unwrap();
    let mut view = vec![];
    beit::data::normalize::push_normalized(&mut view, &patch_view, beit::data::Normalization::HALF);
    let words: Vec<u32> = mask.iter().map(|&m| u32::from(m)).collect();
    session.write(id, "image", Data::F32(&view)).unwrap();
    session.write(id, "mask", Data::U32(&words)).unwrap();
    session.run(id).unwrap();
    let logits = session.read_f64(id, "logits").unwrap().split_off(vit.vocab);
    let grid = vit.grid();
    let token_side = (grid.0 * dvae.stride(), grid.1 * dvae.stride());
    let plan = beit::tasks::tokenizer::encode_plan(dvae, &weights.tokenizer, token_side, 1, &caps).unwrap();
    let id = session.load(Arc::new(plan)).unwrap();
    session.write(id, "image", Data::F32(&beit::data::to_dvae_nhwc(&token_view))).unwrap();
    session.run(id).unwrap();
    (session.read(id, "ids").unwrap().u32(), logits)
}

pub fn built_in_weights() -> beit_web::Weights {
    let read = |name: &str| std::fs::read(beit_web_build::root().join("web/model").join(name)).unwrap();
    let (model, config) = (read("model.safetensors"), read("config.json"));
    let (tokenizer, sizes) = (read("tokenizer.safetensors"), read("tokenizer.json"));
    let files = beit_web::Files { model: &model, config: &config, tokenizer: &tokenizer, sizes: &sizes };
    beit_web::Weights::read(&files, 1 << 27).unwrap()
}

#[test]
fn ids_and_logits_are_those_of_the_native_program() {
    let Some((_turn, mut chromium)) = browser(&WEBGPU) else { return };
    let weights = built_in_weights();
    let patches = weights.vit.patches();
    chromium.open(&site().url("example.html"));
    chromium.wait("document.getElementById('say').textContent.includes('features')", 90);
    chromium.value(
        "(async () => { const { Beit } = await import(new URL('beit/beit.js', location.href).href); \
         globalThis.beit = await Beit.create(); await beit.loadFrom('model'); })()",
    );
    let mask: Vec<bool> = (0..patches).map(|i| i % 3 == 0 || i / 8 == 2).collect();
    let words: Vec<u32> = mask.iter().map(|&m| u32::from(m)).collect();
    for name in PICTURES {
        let path = fixture(name);
        let picture = decode(&std::fs::read(&path).unwrap(), &ImageLimits::web()).unwrap();
        let (ids, logits) = native(&weights, &picture, &mask);
        let got = chromium.value(&format!(
            "(async () => {{ const p = await beit.decode({}, 4096); const m = {words:?}; \
             const found = await beit.reconstruct(p, m); \
             return {{ ids: [...await beit.tokenize(p)], logits: [...await beit.logits(p, m)], \
             top: [...found.topIds], per: found.top, width: p.width }}; }})()",
            bytes_expression(&path)
        ));
        assert_eq!(got["width"], json!(picture.width));
        assert_eq!(got["ids"], json!(ids), "{name}: token ids");
        let theirs: Vec<f64> =
            got["logits"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(theirs.len(), logits.len());
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let error =
            norm(&mut theirs.iter().zip(&logits).map(|(a, b)| a - b)) / norm(&mut logits.iter().copied());
        assert!(error < 2e-5, "{name}: logits differ by {error:.1e}");
        // The first guess of every patch is the arg max of the logits.
        let per = got["per"].as_u64().unwrap() as usize;
        for (p, row) in theirs.chunks(weights.vit.vocab).enumerate() {
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]).then(b.cmp(&a))).unwrap();
            assert_eq!(got["top"][p * per], json!(best), "{name}, patch {p}");
        }
    }
    // Errors are exceptions with a code.
    for (call, code) in [
        ("beit.decode(new Uint8Array([1, 2, 3]))", "data"),
        ("beit.features({ width: 2, height: 2, data: new Uint8ClampedArray(3) })", "data"),
        ("beit.tokenPictures([1e6])", "data"),
        ("beit.trainStep()", "config"),
        ("beit.attention(5, { layer: 99 })", "config"),
        (
            "beit.load({ 'model.safetensors': new Uint8Array(4), 'config.json': new Uint8Array(4), \
          'tokenizer.safetensors': new Uint8Array(4), 'tokenizer.json': new Uint8Array(4) })",
            "file",
        ),
        ("beit.load({})", "file"),
    ] {
        let got = chromium.value(&format!(
            "(async () => {{ try {{ await {call}; return 'nothing'; }} catch (e) {{ return e.name + ' ' + e.code; }} }})()"
        ));
        assert_eq!(got, json!(format!("BeitError {code}")), "{call}");
    }
    chromium.value("beit.dispose()");
    let after = chromium.value("beit.device().then(() => 'alive', (e) => e.code)");
    assert_eq!(after, json!("disposed"));
}

#[test]
fn op_suite_on_the_browsers_shaders() {
    let Some((_turn, mut chromium)) = browser(&WEBGPU) else { return };
    chromium.open(&site().url("example.html"));
    let lines = chromium.value(
        "(async () => { const m = await import(new URL('beit/beit_web.js', location.href).href); \
         await m.default({ module_or_path: new URL('beit/beit_web_bg.wasm', location.href) }); return await m.opSuite(); })()",
    );
    let lines: Vec<&str> = lines.as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
    eprintln!("{}", lines.last().unwrap());
    assert_eq!(lines.len(), 1, "{}", lines.join("\n"));
    let count: usize = lines[0].split(' ').next().unwrap().parse().unwrap();
    assert!(count > 300, "{count} checks");
}
