//! Flags that change a run's config, shared by the commands that take one. Presets first, then the file, then flags.

use super::overrides::{any_given, from_preset, named, read_config, set};
use super::recipe_flags::{RecipeFlags, set_recipe};
use crate::config::{COLOURS, Method, RunConfig, merge_file, peek, preset};
use crate::error::{Error, Result};
use crate::models::{TokenizerModel, TokenizerNetwork};
use serde::Serialize;

/// Flags that change the config.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Settings {
    #[command(flatten)]
    pub recipe: RecipeFlags,
    /// Complete set of values to start from: nano, micro, tiny, small, base, large [default: nano]
    #[arg(long, visible_alias = "model", value_name = "NAME")]
    pub preset: Option<String>,
    /// What the transformer learns from: beit (visual tokens), pixels, masked-patch-colour, supervised (labels), dino,
    /// moco-v3 [default: beit]
    #[arg(long, value_name = "NAME")]
    pub method: Option<String>,
    /// Pictures: a folder, a tar file, CIFAR files, or `synthetic` [default: synthetic]
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic")]
    pub data: Option<String>,
    /// Held-out pictures: a folder [default: a share of the data]
    #[arg(long, value_name = "DIR")]
    pub val: Option<String>,
    /// Network of the tokenizer: openai, custom, vq-kd; sizes, recipe and numbers of updates follow [default: custom for
    /// nano, openai for the other presets]
    #[arg(long, value_name = "NAME", value_parser = network)]
    pub network: Option<TokenizerNetwork>,
    /// Updates of the tokenizer
    #[arg(long, value_name = "N")]
    pub tokenizer_steps: Option<u64>,
    /// Last learning rate of the transformer
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub min_lr: Option<f64>,
    /// Passes over which the learning rate rises
    #[arg(long, value_name = "N", conflicts_with = "warmup_steps")]
    pub warmup_epochs: Option<u64>,
    /// Initial LayerScale; 0 leaves it out
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub layer_scale_init_value: Option<f32>,
    /// Patches to mask, at most
    #[arg(long, value_name = "N")]
    pub num_mask_patches: Option<usize>,
    /// Smallest masked block, in patches
    #[arg(long, visible_alias = "min-mask-patches-per-block", value_name = "N")]
    pub min_mask_block: Option<usize>,
    /// Mask generator: blockwise, paper, random (uniform), or none with --predict-all
    #[arg(long, visible_alias = "masking", value_name = "NAME")]
    pub mask_kind: Option<String>,
    /// Predict all patches, not only the masked ones
    #[arg(long)]
    pub predict_all: bool,
    /// Side of the transformer's picture in pixels
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    pub image_size: Option<usize>,
    /// Strength of colour jitter; 0 = off
    #[arg(long, visible_alias = "color-jitter", value_name = "X")]
    pub jitter: Option<f32>,
    /// Do not crop at random
    #[arg(long)]
    pub no_crop: bool,
    /// Compute the ids of N fixed crops of each picture once, instead of ids of fresh crops in every step
    #[arg(long, value_name = "VIEWS")]
    pub token_cache: Option<usize>,
    /// Folder of the token cache, to share it between runs [default: in the run folder]
    #[arg(long, value_name = "DIR", requires = "token_cache")]
    pub token_cache_dir: Option<String>,
}

/// A tokenizer's network by its name.
pub fn network(name: &str) -> std::result::Result<TokenizerNetwork, String> {
    serde_json::from_value(name.into()).map_err(|_| "expected openai, custom or vq-kd".to_owned())
}

impl Settings {
    /// Whether any flag that changes training was given.
    pub fn given(&self) -> bool {
        let mut without = self.clone();
        without.recipe.save_every = None;
        any_given(&without)
    }

