//! What a transformer is pre-trained to do: the method of the report, and the baselines beside it (beit-spec §8).

use super::{ClassifyConfig, LabelledAugment, RunConfig, TaskConfig, wrong};
use crate::data::{CropSpec, ViewSpec};
use crate::error::{Error, Result};
use crate::models::dino::DinoHeadConfig;
use crate::models::moco::MocoHeadConfig;
use crate::tasks::classify::ClassifyRecipe;
use serde::{Deserialize, Serialize};

/// Classes of the mean colour of a patch: 3 bits a channel.
pub const COLOURS: usize = 512;

/// A method of pre-training with the settings that are its own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Method {
    /// Visual tokens of masked patches.
    #[default]
    Beit,
    /// Pixels of masked patches (the ablation of beit-spec §9.2).
    Pixels,
    /// Mean colour of corrupted patches (beit-spec §8.4).
    MaskedPatchColour(ColourConfig),
    /// Labels (beit-spec §8.1).
    Supervised(LabelledAugment),
    /// Self-distillation with several crops (beit-spec §8.2).
    Dino(DinoConfig),
    /// Momentum contrast (beit-spec §8.3).
    MocoV3(MocoConfig),
}

/// Masked patch prediction of the ViT paper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ColourConfig {
    /// Share of the patches that is corrupted and predicted, chosen uniformly.
    pub corrupted: f64,
    /// Share of those that becomes the mask token.
    pub masked: f64,
    /// Share of those that becomes another patch of the picture; the rest stays as it is.
    pub swapped: f64,
}

impl Default for ColourConfig {
    fn default() -> Self {
        ColourConfig { corrupted: 0.5, masked: 0.8, swapped: 0.1 }
    }
}

/// Random changes of the colours of a view; probabilities are those of each view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ViewColours {
    /// Strengths of jitter of brightness, contrast, saturation and hue (a share of the circle).
    pub jitter: (f32, f32, f32, f32),
    /// Probability of jitter.
    pub jitter_prob: f64,
    /// Probability of grey.
    pub grey_prob: f64,
}

impl Default for ViewColours {
    fn default() -> Self {
        ViewColours { jitter: (0.4, 0.4, 0.2, 0.1), jitter_prob: 0.8, grey_prob: 0.2 }
    }
}

/// Self-distillation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DinoConfig {
    /// Local crops of each picture, beside two global ones.
    pub local_crops: usize,
    /// Side of a local crop in pixels, a multiple of the patch side.
    pub local_side: usize,
    /// Smallest and largest share of the area of a global crop.
    pub global_scale: (f64, f64),
    /// The same of a local crop.
    pub local_scale: (f64, f64),
    /// Temperature of the student.
    pub student_temp: f64,
    /// Temperature of the teacher at the start.
    pub teacher_temp_start: f64,
    /// Temperature of the teacher after its warm-up.
    pub teacher_temp: f64,
    /// Share of the updates over which it rises.
    pub teacher_temp_warmup: f64,
    /// Share of the teacher's old weights in the new ones at the start; it rises to 1 along a cosine.
    pub momentum: f64,
    /// Share of the old centre in the new one.
    pub center_momentum: f64,
    /// Weight decay at the end; it goes there from the recipe's along a cosine.
    pub weight_decay_end: f64,
    /// Share of the updates in which the last layer of the head stays as it is.
    pub freeze_last_layer: f64,
    /// Sizes of the head.
    pub head: DinoHeadConfig,
    /// Colours of the views.
    pub colours: ViewColours,
}

/// Momentum contrast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MocoConfig {
    /// Smallest and largest share of the area of a crop.
    pub scale: (f64, f64),
    /// Temperature of the contrast.
    pub temperature: f64,
    /// Share of the momentum encoder's old weights in the new ones at the start; it rises to 1 along a cosine.
    pub momentum: f64,
    /// Leave the random patch projection as it is.
    pub freeze_patch: bool,
    /// Sizes of projector and predictor.
    pub head: MocoHeadConfig,
    /// Colours of the views.
    pub colours: ViewColours,
}

/// Names of the methods, in the order of the tables.
pub const METHODS: [&str; 6] = ["beit", "supervised", "dino", "moco-v3", "masked-patch-colour", "pixels"];

