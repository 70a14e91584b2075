//! What a method makes of a run: its own settings, its changes to the recipe, and the run in the terms of what trains it.

use super::{COLOURS, ColourConfig, DinoConfig, METHODS, Method, MocoConfig, ViewColours};
use crate::config::{ClassifyConfig, LabelledAugment, RunConfig};
use crate::data::{CropSpec, ViewSpec};
use crate::error::{Error, Result};
use crate::models::dino::DinoHeadConfig;
use crate::models::moco::MocoHeadConfig;
use crate::tasks::classify::ClassifyRecipe;

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
                precision: t.precision,
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
}
