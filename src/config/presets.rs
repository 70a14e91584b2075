//! The presets: complete runs at six sizes (beit-spec §2.1, §3.5, §5.3).

use super::{AugmentConfig, Cadence, MaskChoice, MaskConfig, RunConfig};
use crate::error::{Error, Result};
use crate::models::{DvaeConfig, DvaeNetwork, RelPos, VitConfig};
use crate::ops::Precision;
use crate::tasks::pretrain::PretrainRecipe;
use crate::tasks::tokenizer::TokenizerRecipe;

/// Names of the presets, smallest first.
pub const PRESETS: [&str; 6] = ["nano", "micro", "tiny", "small", "base", "large"];

/// The preset of a name.
///
/// # Errors
/// If there is none; the message lists the names.
pub fn preset(name: &str) -> Result<RunConfig> {
    Ok(match name {
        "nano" => nano(),
        "micro" => micro(),
        "tiny" => paper_size(name, 192, 12, 3, 0.1, tokenizer(128)),
        "small" => paper_size(name, 384, 12, 6, 0.1, tokenizer(128)),
        "base" => paper_size(name, 768, 12, 12, 0.1, tokenizer(256)),
        "large" => paper_size(name, 1024, 24, 16, 1e-5, tokenizer(256)),
        _ => {
            return Err(Error::config("no such preset")
                .at("preset")
                .expected(PRESETS.join(", "))
                .got(name.to_string()));
        }
    })
}

/// The preset of a name with a discrete VAE of another network: the same cells, as many ids, and a recipe that suits it.
/// Nano has sizes and numbers of updates of its own for either, the others keep the proportions of the published forms.
///
/// # Errors
/// As [`preset`].
pub(super) fn preset_with(name: &str, network: DvaeNetwork) -> Result<RunConfig> {
    let mut c = preset(name)?;
    let own = c.tokenizer.dvae()?.clone();
    if own.network == network {
        return Ok(c);
    }
    if c.preset == "nano" {
        released_network(&mut c);
        return Ok(c);
    }
    c.tokenizer = own.in_network(network).into();
    c.tokenizer_training.beta = CUSTOM_BETA;
    Ok(c)
}

/// KL weight of the customised network where no run of the preset has found a better one: squared errors are smaller
/// numbers than likelihoods (beit-spec §3.6).
const CUSTOM_BETA: f64 = 0.3;
/// KL weight of the released network in runs of minutes to hours.
const RELEASED_BETA: f64 = 3.0;

fn vit(side: usize, patch: usize, width: usize, depth: usize, heads: usize, vocab: usize) -> VitConfig {
    VitConfig {
        image: (side, side),
        patch,
        width,
        depth,
        heads,
        mlp: 4 * width,
        vocab,
        layer_norm_eps: 1e-6,
        abs_pos: false,
        rel_pos: RelPos::Shared,
        layer_scale: 0.1,
        drop_path: 0.0,
    }
}

/// The released dVAE's depth at a width of `n_hid` (256 is the released one): 8 pixels a cell, 8192 ids.
fn tokenizer(n_hid: usize) -> DvaeConfig {
    DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid,
        n_init: n_hid / 2,
        groups: 4,
        blocks: 2,
        pools: 3,
        vocab: 8192,
    }
}

fn augment(jitter: f32, min_scale: f64) -> AugmentConfig {
    AugmentConfig { jitter, flip: true, crop: true, min_scale, imagenet_statistics: false }
}

