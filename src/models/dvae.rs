//! The discrete VAE of DALL-E (beit-spec §3.1–3.5) at any width, depth and number of pooling stages. NHWC.

use crate::error::{Error, Result};
use crate::graph::{Graph, Init, Var};
use crate::ops::{
    add_scaled, argmax, combine, conv2d, gumbel_softmax, gumbel_softmax_with_noise, kl_uniform,
    logit_laplace, max_pool, mean, one_hot, relu, upsample,
};
use serde::{Deserialize, Serialize};

/// Sizes of a discrete VAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DvaeConfig {
    /// Width of the first encoder group; later groups double it.
    pub n_hid: usize,
    /// Width of the decoder's input.
    pub n_init: usize,
    /// Groups of residual blocks.
    pub groups: usize,
    /// Residual blocks per group.
    pub blocks: usize,
    /// Max-pooling stages; one id stands for a cell of `2^pools` pixels side.
    pub pools: usize,
    /// Number of ids V.
    pub vocab: usize,
}

impl DvaeConfig {
    /// Pixels of a cell's side.
    pub fn stride(&self) -> usize {
        1 << self.pools
    }
    /// Weight of every residual branch: 1/(number of blocks)².
    pub fn gain(&self) -> f32 {
        let blocks = (self.groups * self.blocks) as f32;
        1.0 / (blocks * blocks)
    }
    /// Coefficient of the mean KL per position beside the mean nll per value: β/(3·stride²) (beit-spec §3.5).
    pub fn kl_coefficient(&self, beta: f64) -> f64 {
        beta / (3 * self.stride() * self.stride()) as f64
    }
    /// Checks the sizes.
    ///
    /// # Errors
    /// A config error that names the key.
    pub fn check(&self) -> Result<()> {
        if [self.n_hid, self.n_init, self.groups, self.blocks, self.vocab].contains(&0) {
            return Err(Error::config("n-hid, n-init, groups, blocks and vocab of the tokenizer")
                .expected("at least 1")
                .got("0"));
        }
        if self.pools >= self.groups {
            return Err(Error::config("pooling stages of the tokenizer")
                .expected(format!("fewer than its {} groups", self.groups))
                .got(self.pools.to_string()));
        }
        Ok(())
    }
}

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

/// Intermediate maps, for golden tests: input convolution, then the output of each group.
pub type Stages = Vec<(String, Var)>;

/// Logits `[B,h,w,V]` of mapped images `[B,H,W,3]` (values in 0.1..0.9).
///
/// # Errors
/// If the sizes do not fit.
pub fn encoder(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<Var> {
    Ok(encoder_stages(g, cfg, image)?.0)
}

/// As [`encoder`], with the intermediate maps.
///
/// # Errors
/// As [`encoder`].
pub fn encoder_stages(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<(Var, Stages)> {
    cfg.check()?;
    g.scoped("encoder.blocks", |g| {
        let mut stages = vec![];
        let mut x = conv(g, "input", image, cfg.n_hid, 7)?;
        stages.push(("input".to_string(), x));
        for group in 1..=cfg.groups {
            for b in 1..=cfg.blocks {
                let scope = format!("group_{group}.block_{b}");
                x = g.scoped(&scope, |g| block(g, x, cfg.n_hid << (group - 1), cfg.gain(), [3, 3, 3, 1]))?;
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

/// Distribution parameters `[B,H,W,6]` (μ, ln b) of one-hot or relaxed ids `[B,h,w,V]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn decoder(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<Var> {
    Ok(decoder_stages(g, cfg, ids)?.0)
}

/// As [`decoder`], with the intermediate maps.
///
/// # Errors
/// As [`decoder`].
pub fn decoder_stages(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<(Var, Stages)> {
    cfg.check()?;
    g.scoped("decoder.blocks", |g| {
        let mut stages = vec![];
        let mut x = conv(g, "input", ids, cfg.n_init, 1)?;
        stages.push(("input".to_string(), x));
        for group in 1..=cfg.groups {
            for b in 1..=cfg.blocks {
                let scope = format!("group_{group}.block_{b}");
                let width = cfg.n_hid << (cfg.groups - group);
                x = g.scoped(&scope, |g| block(g, x, width, cfg.gain(), [1, 3, 3, 3]))?;
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

/// Noise of the relaxation.
#[derive(Debug, Clone, Copy)]
pub enum Noise {
    /// Drawn from a key input of 4 words.
    Key(Var),
    /// Given, like the logits.
    Given(Var),
}

/// What [`training`] draws.
#[derive(Debug, Clone, Copy)]
pub struct TrainingGraph {
    /// nll + coefficient·KL, `[1]`.
    pub loss: Var,
    /// Mean nll per value, `[1]`.
    pub nll: Var,
    /// Mean KL per position, `[1]`.
    pub kl: Var,
    /// Encoder logits `[B,h,w,V]`.
    pub logits: Var,
    /// Relaxed ids `[B,h,w,V]`.
    pub soft: Var,
    /// Decoder output on the relaxed ids `[B,H,W,6]`.
    pub decoded: Var,
    /// nll of every value `[B,H,W,3]`.
    pub nll_values: Var,
    /// KL of every position `[B,h,w]`.
    pub kl_rows: Var,
}

/// Draws the training loss of mapped images: `tau[1]` is the temperature, `kl_weight[1]` the coefficient of the KL.
///
/// # Errors
/// If the sizes do not fit.
pub fn training(
    g: &mut Graph,
    cfg: &DvaeConfig,
    image: Var,
    tau: Var,
    kl_weight: Var,
    noise: Noise,
) -> Result<TrainingGraph> {
    let logits = encoder(g, cfg, image)?;
    let soft = match noise {
        Noise::Key(key) => gumbel_softmax(g, logits, tau, key)?,
        Noise::Given(noise) => gumbel_softmax_with_noise(g, logits, tau, noise)?,
    };
    let decoded = decoder(g, cfg, soft)?;
    let nll_values = logit_laplace(g, decoded, image)?;
    let kl_rows = kl_uniform(g, logits)?;
    let (nll, kl) = (mean(g, nll_values)?, mean(g, kl_rows)?);
    let loss = combine(g, nll, kl, kl_weight)?;
    Ok(TrainingGraph { loss, nll, kl, logits, soft, decoded, nll_values, kl_rows })
}

/// Draws encoding to hard ids and decoding them again; returns `ids[B,h,w]` and the decoder output `[B,H,W,6]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn round_trip(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<(Var, Var)> {
    let logits = encoder(g, cfg, image)?;
    let ids = argmax(g, logits)?;
    let decoded = from_ids(g, cfg, ids)?;
    Ok((ids, decoded))
}

/// Decoder output `[B,H,W,6]` of hard ids `[B,h,w]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn from_ids(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<Var> {
    let hot = one_hot(g, ids, cfg.vocab)?;
    decoder(g, cfg, hot)
}
