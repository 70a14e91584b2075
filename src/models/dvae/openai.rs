//! The released network of DALL-E (beit-spec §3.1, §3.2) at any width, depth and number of pooling stages. NHWC.

use super::{DvaeConfig, Stages};
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{add_scaled, conv2d, max_pool, relu, upsample};

/// A convolution with parameters `{name}.w [o,c,k,k]` and `{name}.b [o]`.
fn conv(g: &mut Graph, name: &str, x: Var, o: usize, k: usize) -> Result<Var> {
    let c = g.ty(x).cols();
    let std = 1.0 / ((c * k * k) as f32).sqrt();
    let w = g.param(&format!("{name}.w"), &[o, c, k, k], Init::Normal(std))?;
    let b = g.param(&format!("{name}.b"), &[o], Init::Constant(0.0))?;
    conv2d(g, x, w, b)
}

/// `id(x) + gain·res(x)`; `kernels` are the sides of the four convolutions of the residual branch.
fn block(g: &mut Graph, x: Var, out: usize, gain: f32, kernels: [usize; 4]) -> Result<Var> {
    let id = if g.ty(x).cols() == out { x } else { conv(g, "id_path", x, out, 1)? };
    let hidden = (out / 4).max(1);
    let mut h = x;
    for (i, k) in kernels.into_iter().enumerate() {
        h = relu(g, h)?;
        h = conv(g, &format!("res_path.conv_{}", i + 1), h, if i == 3 { out } else { hidden }, k)?;
    }
    add_scaled(g, id, h, gain)
}

/// Weight of every residual branch: 1/(number of blocks)².
fn gain(cfg: &DvaeConfig) -> f32 {
    let blocks = (cfg.groups * cfg.blocks) as f32;
    1.0 / (blocks * blocks)
}

/// Logits `[B,h,w,V]` of mapped images `[B,H,W,3]`, and the maps on the way.
pub(super) fn encoder(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<(Var, Stages)> {
    g.scoped("encoder.blocks", |g| {
        let mut stages = vec![];
        let mut x = conv(g, "input", image, cfg.n_hid, 7)?;
        stages.push(("input".to_string(), x));
        for group in 1..=cfg.groups {
            for b in 1..=cfg.blocks {
                let scope = format!("group_{group}.block_{b}");
                x = g.scoped(&scope, |g| block(g, x, cfg.n_hid << (group - 1), gain(cfg), [3, 3, 3, 1]))?;
            }
            if group <= cfg.pools {
                x = max_pool(g, x)?;
            }
            stages.push((format!("group_{group}"), x));
        }
        x = relu(g, x)?;
        Ok((conv(g, "output.conv", x, cfg.vocab, 1)?, stages))
    })
}

/// μ and ln b `[B,H,W,6]` of one-hot or relaxed ids `[B,h,w,V]`, and the maps on the way.
pub(super) fn decoder(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<(Var, Stages)> {
    g.scoped("decoder.blocks", |g| {
        let mut stages = vec![];
        let mut x = conv(g, "input", ids, cfg.n_init, 1)?;
        stages.push(("input".to_string(), x));
        for group in 1..=cfg.groups {
            for b in 1..=cfg.blocks {
                let scope = format!("group_{group}.block_{b}");
                let width = cfg.n_hid << (cfg.groups - group);
                x = g.scoped(&scope, |g| block(g, x, width, gain(cfg), [1, 3, 3, 3]))?;
            }
            if group < cfg.groups && group + cfg.pools >= cfg.groups {
                x = upsample(g, x)?;
            }
            stages.push((format!("group_{group}"), x));
        }
        x = relu(g, x)?;
        Ok((conv(g, "output.conv", x, 6, 1)?, stages))
    })
}
