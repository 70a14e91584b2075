//! A tokenizer of any kind: what turns pictures into ids, and ids into something that can be looked at.

use super::dvae::{self, DvaeConfig, DvaeNetwork};
use super::vq_kd::{self, VqKdConfig};
use crate::error::{Error, Result};
use crate::graph::{Graph, Var};
use crate::ops::{argmax, one_hot};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::BTreeMap;

/// Sizes of a tokenizer; in files and configs the key `network` tells the kinds apart.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerModel {
    /// One of the two discrete VAEs.
    Dvae(DvaeConfig),
    /// The one of BEiT v2.
    VqKd(VqKdConfig),
}

/// Which network a tokenizer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerNetwork {
    /// The released dVAE of DALL-E.
    Openai,
    /// The second dVAE of the official code.
    Custom,
    /// The tokenizer of BEiT v2, distilled from a teacher.
    VqKd,
}

impl From<DvaeNetwork> for TokenizerNetwork {
    fn from(network: DvaeNetwork) -> Self {
        match network {
            DvaeNetwork::Openai => TokenizerNetwork::Openai,
            DvaeNetwork::Custom => TokenizerNetwork::Custom,
        }
    }
}

impl From<DvaeConfig> for TokenizerModel {
    fn from(config: DvaeConfig) -> Self {
        TokenizerModel::Dvae(config)
    }
}

impl From<VqKdConfig> for TokenizerModel {
    fn from(config: VqKdConfig) -> Self {
        TokenizerModel::VqKd(config)
    }
}

