//! Sizes of the customised network, and what a straight-through step sees.

use super::*;
use crate::cpu::CpuSession;
use crate::graph::{PageKind, ParamLayout, grad};
use crate::ops::{Caps, Tier};
use crate::plan::{CompileOptions, compile};
use crate::session::{Data, Session};
use std::sync::Arc;

/// The published one (beit-spec §3.6).
fn published() -> DvaeConfig {
    let released = DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: 256,
        n_init: 128,
        groups: 4,
        blocks: 2,
        pools: 3,
        vocab: 8192,
    };
    let custom = released.in_network(DvaeNetwork::Custom);
    assert_eq!(custom.in_network(DvaeNetwork::Openai), released);
    custom
}

fn encoder_flops(cfg: &DvaeConfig) -> u64 {
    let mut g = Graph::new();
    let image = g.input("image", &[1, 112, 112, 3]).unwrap();
    let logits = encoder(&mut g, cfg, image).unwrap();
    g.output("logits", logits);
    let layout = ParamLayout::of(&g, "model", 1 << 30).unwrap();
    let caps = Caps::guaranteed(Tier::Hardware);
    compile("encoder", &g, &[&layout], &caps, &CompileOptions::default()).unwrap().summary().flops
}

#[test]
fn the_custom_network_has_the_published_size() {
    let cfg = published();
    assert_eq!((cfg.n_hid, cfg.n_init, cfg.groups, cfg.blocks, cfg.pools), (256, 512, 3, 1, 3));
    cfg.check().unwrap();
    let mut g = Graph::new();
    let image = g.input("image", &[1, 8, 8, 3]).unwrap();
    let (ids, decoded) = round_trip(&mut g, &cfg, image).unwrap();
    assert_eq!((g.shape(ids), g.shape(decoded)), (&[1, 1, 1][..], &[1, 8, 8, 3][..]));
    let of = |half: &str| -> usize {
        let own = g.params().iter().filter(|p| p.name.starts_with(half));
        own.map(|p| p.shape.iter().product::<usize>()).sum()
    };
    let (d, v, code) = (256, 8192, 512);
    let conv = |from: usize, to: usize, taps: usize| from * to * taps + to;
    let block = conv(d, d, 9) + conv(d, d, 9) + conv(d, d, 1);
    let encoder_size = conv(3, d, 16) + 2 * conv(d, d, 16) + 3 * block + conv(d, v, 1);
    let decoder_size = conv(code, d, 16) + 2 * conv(d, d, 16) + 3 * block + conv(d, 3, 1);
    assert_eq!((of("encoder."), of("codebook."), of("decoder.")), (encoder_size, v * code, decoder_size));
    assert_eq!((encoder_size, decoder_size), (7_953_408, 7_933_699));
    for (name, shape) in [
        ("encoder.0.0.weight", vec![256, 3, 4, 4]),
        ("encoder.5.net.4.weight", vec![256, 256, 1, 1]),
        ("encoder.6.bias", vec![8192]),
        ("codebook.weight", vec![8192, 512]),
        ("decoder.0.0.weight", vec![512, 256, 4, 4]),
        ("decoder.3.net.0.weight", vec![256, 256, 3, 3]),
        ("decoder.6.weight", vec![3, 256, 1, 1]),
    ] {
        assert_eq!(
            g.params().iter().find(|p| p.name == name).map(|p| p.shape.clone()),
            Some(shape),
            "{name}"
        );
    }
}

/// 6.6 GMAC at 112 pixels against 26.06 of the released network.
#[test]
fn the_custom_encoder_is_four_times_cheaper() {
    let released = published().in_network(DvaeNetwork::Openai);
    let (cheap, dear) = (encoder_flops(&published()) as f64 / 2e9, encoder_flops(&released) as f64 / 2e9);
    assert!((cheap - 6.604).abs() < 0.02 && (dear - 26.059).abs() < 0.05, "{cheap} and {dear} GMAC");
}

#[test]
fn stages_and_groups_are_checked() {
    let cfg = DvaeConfig { pools: 2, ..published() };
    assert!(cfg.check().unwrap_err().to_string().contains("tokenizer.pools"));
    let cfg = DvaeConfig { blocks: 0, ..published() };
    assert!(cfg.check().is_err());
}

/// The decoder of a straight-through step sees hard ids, and the encoder gets the gradient of the relaxed ones.
#[test]
fn straight_through_decodes_hard_ids() {
    let cfg = DvaeConfig { n_hid: 4, n_init: 6, groups: 1, pools: 1, vocab: 5, ..published() };
    let run = |straight_through: bool| {
        let mut g = Graph::new();
        let image = g.input("image", &[1, 4, 4, 3]).unwrap();
        let noise = g.input("noise", &[1, 2, 2, 5]).unwrap();
        let (tau, weight) = (g.input("tau", &[1]).unwrap(), g.input("weight", &[1]).unwrap());
        let relaxation = Relaxation { noise: Noise::Given(noise), straight_through };
        let t = training(&mut g, &cfg, image, tau, weight, relaxation).unwrap();
        let ids = argmax(&mut g, t.soft).unwrap();
        let hard = from_ids(&mut g, &cfg, ids).unwrap();
        let input = g.param_var("model", "encoder.0.0.weight").unwrap();
        let gradient = grad(&mut g, t.loss, &[input]).unwrap()[0].unwrap();
        for (name, v) in [("decoded", t.decoded), ("hard", hard), ("gradient", gradient)] {
            g.output(name, v);
        }
        let layout = ParamLayout::of(&g, "model", 1 << 30).unwrap();
        let plan = compile("step", &g, &[&layout], &Caps::cpu(), &CompileOptions::default()).unwrap();
        let mut session = CpuSession::<f64>::new();
        session.add_store(&layout, &[PageKind::Param]).unwrap();
        session.write_page("model", PageKind::Param, 0, &layout.initial(3)[0]).unwrap();
        let id = session.load(Arc::new(plan)).unwrap();
        let image: Vec<f32> = (0..48).map(|i| 0.1 + 0.8 * (i * 7 % 48) as f32 / 48.0).collect();
        let noise: Vec<f32> = (0..20).map(|i| (i * 3 % 20) as f32 / 10.0).collect();
        for (name, values) in [("image", &image[..]), ("noise", &noise), ("tau", &[1.0]), ("weight", &[0.1])]
        {
            session.write(id, name, Data::F32(values)).unwrap();
        }
        session.run(id).unwrap();
        ["decoded", "hard", "gradient"].map(|name| session.read_f64(id, name).unwrap())
    };
    let far = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let ([soft, hard, _], [through, same, gradient]) = (run(false), run(true));
    assert!(far(&soft, &hard) > 1e-3, "relaxed ids at temperature 1 are not hard ones");
    assert!(far(&through, &same) < 1e-12);
    assert!(gradient.iter().any(|g| g.abs() > 1e-6), "the encoder learns");
}
