//! Discrete VAEs: pictures to ids and back (beit-spec §3.1–3.6). NHWC.

mod custom;
mod openai;

pub(super) use custom::normalized;

use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::ops::{
    add_scaled, argmax, combine, gumbel_softmax, gumbel_softmax_with_noise, kl_uniform, logit_laplace, mean,
    one_hot, row_dot, scale, straight_through,
};
use serde::{Deserialize, Serialize};

/// Which network a dVAE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DvaeNetwork {
    /// The released one of DALL-E: max-pooling, logit-Laplace likelihood (beit-spec §3.1–3.4).
    #[default]
    Openai,
    /// The second one of the official code: strided convolutions, squared error; four times cheaper (beit-spec §3.6).
    Custom,
}

impl DvaeNetwork {
    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            DvaeNetwork::Openai => "openai",
            DvaeNetwork::Custom => "custom",
        }
    }
}

/// Sizes of a discrete VAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DvaeConfig {
    /// Which network; files without a word about it hold the released one.
    #[serde(default)]
    pub network: DvaeNetwork,
    /// Width of the first encoder group, which later groups double; of all layers in the custom network.
    pub n_hid: usize,
    /// Width of the decoder's input: in the custom network, of a code.
    pub n_init: usize,
    /// Groups of residual blocks; in the custom network stages, each of which halves the sides.
    pub groups: usize,
    /// Residual blocks per group.
    pub blocks: usize,
    /// Times that the sides are halved; one id stands for a cell of `2^pools` pixels side.
    pub pools: usize,
    /// Number of ids V.
    pub vocab: usize,
}

impl DvaeConfig {
    /// Pixels of a cell's side.
    pub fn stride(&self) -> usize {
        1 << self.pools
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
        let (fits, expected) = match self.network {
            DvaeNetwork::Openai => {
                (self.pools < self.groups, format!("fewer than its {} groups", self.groups))
            }
            DvaeNetwork::Custom => (
                self.pools == self.groups,
                format!("its {} stages, each of which halves the sides", self.groups),
            ),
        };
        if !fits {
            let e = Error::config("pooling stages of the tokenizer")
                .at("tokenizer.pools and tokenizer.groups")
                .expected(expected)
                .got(self.pools.to_string());
            return Err(match self.network {
                DvaeNetwork::Openai => e,
                DvaeNetwork::Custom => {
                    e.hint("sizes of the released network stand beside network = \"openai\"")
                }
            });
        }
        Ok(())
    }
    /// The same cells and ids in another network, in the proportions of its published form.
    pub fn in_network(&self, network: DvaeNetwork) -> Self {
        let (n_init, groups, blocks) = match network {
            _ if network == self.network => return self.clone(),
            DvaeNetwork::Openai => ((self.n_hid / 2).max(1), self.pools + 1, 2),
            DvaeNetwork::Custom => (2 * self.n_hid, self.pools, 1),
        };
        DvaeConfig { network, n_init, groups, blocks, ..self.clone() }
    }
    /// Channels of the decoder's output: μ and ln b of three colours, or their values in −1..1.
    pub fn decoded_channels(&self) -> usize {
        match self.network {
            DvaeNetwork::Openai => 6,
            DvaeNetwork::Custom => 3,
        }
    }
}

/// Intermediate maps, for golden tests: input convolution if there is one, then the output of each group.
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
    match cfg.network {
        DvaeNetwork::Openai => openai::encoder(g, cfg, image),
        DvaeNetwork::Custom => custom::encoder(g, cfg, image),
    }
}

/// Pictures of one-hot or relaxed ids `[B,h,w,V]`: `[B,H,W,6]` (μ, ln b), or `[B,H,W,3]` in −1..1 of the custom network.
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
    match cfg.network {
        DvaeNetwork::Openai => openai::decoder(g, cfg, ids),
        DvaeNetwork::Custom => custom::decoder(g, cfg, ids),
    }
}