    /// The merged config; `--epochs` needs the number of pictures and is applied by [`Settings::apply_epochs`].
    ///
    /// # Errors
    /// If a file cannot be read or a value cannot work.
    pub fn merged(&self) -> Result<RunConfig> {
        let mut c = from_preset(self.preset.as_ref(), preset)?;
        let file = read_config(self.recipe.config.as_ref())?;
        // the method first: it decides what the keys of its own section are, and some values of others
        let named = file.as_ref().and_then(|(_, text)| peek::<String>(text, "method", "name"));
        agree("--method", named.as_ref(), self.method.as_ref())?;
        if let Some(method) = self.method.as_ref().or(named.as_ref()) {
            c = c.with_method(method)?;
        }
        // the same of the tokenizer's network
        let in_file = file.as_ref().and_then(|(_, text)| peek(text, "tokenizer", "network"));
        agree("--network", in_file.as_ref(), self.network.as_ref())?;
        if let Some(network) = self.network.or(in_file) {
            c.set_tokenizer_network(network)?;
        }
        if let Some((path, text)) = &file {
            c = merge_file(&c, text, &path.display().to_string())?;
        }
        if matches!(c.method, Method::MaskedPatchColour(_)) {
            // a vocabulary in the file is that of the tokens
            c.model.vocab = COLOURS;
        }
        let placed = file
            .as_ref()
            .is_some_and(|(_, text)| peek::<(usize, usize)>(text, "tokenizer", "image").is_some());
        self.apply(&mut c, !placed)?;
        Ok(c)
    }

    /// `follow`: a VQ-KD tokenizer has the picture and the patches of the transformer, as no file says otherwise.
    fn apply(&self, c: &mut RunConfig, follow: bool) -> Result<()> {
        set_recipe!(c, &self.recipe);
        set(&mut c.data, &self.data);
        set(&mut c.val, &self.val);
        set(&mut c.tokenizer_training.steps, &self.tokenizer_steps);
        set(&mut c.training.min_lr, &self.min_lr);
        set(&mut c.model.layer_scale, &self.layer_scale_init_value);
        set(&mut c.mask.num_mask_patches, &self.num_mask_patches);
        set(&mut c.mask.min_block, &self.min_mask_block);
        set(&mut c.augment.jitter, &self.jitter);
        set(&mut c.token_cache.views, &self.token_cache);
        set(&mut c.token_cache.dir, &self.token_cache_dir);
        c.augment.crop &= !self.no_crop;
        c.mask.predict_all |= self.predict_all;
        if let Some(side) = self.image_size {
            c.model.image = (side, side);
        }
        if let TokenizerModel::VqKd(v) = &mut c.tokenizer
            && follow
        {
            (v.image, v.patch) = (c.model.image, c.model.patch);
        }
        named(&mut c.mask.kind, &self.mask_kind, "--mask-kind", "blockwise, paper, random, none")?;
        if self.recipe.steps.is_some() {
            self.recipe.shorten_warmup(&mut c.training.warmup, c.training.steps, 10);
        }
        c.check()
    }

    /// Turns `--epochs` and `--warmup-epochs` into updates.
    ///
    /// # Errors
    /// If the result is 0 updates.
    pub fn apply_epochs(&self, c: &mut RunConfig, pictures: usize) -> Result<()> {
        let per_epoch = (pictures as u64).div_ceil(c.training.batch as u64).max(1);
        if let Some(epochs) = self.recipe.epochs {
            c.training.steps = epochs.saturating_mul(per_epoch);
            c.training.warmup = c.training.warmup.min(c.training.steps / 10);
        }
        if let Some(epochs) = self.warmup_epochs {
            c.training.warmup = epochs.saturating_mul(per_epoch);
        }
        c.check()
    }
}

/// Refuses a flag that says something else than the file, where the file's other keys belong to what it says.
fn agree<T: PartialEq + Serialize>(flag: &str, file: Option<&T>, asked: Option<&T>) -> Result<()> {
    let (Some(file), Some(asked)) = (file, asked) else { return Ok(()) };
    if file == asked {
        return Ok(());
    }
    let name =
        |v: &T| serde_json::to_value(v).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let e = Error::config("flag and config file differ").at(flag);
    Err(e.expected(format!("{}, as the file says", name(file))).got(name(asked)))
}