/// 32-pixel pictures: minutes on two CPU cores.
fn nano() -> RunConfig {
    RunConfig {
        preset: "nano".into(),
        seed: 0,
        data: "synthetic".into(),
        val: String::new(),
        val_share: 0.05,
        val_images: 256,
        method: Default::default(),
        model: vit(32, 4, 64, 4, 2, 256),
        tokenizer: DvaeConfig {
            network: DvaeNetwork::Custom,
            n_hid: 32,
            n_init: 64,
            groups: 2,
            blocks: 1,
            pools: 2,
            vocab: 256,
        }
        .into(),
        tokenizer_training: TokenizerRecipe {
            steps: 1600,
            batch: 16,
            lr: 8e-3,
            min_lr: 6e-4,
            warmup: 0.05,
            beta: 0.15,
            beta_rise: 0.2,
            tau: 1.0 / 16.0,
            tau_fall: 0.5,
            straight_through: false,
            weight_decay: 1e-4,
            ema: 0.998,
            clip: 1.0,
            distillation: None,
        },
        training: PretrainRecipe {
            steps: 1300,
            batch: 64,
            accumulate: 1,
            recompute: false,
            lr: 3e-3,
            min_lr: 1e-5,
            warmup: 40,
            weight_decay: 0.05,
            betas: (0.9, 0.98),
            clip: 3.0,
            precision: Precision::F32,
        },
        mask: MaskConfig {
            num_mask_patches: 25,
            min_block: 4,
            kind: MaskChoice::Blockwise,
            predict_all: false,
        },
        // The built-in scenes are many and alike in scale; the tokenizer is measured on whole pictures.
        augment: augment(0.1, 0.6),
        token_cache: Default::default(),
        schedule: Cadence { log_every: 1, eval_every: 200, save_every: 200, keep: 2 },
    }
}

/// Nano with the network of the released tokenizer, which learns more slowly: it takes more of the same time.
fn released_network(c: &mut RunConfig) {
    c.tokenizer = DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: 32,
        n_init: 32,
        groups: 3,
        blocks: 1,
        pools: 2,
        vocab: 256,
    }
    .into();
    (c.tokenizer_training.beta, c.tokenizer_training.steps, c.training.steps) = (RELEASED_BETA, 2400, 800);
}

/// 64-pixel pictures, an 8×8 grid: an evening on two CPU cores, minutes on a GPU.
fn micro() -> RunConfig {
    let mut c = nano();
    c.preset = "micro".into();
    c.model = vit(64, 8, 128, 6, 4, 1024);
    c.tokenizer = DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: 64,
        n_init: 32,
        groups: 4,
        blocks: 1,
        pools: 3,
        vocab: 1024,
    }
    .into();
    c.tokenizer_training = TokenizerRecipe {
        steps: 4000,
        batch: 32,
        lr: 3e-3,
        min_lr: 3e-4,
        beta: RELEASED_BETA,
        ..c.tokenizer_training
    };
    c.training = PretrainRecipe { steps: 4000, batch: 128, lr: 2e-3, warmup: 200, ..c.training };
    c.augment = augment(0.4, 0.4);
    c.schedule = Cadence { log_every: 10, eval_every: 500, save_every: 500, keep: 2 };
    c
}