impl TokenizerModel {
    /// Which network it is.
    pub fn network(&self) -> TokenizerNetwork {
        match self {
            TokenizerModel::Dvae(d) => d.network.into(),
            TokenizerModel::VqKd(_) => TokenizerNetwork::VqKd,
        }
    }
    /// Pixels of a cell's side.
    pub fn stride(&self) -> usize {
        match self {
            TokenizerModel::Dvae(d) => d.stride(),
            TokenizerModel::VqKd(v) => v.patch,
        }
    }
    /// Number of ids V.
    pub fn vocab(&self) -> usize {
        match self {
            TokenizerModel::Dvae(d) => d.vocab,
            TokenizerModel::VqKd(v) => v.vocab,
        }
    }
    /// Changes the number of ids.
    pub fn set_vocab(&mut self, vocab: usize) {
        match self {
            TokenizerModel::Dvae(d) => d.vocab = vocab,
            TokenizerModel::VqKd(v) => v.vocab = vocab,
        }
    }
    /// The only grid of ids that it can give, if there is one: absolute positions have a size.
    pub fn fixed_grid(&self) -> Option<(usize, usize)> {
        match self {
            TokenizerModel::Dvae(_) => None,
            TokenizerModel::VqKd(v) => Some(v.grid()),
        }
    }
    /// Checks the sizes.
    ///
    /// # Errors
    /// A config error that names the key.
    pub fn check(&self) -> Result<()> {
        match self {
            TokenizerModel::Dvae(d) => d.check(),
            TokenizerModel::VqKd(v) => v.check(),
        }
    }
    /// Checks that it can give a grid of ids.
    ///
    /// # Errors
    /// If its positions belong to another one.
    pub fn check_grid(&self, grid: (usize, usize)) -> Result<()> {
        match self.fixed_grid() {
            Some(own) if own != grid => Err(Error::config("the tokenizer's grid is another")
                .expected(format!("{} x {} cells", grid.0, grid.1))
                .got(format!("{} x {}, and a VQ-KD tokenizer has no other", own.0, own.1))
                .hint("choose the picture side for which both have the same grid")),
            _ => Ok(()),
        }
    }
    /// The sizes of a discrete VAE.
    ///
    /// # Errors
    /// If it is another kind of tokenizer.
    pub fn dvae(&self) -> Result<&DvaeConfig> {
        match self {
            TokenizerModel::Dvae(d) => Ok(d),
            TokenizerModel::VqKd(_) => Err(Error::checkpoint("another kind of tokenizer")
                .expected("a dVAE, which is trained on pictures alone")
                .got("a VQ-KD tokenizer")
                .hint("train it with `beit tokenizer train --network vq-kd --teacher RUN_OR_FILE`")),
        }
    }
    /// Ids `[B,h,w]` of mapped images `[B,H,W,3]` (values in 0.1..0.9).
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn ids(&self, g: &mut Graph, image: Var) -> Result<Var> {
        match self {
            TokenizerModel::Dvae(d) => {
                let logits = dvae::encoder(g, d, image)?;
                argmax(g, logits)
            }
            TokenizerModel::VqKd(v) => {
                let z = vq_kd::vectors(g, v, image)?;
                Ok(vq_kd::quantize(g, v, z)?.0)
            }
        }
    }
    /// Pictures of one-hot or mixed ids `[B,h,w,V]`: `[B,H,W,C]` with the channels of [`TokenizerModel::decoded_channels`].
    ///
    /// # Errors
    /// If the sizes do not fit, or the file has nothing to draw with.
    pub fn decoder(&self, g: &mut Graph, ids: Var) -> Result<Var> {
        match self {
            TokenizerModel::Dvae(d) => dvae::decoder(g, d, ids),
            TokenizerModel::VqKd(v) => vq_kd::picture(g, v, ids),
        }
    }
    /// Pictures of hard ids `[B,h,w]`.
    ///
    /// # Errors
    /// As [`TokenizerModel::decoder`].
    pub fn from_ids(&self, g: &mut Graph, ids: Var) -> Result<Var> {
        let hot = one_hot(g, ids, self.vocab())?;
        self.decoder(g, hot)
    }
    /// Channels of a decoded picture: μ and ln b of three colours, or their values in −1..1.
    pub fn decoded_channels(&self) -> usize {
        match self {
            TokenizerModel::Dvae(d) => d.decoded_channels(),
            TokenizerModel::VqKd(_) => 3,
        }
    }
    /// Whether ids can be shown as pictures.
    pub fn draws(&self) -> bool {
        !matches!(self, TokenizerModel::VqKd(v) if !v.mean_patches)
    }
    /// Draws every parameter once, for layouts and lists of shapes.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn whole(&self, g: &mut Graph) -> Result<()> {
        match self {
            TokenizerModel::Dvae(d) => {
                let image = g.input("image", &[1, d.stride(), d.stride(), 3])?;
                dvae::round_trip(g, d, image).map(drop)
            }
            TokenizerModel::VqKd(v) => {
                let image = g.input("image", &[1, v.image.0, v.image.1, 3])?;
                vq_kd::whole(g, v, image)
            }
        }
    }
}

#[derive(Serialize)]
struct Tagged<'a> {
    network: TokenizerNetwork,
    #[serde(flatten)]
    sizes: &'a VqKdConfig,
}

impl Serialize for TokenizerModel {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            TokenizerModel::Dvae(d) => d.serialize(serializer),
            TokenizerModel::VqKd(sizes) => {
                Tagged { network: TokenizerNetwork::VqKd, sizes }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for TokenizerModel {
    /// Files without a word about the network hold the released dVAE.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut keys = BTreeMap::<String, serde_json::Value>::deserialize(deserializer)?;
        let network = match keys.get("network") {
            Some(name) => serde_json::from_value(name.clone()).map_err(D::Error::custom)?,
            None => TokenizerNetwork::Openai,
        };
        let vq_kd = network == TokenizerNetwork::VqKd;
        if vq_kd {
            keys.remove("network");
        }
        let sizes = serde_json::Value::Object(keys.into_iter().collect());
        match vq_kd {
            true => serde_json::from_value(sizes).map(TokenizerModel::VqKd),
            false => serde_json::from_value(sizes).map(TokenizerModel::Dvae),
        }
        .map_err(D::Error::custom)
    }
}