/// How far decoded pictures are from mapped images `[B,H,W,3]`: `[B,H,W,3]` or a number a pixel, and the mean per value
/// `[1]`. The released network's is the negative log-likelihood in nats (beit-spec §3.4), the custom one's the squared
/// error of values in −1..1.
///
/// # Errors
/// If the sizes do not fit.
pub fn distortion(g: &mut Graph, cfg: &DvaeConfig, decoded: Var, image: Var) -> Result<(Var, Var)> {
    match cfg.network {
        DvaeNetwork::Openai => {
            let values = logit_laplace(g, decoded, image)?;
            Ok((values, mean(g, values)?))
        }
        DvaeNetwork::Custom => {
            let wanted = custom::normalized(g, image)?;
            let difference = add_scaled(g, decoded, wanted, -1.0)?;
            let pixels = row_dot(g, difference, difference)?;
            let of_pixels = mean(g, pixels)?;
            Ok((pixels, scale(g, of_pixels, 1.0 / 3.0)?))
        }
    }
}

/// Noise of the relaxation.
#[derive(Debug, Clone, Copy)]
pub enum Noise {
    /// Drawn from a key input of 4 words.
    Key(Var),
    /// Given, like the logits.
    Given(Var),
}

/// What the decoder sees in training.
#[derive(Debug, Clone, Copy)]
pub struct Relaxation {
    /// The noise.
    pub noise: Noise,
    /// Decode hard ids and pass the gradient to the relaxed ones.
    pub straight_through: bool,
}

impl From<Noise> for Relaxation {
    fn from(noise: Noise) -> Self {
        Relaxation { noise, straight_through: false }
    }
}

/// What [`training`] draws.
#[derive(Debug, Clone, Copy)]
pub struct TrainingGraph {
    /// nll + coefficient·KL, `[1]`.
    pub loss: Var,
    /// Mean [`distortion`] per value, `[1]`.
    pub nll: Var,
    /// Mean KL per position, `[1]`.
    pub kl: Var,
    /// Encoder logits `[B,h,w,V]`.
    pub logits: Var,
    /// Relaxed ids `[B,h,w,V]`.
    pub soft: Var,
    /// Decoder output on the relaxed ids.
    pub decoded: Var,
    /// [`distortion`] of every value or pixel.
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
    relaxation: Relaxation,
) -> Result<TrainingGraph> {
    let logits = encoder(g, cfg, image)?;
    let soft = match relaxation.noise {
        Noise::Key(key) => gumbel_softmax(g, logits, tau, key)?,
        Noise::Given(noise) => gumbel_softmax_with_noise(g, logits, tau, noise)?,
    };
    let seen = if relaxation.straight_through {
        let ids = argmax(g, soft)?;
        let hard = one_hot(g, ids, cfg.vocab)?;
        straight_through(g, soft, hard)?
    } else {
        soft
    };
    let decoded = decoder(g, cfg, seen)?;
    let (nll_values, nll) = distortion(g, cfg, decoded, image)?;
    let kl_rows = kl_uniform(g, logits)?;
    let kl = mean(g, kl_rows)?;
    let loss = combine(g, nll, kl, kl_weight)?;
    Ok(TrainingGraph { loss, nll, kl, logits, soft, decoded, nll_values, kl_rows })
}

/// Draws encoding to hard ids and decoding them again; returns `ids[B,h,w]` and the [`decoder`]'s output.
///
/// # Errors
/// If the sizes do not fit.
pub fn round_trip(g: &mut Graph, cfg: &DvaeConfig, image: Var) -> Result<(Var, Var)> {
    let logits = encoder(g, cfg, image)?;
    let ids = argmax(g, logits)?;
    let decoded = from_ids(g, cfg, ids)?;
    Ok((ids, decoded))
}

/// The [`decoder`]'s output of hard ids `[B,h,w]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn from_ids(g: &mut Graph, cfg: &DvaeConfig, ids: Var) -> Result<Var> {
    let hot = one_hot(g, ids, cfg.vocab)?;
    decoder(g, cfg, hot)
}

#[cfg(test)]
mod tests;
