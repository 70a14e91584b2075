//! BEiT-base at 224 pixels fits what every WebGPU device has.

use beit::config::preset;
use beit::graph::{Graph, ParamLayout};
use beit::models::mim::all_logits;
use beit::models::vit::{VitInputs, backbone};
use beit::ops::{Caps, Tier};
use beit::plan::{CompileOptions, compile};

/// Every page, slot and input of the forward pass within one storage binding of 128 MiB, 8 bindings a stage.
#[test]
fn base_compiles_within_the_guaranteed_limits() {
    let vit = preset("base").unwrap().model;
    let caps = Caps::guaranteed(Tier::Hardware);
    let mut g = Graph::new();
    let image = g.input("image", &[1, 224, 224, 3]).unwrap();
    let mask = g.input_words("mask", &[1, 196]).unwrap();
    let trunk = backbone(&mut g, &vit, VitInputs { image, mask: Some(mask), drop_key: None }, false).unwrap();
    let (_, logits) = all_logits(&mut g, &vit, trunk.last()).unwrap();
    g.output("logits", logits);
    let layout = ParamLayout::of(&g, "model", caps.max_binding).unwrap();
    assert_eq!(layout.parameters(), 91_965_776);
    assert!(layout.pages.iter().all(|&n| 4 * n as u64 <= caps.max_binding));
    let plan = compile("base", &g, &[&layout], &caps, &CompileOptions::default()).unwrap();
    assert!(plan.memory().slots < 64 << 20, "{} bytes of slots", plan.memory().slots);
}

/// A file of base's size with arbitrary weights, through import and a forward pass of the shaders. Minutes on a software
/// driver: run it by hand with `cargo test --test interop -- --ignored base`.
#[cfg(all(feature = "cli", feature = "gpu"))]
#[test]
#[ignore = "17.6 GMAC on whatever adapter there is"]
fn base_loads_and_runs_on_the_first_adapter_within_the_guaranteed_limits() {
    use beit::gpu::{Gpu, GpuSession, list_adapters};
    use beit::interop::{Head, MASK, PIXELS, Want, forward, open, vit_shapes};
    use beit::io::names::to_transformers;
    use beit::io::tensors::{Precision, Tensor, TensorData, Tensors, pt_metadata, write_safetensors_as};

    let vit = preset("base").unwrap().model;
    let shapes = vit_shapes(&vit, &Head::MaskedImage).unwrap();
    let wave = |n: usize| (0..n).map(|i| 0.05 * (i as f32 * 0.7).sin()).collect::<Vec<f32>>();
    let all: Tensors = shapes
        .into_iter()
        .map(|(name, shape)| {
            let n = shape.iter().product();
            (name, Tensor::f32(shape, wave(n)).unwrap())
        })
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let bytes = write_safetensors_as(&to_transformers(all).unwrap(), &pt_metadata(), Precision::F16);
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let model = open(dir.path(), Want::Vit).unwrap();
    assert_eq!(beit::interop::preset_of(model.vit().unwrap()), Some("base"));
    let inputs = Tensors::from([
        (PIXELS.to_owned(), Tensor::f32(vec![1, 3, 224, 224], wave(3 * 224 * 224)).unwrap()),
        (MASK.to_owned(), Tensor::new(vec![1, 196], TensorData::U8(vec![1; 196])).unwrap()),
    ]);
    let adapters = list_adapters();
    let name = &adapters.first().expect("an adapter").name;
    let gpu = Gpu::create_with_default_limits(Some(name)).unwrap();
    let (has, every) = (gpu.caps(), Caps::guaranteed(Tier::Software));
    assert_eq!((has.max_binding, has.max_buffer), (every.max_binding, every.max_buffer), "forced down");
    assert_eq!((has.max_storage_buffers, has.f16, has.int64), (8, false, false));
    let start = std::time::Instant::now();
    let out = forward(&model, &mut GpuSession::new(gpu), &inputs).unwrap();
    println!("{name}: {:?}", start.elapsed());
    assert_eq!(out["logits"].shape, [1, 196, 8192]);
    let cpu = forward(&model, &mut beit::cpu::CpuSession::<f32>::new(), &inputs).unwrap();
    let (a, b) = (out["logits"].as_f32().unwrap(), cpu["logits"].as_f32().unwrap());
    let largest = b.iter().fold(0f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).fold(0f32, |m, (x, y)| m.max((x - y).abs()));
    println!("shaders against CPU session: {:.1e}", worst / largest);
    assert!(worst / largest < 1e-4);
}
