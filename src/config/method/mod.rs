//! What a transformer is pre-trained to do: the method of the report, and the baselines beside it (beit-spec §8).

mod recipes;

use super::{LabelledAugment, RunConfig, TaskConfig, wrong};
use crate::error::Result;
use crate::models::dino::DinoHeadConfig;
use crate::models::moco::MocoHeadConfig;
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
