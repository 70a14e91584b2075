//! What the commands on frozen features share: flags, the model, features of both parts of the data.

use super::launch::workers;
use crate::config::DataChoice;
use crate::data::{Samples, Source, check_classes, few_per_class, with_classes};
use crate::device::Device;
use crate::error::Result;
use crate::inference::{FeatureSet, LoadedBackbone};
use crate::interop::{self, Want};
use crate::train::Pictures;
use std::path::PathBuf;
use std::sync::Arc;

/// Flags about the model and the pictures.
#[derive(clap::Args, Debug, Clone)]
pub struct FrozenFlags {
    /// A transformer: a run or checkpoint folder, or a file of any known library
    #[arg(long, value_name = "RUN_OR_FILE")]
    pub model: PathBuf,
    /// Pictures: a folder, tar shards, CIFAR files, `synthetic`
    #[arg(long, visible_alias = "data-path", value_name = "DIR|FILE|synthetic")]
    pub data: String,
    /// Held-out pictures [default: the part that the data names, or a tenth]
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    pub val: String,
    /// Use so many labelled pictures of each class only
    #[arg(long, value_name = "N")]
    pub labels_per_class: Option<usize>,
    /// Pictures of this side instead of the model's
    #[arg(long, visible_alias = "input-size", value_name = "N")]
    pub image_size: Option<usize>,
    /// Share of the short side that is kept [default: the model's]
    #[arg(long, value_name = "X", default_value_t = 0.0, hide_default_value = true)]
    pub crop_pct: f64,
    /// Pictures per batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_size: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Part of an adapter's name, or `cpu` [default: a real GPU, else cpu]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

/// Features of training and held-out pictures.
pub struct Frozen {
    /// Of training pictures.
    pub train: FeatureSet,
    /// Of held-out pictures, with the same class numbers.
    pub test: FeatureSet,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Where they were computed.
    pub device: Device,
}

impl FrozenFlags {
    /// Opens the pictures.
    ///
    /// # Errors
    /// If there are none.
    pub fn pictures(&self) -> Result<Pictures> {
        let choice = DataChoice { data: &self.data, val: &self.val, val_share: 0.1, seed: self.seed };
        Pictures::open(&choice)
    }

    /// Loads the model.
    ///
    /// # Errors
    /// If it is none, or does not fit.
    pub fn backbone(&self, device: &Device) -> Result<LoadedBackbone> {
        let model = interop::open(&self.model, Want::Vit)?;
        let session = device.session()?;
        LoadedBackbone::new(session, &model, self.batch_size as usize, self.image_size, self.crop_pct)
    }

    /// Features of a source.
    ///
    /// # Errors
    /// If data or device fail.
    pub fn features(
        &self,
        backbone: &mut LoadedBackbone,
        source: Arc<dyn Source>,
        pictures: &Pictures,
    ) -> Result<FeatureSet> {
        backbone.features(Samples::in_order(source, self.seed, pictures.bad.clone())?, workers())
    }

    /// Features of both parts of labelled data.
    ///
    /// # Errors
    /// If the data cannot be classified, or data or device fail.
    pub fn labelled(&self) -> Result<Frozen> {
        let mut pictures = self.pictures()?;
        check_classes(pictures.train.as_ref(), &self.data)?;
        let classes = pictures.train.classes().to_vec();
        let held_out = if self.val.is_empty() { &self.data } else { &self.val };
        let (val, note) = with_classes(pictures.val.clone(), &classes, held_out)?;
        pictures.warnings.iter().chain(&note).for_each(|note| eprintln!("warning: {note}"));
        if let Some(n) = self.labels_per_class {
            pictures.train = few_per_class(pictures.train.clone(), n, self.seed)?;
        }
        let device = Device::choose(self.adapter.as_deref())?.device;
        let mut backbone = self.backbone(&device)?;
        let train = self.features(&mut backbone, pictures.train.clone(), &pictures)?;
        let test = self.features(&mut backbone, val, &pictures)?;
        pictures.unreadable().iter().for_each(|text| eprintln!("warning: {text}"));
        Ok(Frozen { train, test, classes, device })
    }
}
