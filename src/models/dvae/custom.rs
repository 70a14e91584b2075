//! The second ("customised") dVAE of the official code (beit-spec §3.6): strided convolutions, one residual block a
//! stage, a codebook that is mixed by the relaxed ids. About a quarter of the released network's work. NHWC.
//!
//! Parameter names are those of the official files: layers numbered along each half, a strided convolution and its
//! ReLU being one (`encoder.0.0`), a residual block the next (`encoder.1.net.0`, `.2`, `.4`).

use super::{DvaeConfig, Stages};
use crate::error::Result;
use crate::graph::{Graph, Init, Var};
use crate::ops::{add, add_scaled, conv2d, conv2d_strided, conv2d_transposed, fill, mix_rows, relu, scale};

/// Side, distance and border of the convolutions that change the resolution.
const K: usize = 4;
const STRIDE: usize = 2;
const PAD: usize = 1;

/// Weight and bias of a convolution; `fan_in` numbers are added up for each of its outputs.
fn params(g: &mut Graph, name: &str, shape: [usize; 4], outputs: usize, fan_in: usize) -> Result<(Var, Var)> {
    let std = 1.0 / (fan_in as f32).sqrt();
    let w = g.param(&format!("{name}.weight"), &shape, Init::Normal(std))?;
    Ok((w, g.param(&format!("{name}.bias"), &[outputs], Init::Constant(0.0))?))
}

/// A "same" convolution.
fn conv(g: &mut Graph, name: &str, x: Var, o: usize, k: usize) -> Result<Var> {
    let c = g.ty(x).cols();
    let (w, b) = params(g, name, [o, c, k, k], o, c * k * k)?;
    conv2d(g, x, w, b)
}

/// Halves the sides.
fn down(g: &mut Graph, name: &str, x: Var, o: usize) -> Result<Var> {
    let c = g.ty(x).cols();
    let (w, b) = params(g, name, [o, c, K, K], o, c * K * K)?;
    let y = conv2d_strided(g, x, w, Some(b), STRIDE, PAD)?;
    relu(g, y)
}

/// Doubles the sides; weights are stored `[in, out, k, k]`, and four taps of each input meet in a pixel.
fn up(g: &mut Graph, name: &str, x: Var, o: usize) -> Result<Var> {
    let c = g.ty(x).cols();
    let (w, b) = params(g, name, [c, o, K, K], o, c * K * K / (STRIDE * STRIDE))?;
    let y = conv2d_transposed(g, x, w, Some(b), STRIDE, PAD)?;
    relu(g, y)
}

/// `x + net(x)`.
fn block(g: &mut Graph, x: Var) -> Result<Var> {
    let width = g.ty(x).cols();
    let mut h = conv(g, "net.0", x, width, 3)?;
    h = relu(g, h)?;
    h = conv(g, "net.2", h, width, 3)?;
    h = relu(g, h)?;
    h = conv(g, "net.4", h, width, 1)?;
    add(g, x, h)
}

/// Stages of a resampling convolution and residual blocks; the last layer's name is returned.
fn stages(
    g: &mut Graph,
    cfg: &DvaeConfig,
    mut x: Var,
    resample: impl Fn(&mut Graph, &str, Var, usize) -> Result<Var>,
) -> Result<(Var, Stages, String)> {
    let (mut maps, mut layer) = (vec![], 0);
    for stage in 1..=cfg.groups {
        x = resample(g, &format!("{layer}.0"), x, cfg.n_hid)?;
        for b in 1..=cfg.blocks {
            x = g.scoped(&(layer + b).to_string(), |g| block(g, x))?;
        }
        layer += 1 + cfg.blocks;
        maps.push((format!("stage_{stage}"), x));
    }
    Ok((x, maps, layer.to_string()))
}

/// Logits `[B,h,w,V]` of mapped images `[B,H,W,3]` in 0.1..0.9, and the maps on the way.
pub(super) fn encoder(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<(Var, Stages)> {
    let x = normalized(g, image)?;
    g.scoped("encoder", |g| {
        let (x, maps, last) = stages(g, cfg, x, down)?;
        Ok((conv(g, &last, x, cfg.vocab, 1)?, maps))
    })
}

/// Values in −1..1 of mapped ones in 0.1..0.9.
pub(in crate::models) fn normalized(g: &mut Graph, mapped: Var) -> Result<Var> {
    let shape = g.shape(mapped).to_vec();
    let (x, shift) = (scale(g, mapped, 2.5)?, fill(g, 1.25, &shape)?);
    add_scaled(g, x, shift, -1.0)
}

/// Values `[B,H,W,3]` in −1..1, about, of one-hot or relaxed ids `[B,h,w,V]`, and the maps on the way.
pub(super) fn decoder(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<(Var, Stages)> {
    let codebook = g.param("codebook.weight", &[cfg.vocab, cfg.n_init], Init::Normal(1.0))?;
    let code = mix_rows(g, ids, codebook)?;
    g.scoped("decoder", |g| {
        let (x, maps, last) = stages(g, cfg, code, up)?;
        Ok((conv(g, &last, x, 3, 1)?, maps))
    })
}