impl Method {
    /// Name in flags and files.
    pub fn name(&self) -> &'static str {
        match self {
            Method::Beit => "beit",
            Method::Pixels => "pixels",
            Method::MaskedPatchColour(_) => "masked-patch-colour",
            Method::Supervised(_) => "supervised",
            Method::Dino(_) => "dino",
            Method::MocoV3(_) => "moco-v3",
        }
    }
    /// Whether it hides patches as the mask settings say.
    pub fn masks(&self) -> bool {
        matches!(self, Method::Beit | Method::Pixels)
    }
    fn check(&self, c: &RunConfig) -> Result<()> {
        match self {
            Method::Beit | Method::Pixels => Ok(()),
            Method::Supervised(_) => TaskConfig::check(&c.on_labels()?),
            Method::MaskedPatchColour(m) => m.check(c),
            Method::Dino(m) => m.check(c),
            Method::MocoV3(m) => m.check(),
        }
    }
}

fn share(flag: &str, value: f64) -> Result<()> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(wrong(flag, "a share from 0 to 1", value)) }
}

fn temperature(flag: &str, value: f64) -> Result<()> {
    let fine = value > 0.0 && value.is_finite();
    if fine { Ok(()) } else { Err(wrong(flag, "a number above 0", value)) }
}

fn crop(flag: &str, (low, high): (f64, f64)) -> Result<()> {
    if low > 0.0 && low <= high && high <= 1.0 {
        return Ok(());
    }
    Err(wrong(flag, "a smallest share above 0, then a largest one up to 1", format!("{low} to {high}")))
}

impl ColourConfig {
    fn check(&self, c: &RunConfig) -> Result<()> {
        share("method.corrupted", self.corrupted)?;
        share("method.masked", self.masked)?;
        share("method.swapped", self.swapped)?;
        if self.masked + self.swapped > 1.0 {
            let got = self.masked + self.swapped;
            return Err(wrong("method.masked and method.swapped", "at most 1 together", got));
        }
        if self.count(c.model.patches()) == 0 {
            return Err(wrong("method.corrupted", "at least one patch of a picture", self.corrupted));
        }
        if c.model.vocab != COLOURS {
            return Err(wrong("model.vocab", "512: 3 bits a channel", c.model.vocab));
        }
        Ok(())
    }
    /// Corrupted patches of one picture of `patches`.
    pub fn count(&self, patches: usize) -> usize {
        (self.corrupted * patches as f64).round() as usize
    }
}

impl DinoConfig {
    fn check(&self, c: &RunConfig) -> Result<()> {
        let side = self.local_side;
        if side == 0 || !side.is_multiple_of(c.model.patch) || side > c.model.image.0 {
            let expected = format!("a multiple of {} up to {}", c.model.patch, c.model.image.0);
            return Err(wrong("method.local-side", expected, side));
        }
        if self.local_crops > 64 {
            return Err(wrong("method.local-crops", "0 to 64", self.local_crops));
        }
        crop("method.global-scale", self.global_scale)?;
        crop("method.local-scale", self.local_scale)?;
        temperature("method.student-temp", self.student_temp)?;
        temperature("method.teacher-temp-start", self.teacher_temp_start)?;
        temperature("method.teacher-temp", self.teacher_temp)?;
        share("method.teacher-temp-warmup", self.teacher_temp_warmup)?;
        share("method.momentum", self.momentum)?;
        share("method.center-momentum", self.center_momentum)?;
        share("method.freeze-last-layer", self.freeze_last_layer)?;
        if [self.head.hidden, self.head.bottleneck, self.head.out].contains(&0) {
            return Err(wrong("method.head", "sizes of at least 1", 0));
        }
        if !(self.weight_decay_end >= 0.0 && self.weight_decay_end.is_finite()) {
            return Err(wrong("method.weight-decay-end", "0 or a number above", self.weight_decay_end));
        }
        self.colours.check()
    }
}

impl MocoConfig {
    fn check(&self) -> Result<()> {
        crop("method.scale", self.scale)?;
        temperature("method.temperature", self.temperature)?;
        share("method.momentum", self.momentum)?;
        if [self.head.hidden, self.head.out].contains(&0) {
            return Err(wrong("method.head", "sizes of at least 1", 0));
        }
        self.colours.check()
    }
}

