//! The teacher of a VQ-KD tokenizer: a transformer from a run of ours or from a file of any known library, frozen.

use super::phase_vq_kd::recipe;
use super::stepper::page_bytes;
use crate::config::RunConfig;
use crate::data::Normalization;
use crate::error::{Error, Result};
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::interop::{self, ModelFile, Want};
use crate::io::checkpoint::sha256_hex;
use crate::io::tensors::{pt_metadata, write_safetensors};
use crate::models::vq_kd::{TeacherConfig, VqKdConfig, teacher_features};
use crate::models::{TokenizerModel, VitConfig};
use crate::ops::Caps;
use crate::session::Session;
use crate::tasks::vq_kd::TEACHER;
use std::path::Path;

/// A teacher on the host.
pub struct Teacher {
    /// Sizes, and which norm stands behind its last block.
    pub config: TeacherConfig,
    /// Scaling of its input.
    pub normalization: Normalization,
    file: ModelFile,
}

impl Teacher {
    /// Opens a run folder, a checkpoint folder or a weights file.
    ///
    /// # Errors
    /// If none is named, nothing there is a transformer, or its pictures are oblong.
    pub fn open(path: &str) -> Result<Teacher> {
        if path.is_empty() {
            return Err(Error::config("a VQ-KD tokenizer needs a teacher")
                .at("--teacher, or teacher under [tokenizer-training.distillation]")
                .expected("a run folder, a checkpoint or a weights file of a transformer")
                .got("none")
                .hint("`beit pretrain --method dino` trains one"));
        }
        let file = interop::open(Path::new(path), Want::Vit).map_err(|e| match e.hint {
            Some(_) => e,
            None => e.hint(format!("the teacher of the tokenizer was to be {path}")),
        })?;
        let vit = VitConfig { drop_path: 0.0, ..file.vit()?.clone() };
        if vit.image.0 != vit.image.1 {
            return Err(Error::config("a teacher of oblong pictures")
                .at(path.to_string())
                .expected("a square picture")
                .got(format!("{} x {}", vit.image.0, vit.image.1)));
        }
        let norm =
            ["norm", "fc_norm"].into_iter().find(|name| file.tensors.contains_key(&format!("{name}.weight")));
        let prepare = &file.preprocessing;
        let normalization = Normalization {
            mean: prepare.image_mean.map(|v| v as f32),
            std: prepare.image_std.map(|v| v as f32),
        };
        Ok(Teacher { config: TeacherConfig { vit, norm }, normalization, file })
    }

    /// The teacher of a config whose tokenizer has one, and checks that it fits; `fresh` makes the tokenizer's decoder as wide
    /// at its end as the teacher's features.
    ///
    /// # Errors
    /// As [`Teacher::open`] and [`Teacher::check`].
    pub fn of(config: &mut RunConfig, fresh: bool) -> Result<Option<Teacher>> {
        let TokenizerModel::VqKd(sizes) = &mut config.tokenizer else { return Ok(None) };
        let teacher = Teacher::open(&recipe(&config.tokenizer_training)?.teacher)?;
        if fresh {
            sizes.target = teacher.config.vit.width;
        }
        teacher.check(sizes)?;
        Ok(Some(teacher))
    }

    /// Checks that a tokenizer was made for this teacher.
    ///
    /// # Errors
    /// If the grids differ, or the width of the features.
    pub fn check(&self, tokenizer: &VqKdConfig) -> Result<()> {
        let (own, grid) = (self.config.vit.grid(), tokenizer.grid());
        let at = || self.file.path.display().to_string();
        if own != grid {
            return Err(Error::config("the teacher's grid is another than the tokenizer's")
                .at(at())
                .expected(format!("{} x {} patches", grid.0, grid.1))
                .got(format!("{} x {}", own.0, own.1))
                .hint(format!(
                    "--size {} gives the tokenizer the teacher's grid; a --preset with larger patches may fit better",
                    own.0 * tokenizer.patch
                )));
        }
        if self.config.vit.width != tokenizer.target {
            return Err(Error::config("another teacher than the tokenizer was made for")
                .at(at())
                .expected(format!("features of width {}", tokenizer.target))
                .got(self.config.vit.width.to_string()));
        }
        Ok(())
    }

    /// A hash of its weights: a run goes on with the same teacher only.
    pub fn hash(&self) -> String {
        sha256_hex(&write_safetensors(&self.file.tensors, &pt_metadata()))
    }

    /// Adds its store to a session.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn put(&self, session: &mut dyn Session) -> Result<ParamLayout> {
        let layout = self.layout(&session.caps())?;
        session.add_store(&layout, &[PageKind::Param])?;
        let mut pages: Vec<Vec<f32>> = layout.pages.iter().map(|&n| vec![0.0; n]).collect();
        for v in &layout.views {
            let Some(tensor) = self.file.tensors.get(&v.name) else { continue };
            pages[v.page][v.offset..v.offset + v.elements()].copy_from_slice(tensor.as_f32()?);
        }
        for (p, page) in pages.iter().enumerate() {
            session.write_page(TEACHER, PageKind::Param, p, page)?;
        }
        Ok(layout)
    }

    /// The layout of its store: what its features need.
    ///
    /// # Errors
    /// If a parameter does not fit the device.
    pub fn layout(&self, caps: &Caps) -> Result<ParamLayout> {
        let mut g = Graph::new();
        let side = self.config.vit.image;
        let image = g.input("teacher_view", &[1, side.0, side.1, 3])?;
        g.in_store(TEACHER, |g| teacher_features(g, &self.config, image))?;
        ParamLayout::of(&g, TEACHER, page_bytes(caps))
    }
}