/// The published recipe at 224 pixels; the tokenizer's schedules scale with its number of updates.
fn paper_size(
    name: &str,
    width: usize,
    depth: usize,
    heads: usize,
    layer_scale: f32,
    tokenizer: DvaeConfig,
) -> RunConfig {
    let model =
        VitConfig { layer_scale, drop_path: 0.1, ..vit(224, 16, width, depth, heads, tokenizer.vocab) };
    RunConfig {
        preset: name.into(),
        val_images: 1024,
        model,
        tokenizer: tokenizer.into(),
        tokenizer_training: TokenizerRecipe {
            steps: 50_000,
            batch: 64,
            lr: 1e-3,
            min_lr: 1e-5,
            beta: 6.6,
            beta_rise: 0.05,
            tau_fall: 0.5,
            ema: 0.999,
            ..nano().tokenizer_training
        },
        training: PretrainRecipe {
            steps: 500_000,
            batch: 2048,
            accumulate: if width > 384 { 64 } else { 32 },
            recompute: width > 384,
            lr: 1.5e-3,
            min_lr: 1e-5,
            warmup: 6_250,
            weight_decay: 0.05,
            betas: (0.9, 0.999),
            clip: if depth > 12 { 1.0 } else { 3.0 },
            precision: Precision::F32,
        },
        mask: MaskConfig {
            num_mask_patches: 75,
            min_block: 16,
            kind: MaskChoice::Blockwise,
            predict_all: false,
        },
        augment: augment(0.4, 0.08),
        schedule: Cadence { log_every: 10, eval_every: 2_500, save_every: 2_500, keep: 2 },
        ..nano()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, ParamLayout};
    use crate::models::TokenizerNetwork;
    use crate::models::mim::{MimBatchShape, MimOptions, TOKENIZER, pretraining};
    use crate::tasks::pretrain::MODEL;

    fn parameters(c: &RunConfig, store: &str) -> usize {
        let mut g = Graph::new();
        let shape = MimBatchShape { images: 1, masked: c.mask_slots() };
        pretraining(&mut g, &c.model, &c.tokenizer, shape, MimOptions::default()).unwrap();
        ParamLayout::of(&g, store, 1 << 30).unwrap().parameters()
    }

    #[test]
    fn every_preset_is_consistent() {
        for name in PRESETS {
            let mut c = preset(name).unwrap();
            c.check().unwrap();
            let (side, own) = (c.token_side(), c.tokenizer.network());
            let networks = [TokenizerNetwork::Custom, TokenizerNetwork::Openai];
            for network in networks.into_iter().chain([TokenizerNetwork::VqKd, own]) {
                c.set_tokenizer_network(network).unwrap();
                c.check().unwrap();
                assert_eq!((c.tokenizer.network(), c.tokenizer.vocab()), (network, c.model.vocab), "{name}");
                assert!(network == TokenizerNetwork::VqKd || c.token_side() == side, "{name}");
                if network == TokenizerNetwork::Custom {
                    let custom = c.tokenizer.dvae().unwrap();
                    assert_eq!(custom.n_init, 2 * custom.n_hid, "{name}");
                }
                let written = crate::config::to_toml(&c).unwrap();
                assert_eq!(crate::config::from_toml::<RunConfig>(&written, "x").unwrap(), c, "{name}");
            }
            assert_eq!(c, preset(name).unwrap(), "back where it was");
        }
        assert!(preset("huge").unwrap_err().to_string().contains("nano, micro"));
    }

    /// What the released network of nano was when it was nano's only one: earlier results are made again by naming it.
    #[test]
    fn nano_keeps_its_released_network() {
        let mut c = preset("nano").unwrap();
        assert_eq!((c.tokenizer.network(), c.tokenizer_training.beta), (TokenizerNetwork::Custom, 0.15));
        c.set_tokenizer_network(TokenizerNetwork::Openai).unwrap();
        let d = c.tokenizer.dvae().unwrap();
        assert_eq!((d.n_hid, d.n_init, d.groups, d.blocks, d.pools, d.vocab), (32, 32, 3, 1, 2, 256));
        let updates = (c.tokenizer_training.steps, c.training.steps);
        assert_eq!((c.tokenizer_training.beta, updates), (3.0, (2400, 800)));
        let micro = preset("micro").unwrap();
        assert_eq!(
            (micro.tokenizer.network(), micro.tokenizer_training.beta),
            (TokenizerNetwork::Openai, 3.0)
        );
    }

    /// The exact counts of beit-spec §2.9 and §3.1.
    #[test]
    fn published_parameter_counts() {
        let plus = [("tiny", 7_072_340), ("small", 24_753_320), ("base", 91_965_776), ("large", 311_534_016)];
        let paper =
            [("tiny", 7_103_360), ("small", 24_815_360), ("base", 92_089_856), ("large", 311_674_880)];
        for (name, want) in plus {
            assert_eq!(parameters(&preset(name).unwrap(), MODEL), want, "{name}, plus flavour");
        }
        for (name, want) in paper {
            let mut c = preset(name).unwrap();
            (c.model.abs_pos, c.model.rel_pos, c.model.layer_scale) = (true, RelPos::None, 0.0);
            assert_eq!(parameters(&c, MODEL), want, "{name}, paper flavour");
        }
        assert_eq!(parameters(&preset("base").unwrap(), TOKENIZER), 53_786_240, "encoder");
        let mut g = Graph::new();
        let ids = g.input_words("ids", &[1, 14, 14]).unwrap();
        preset("base").unwrap().tokenizer.from_ids(&mut g, ids).unwrap();
        assert_eq!(ParamLayout::of(&g, "model", 1 << 30).unwrap().parameters(), 43_829_766, "decoder");
    }
}