impl ViewColours {
    fn check(&self) -> Result<()> {
        share("method.colours.jitter-prob", self.jitter_prob)?;
        share("method.colours.grey-prob", self.grey_prob)?;
        let (b, c, s, h) = self.jitter;
        if ![b, c, s].iter().all(|v| (0.0..=1.0).contains(v)) || !(0.0..=0.5).contains(&h) {
            return Err(wrong(
                "method.colours.jitter",
                "three strengths up to 1 and a hue up to 0.5",
                format!("{:?}", self.jitter),
            ));
        }
        Ok(())
    }
}

impl RunConfig {
    /// The same run by another method: its own settings at their published values (smaller heads and quicker averages
    /// for the presets of minutes), and what the method wants of the recipe. Network, pictures, batch and number of
    /// updates stay.
    ///
    /// # Errors
    /// If there is no such method.
    pub fn with_method(mut self, name: &str) -> Result<RunConfig> {
        let small = matches!(self.preset.as_str(), "nano" | "micro");
        self.method = match name {
            "beit" => Method::Beit,
            "pixels" => Method::Pixels,
            "masked-patch-colour" => {
                self.model.vocab = COLOURS;
                Method::MaskedPatchColour(ColourConfig::default())
            }
            "supervised" => self.supervised()?,
            "dino" => self.dino(small),
            "moco-v3" => self.moco(small),
            _ => {
                return Err(Error::config("no such method")
                    .at("--method")
                    .expected(METHODS.join(", "))
                    .got(name.to_string()));
            }
        };
        Ok(self)
    }

    fn supervised(&mut self) -> Result<Method> {
        let labelled = ClassifyConfig::preset(&self.preset)?;
        let t = &mut self.training;
        t.betas = labelled.training.betas;
        if !matches!(self.preset.as_str(), "nano" | "micro") {
            // 5e-4 for every 512 pictures of a batch
            (t.lr, t.min_lr, t.clip) = (5e-4 * t.batch as f64 / 512.0, 1e-5, 0.0);
        }
        Ok(Method::Supervised(labelled.augment))
    }

    fn dino(&mut self, small: bool) -> Method {
        let (patch, side) = (self.model.patch, self.model.image.0);
        let t = &mut self.training;
        (t.betas, t.weight_decay, t.clip) = ((0.9, 0.999), 0.04, 3.0);
        (t.lr, t.min_lr) = if small { (1e-3, 1e-5) } else { (5e-4 * t.batch as f64 / 256.0, 1e-6) };
        let head = DinoHeadConfig::default();
        Method::Dino(DinoConfig {
            local_crops: if small { 4 } else { 8 },
            // 96 of 224 pixels
            local_side: ((side * 3).div_ceil(7 * patch) * patch).min(side),
            global_scale: (0.4, 1.0),
            local_scale: (0.05, 0.4),
            student_temp: 0.1,
            teacher_temp_start: 0.04,
            teacher_temp: if small { 0.04 } else { 0.07 },
            teacher_temp_warmup: 0.3,
            momentum: if small { 0.99 } else { 0.996 },
            center_momentum: 0.9,
            weight_decay_end: 0.4,
            freeze_last_layer: 0.01,
            head: if small {
                DinoHeadConfig { hidden: 256, bottleneck: 64, out: 1024, ..head }
            } else {
                head
            },
            colours: ViewColours::default(),
        })
    }

    fn moco(&mut self, small: bool) -> Method {
        let t = &mut self.training;
        (t.betas, t.weight_decay, t.clip) = ((0.9, 0.999), 0.1, if small { 3.0 } else { 0.0 });
        (t.lr, t.min_lr) = if small { (1e-3, 1e-5) } else { (1.5e-4 * t.batch as f64 / 256.0, 0.0) };
        Method::MocoV3(MocoConfig {
            scale: (if small { 0.2 } else { 0.08 }, 1.0),
            temperature: 0.2,
            momentum: 0.99,
            freeze_patch: true,
            head: if small { MocoHeadConfig { hidden: 256, out: 64 } } else { MocoHeadConfig::default() },
            colours: ViewColours::default(),
        })
    }

    /// The views of each picture for methods that compare them; `--jitter 0`, `--no-flip` and `--no-crop` hold for them
    /// too.
    pub fn view_spec(&self) -> ViewSpec {
        let crop = |side, scale, blur, solarize| CropSpec { side, scale, blur, solarize };
        let side = self.model.image.0;
        let (mut crops, colours) = match &self.method {
            Method::Dino(m) => {
                let global = |blur, solarize| crop(side, m.global_scale, blur, solarize);
                let local = crop(m.local_side, m.local_scale, 0.5, 0.0);
                let crops = [global(1.0, 0.0), global(0.1, 0.2)].into_iter();
                (crops.chain(std::iter::repeat_n(local, m.local_crops)).collect(), m.colours.clone())
            }
            Method::MocoV3(m) => {
                (vec![crop(side, m.scale, 1.0, 0.0), crop(side, m.scale, 0.1, 0.2)], m.colours.clone())
            }
            _ => (vec![], ViewColours::default()),
        };
        let plain = self.augment.jitter == 0.0;
        if plain {
            crops.iter_mut().for_each(|c: &mut CropSpec| c.solarize = 0.0);
        }
        ViewSpec {
            crops,
            crop: self.augment.crop,
            flip: self.augment.flip,
            jitter: colours.jitter,
            jitter_prob: if plain { 0.0 } else { colours.jitter_prob },
            grey_prob: if plain { 0.0 } else { colours.grey_prob },
            normalization: self.normalization(),
        }
    }

    /// The run of supervised pre-training in the terms of the classifier's trainer: the same network, pictures and
    /// budget, from scratch.
    ///
    /// # Errors
    /// If the method is another.
    pub fn on_labels(&self) -> Result<ClassifyConfig> {
        let Method::Supervised(augment) = &self.method else {
            return Err(Error::config("not a method with labels").at("method").got(self.method.name()));
        };
        let (c, t) = (ClassifyConfig::preset("nano")?, &self.training);
        Ok(ClassifyConfig {
            preset: self.preset.clone(),
            seed: self.seed,
            data: self.data.clone(),
            val: self.val.clone(),
            val_share: self.val_share,
            val_images: self.val_images,
            model: self.model.clone(),
            training: ClassifyRecipe {
                steps: t.steps,
                batch: t.batch,
                accumulate: t.accumulate,
                recompute: t.recompute,
                lr: t.lr,
                min_lr: t.min_lr,
                warmup: t.warmup,
                layer_decay: 1.0,
                weight_decay: t.weight_decay,
                betas: t.betas,
                clip: t.clip,
                ema: 0.0,
            },
            augment: LabelledAugment {
                mean: self.normalization().mean,
                std: self.normalization().std,
                flip: augment.flip && self.augment.flip,
                crop: augment.crop && self.augment.crop,
                ..augment.clone()
            },
            schedule: self.schedule.clone(),
            ..c
        })
    }

    /// Checks what is the method's own.
    pub(super) fn check_method(&self) -> Result<()> {
        self.method.check(self)?;
        if self.method == Method::Beit {
            return Ok(());
        }
        if self.token_cache.views > 0 {
            return Err(wrong("token-cache", "0: only the method beit has tokens", self.token_cache.views));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PRESETS, from_toml, merge_file, preset, to_toml};

    #[test]
    fn every_method_of_every_preset_is_consistent_and_comes_back_from_its_file() {
        for name in PRESETS {
            for method in METHODS {
                let c = preset(name).unwrap().with_method(method).unwrap();
                c.check().unwrap();
                assert_eq!(c.method.name(), method);
                assert_eq!(from_toml::<RunConfig>(&to_toml(&c).unwrap(), "x").unwrap(), c, "{name} {method}");
            }
        }
        let e = preset("nano").unwrap().with_method("mae").unwrap_err().to_string();
        assert!(e.contains("masked-patch-colour") && e.contains("--method"), "{e}");
    }

    #[test]
    fn files_change_single_settings_and_mistakes_are_named() {
        let dino = preset("base").unwrap().with_method("dino").unwrap();
        let Method::Dino(d) = &dino.method else { panic!("dino") };
        assert_eq!((d.local_side, d.local_crops, d.head.out), (96, 8, 65_536));
        let merged = merge_file(&dino, "[method]\nlocal-crops = 2\n", "x").unwrap();
        assert!(matches!(merged.method, Method::Dino(DinoConfig { local_crops: 2, .. })));
        let e = merge_file(&dino, "[method]\nlocal-corps = 2\n", "x").unwrap_err().to_string();
        assert!(e.contains("local-corps"), "{e}");
        let mut odd = dino.clone();
        odd.method = Method::Dino(DinoConfig { local_side: 90, ..d.clone() });
        assert_eq!(odd.check().unwrap_err().at.as_deref(), Some("method.local-side"));
    }
}
