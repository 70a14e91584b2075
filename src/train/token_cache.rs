//! The ids of a fixed, seeded set of crops of every training picture, computed once (`pretrain --token-cache`).
//!
//! The frozen tokenizer costs more than the forward pass of a small transformer. With the cache its forward pass is not
//! part of a training step: each epoch takes the next of the crops, with the ids that were computed for it.

use super::events::Event;
use super::phase_tokenizer::Tokenizer;
use super::pretraining::Pretraining;
use super::run::Run;
use crate::config::RunConfig;
use crate::data::batches::cached_view_key;
use crate::data::ids::{self, Container, FORMAT, IdsFile, IdsKey, IdsWriter, Stand};
use crate::data::{Augment, Loader, LoaderOptions, Source, to_dvae_nhwc, token_view};
use crate::error::{Error, Result};
use crate::session::{Data, Session};
use crate::tasks::tokenizer::encode_plan;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// Views of a batch, about.
const BATCH: usize = 64;
/// Batches between two syncs of the files.
const SYNC: usize = 32;
/// Folder of the cache in a run folder.
const FOLDER: &str = "token-cache";

/// What the cached ids of a run depend on.
///
/// # Errors
/// As [`Tokenizer::hash`].
pub fn key(config: &RunConfig, tokenizer: &Tokenizer, source: &Arc<dyn Source>) -> Result<IdsKey> {
    let augmentation = serde_json::to_string(&config.augment).unwrap_or_default();
    Ok(IdsKey {
        format: FORMAT,
        container: Container::Npy,
        tokenizer: tokenizer.hash()?,
        vocab: config.tokenizer.vocab(),
        data: source.fingerprint(),
        pictures: source.len(),
        grid: config.model.grid(),
        cell: config.tokenizer.stride(),
        views: config.token_cache.views,
        augmentation,
        seed: config.seed,
    })
}

/// Looks at a shared cache before anything of a run is made.
///
/// # Errors
/// If it belongs to other weights, pictures, crops or another seed.
pub fn check_shared(config: &RunConfig, tokenizer: &Tokenizer, source: &Arc<dyn Source>) -> Result<()> {
    let (dir, views) = (&config.token_cache.dir, config.token_cache.views);
    if views == 0 || dir.is_empty() {
        return Ok(());
    }
    ids::stand(std::path::Path::new(dir), &key(config, tokenizer, source)?).map(drop)
}

/// Where the cache of a run lies.
fn folder(run: &Run<'_>, config: &RunConfig) -> PathBuf {
    match config.token_cache.dir.as_str() {
        "" => run.folder.dir().join(FOLDER),
        dir => PathBuf::from(dir),
    }
}

/// One batch of pictures on its way to ids.
struct Views {
    /// Mapped views `[pictures·views,H,W,3]`; unreadable pictures have none.
    views: Vec<f32>,
    /// For each picture its name, or why it could not be read.
    pictures: Vec<(String, Option<String>)>,
}

/// Opens the cache of a run, after making or completing it; `None` if the run was stopped meanwhile.
///
/// # Errors
/// If the cache is stale or damaged, or data, device or disk fail.
pub fn prepare(
    run: &mut Run<'_>,
    job: &Pretraining,
    tokenizer: &Tokenizer,
    session: &mut dyn Session,
) -> Result<Option<Arc<IdsFile>>> {
    let config = &job.config;
    let source = job.pictures.train.clone();
    let key = key(config, tokenizer, &source)?;
    let dir = folder(run, config);
    if ids::stand(&dir, &key)? != Stand::Finished && !make(run, job, tokenizer, session, &key, &dir)? {
        return Ok(None);
    }
    Ok(Some(Arc::new(IdsFile::open(&dir, &key)?)))
}

/// Makes the rest of the cache; false if the run was stopped before its end.
fn make(
    run: &mut Run<'_>,
    job: &Pretraining,
    tokenizer: &Tokenizer,
    session: &mut dyn Session,
    key: &IdsKey,
    dir: &std::path::Path,
) -> Result<bool> {
    let (config, source) = (&job.config, job.pictures.train.clone());
    let per_batch = (BATCH / key.views).max(1);
    let rows = per_batch * key.views;
    let plan = encode_plan(&config.tokenizer, &tokenizer.layout, config.token_side(), rows, &session.caps())?;
    let plan = session.load(Arc::new(plan))?;
    let mut writer = IdsWriter::open(dir, key)?;
    run.tell(Event::Note(format!(
        "token cache: {} views of {} pictures, {} done already, in {}",
        key.views,
        key.pictures,
        writer.pictures(),
        dir.display()
    )));
    // Whole batches are synced, so a cache goes on at a batch.
    let first = (writer.pictures() / per_batch) as u64;
    let end = source.len().div_ceil(per_batch) as u64;
    let augment = config.views(true).augment.unwrap_or_else(Augment::off);
    let (views, seed, side) = (key.views, config.seed, config.token_side().0);
    let token = config.views(true).token();
    let maker = {
        let source = source.clone();
        move |b: u64| {
            let from = b as usize * per_batch;
            let mut out = Views { views: vec![], pictures: vec![] };
            for picture in from..(from + per_batch).min(source.len()) {
                let loaded = source.load(picture);
                if let Ok(sample) = &loaded {
                    for view in 0..views {
                        let key = cached_view_key(seed, picture, views, view);
                        out.views.extend(to_dvae_nhwc(&token_view(&sample.picture, &augment, key, token)));
                    }
                }
                out.pictures.push((source.name(picture), loaded.err().map(|e| e.to_string())));
            }
            out
        }
    };
    let mut loader = Loader::new(LoaderOptions::new(run.workers, first, end), Arc::new(maker))?;
    let (mut pending, mut lines, mut batches) = (Vec::new(), Vec::<Value>::new(), 0);
    while let Some(batch) = loader.next() {
        let Views { views: mut pixels, pictures } = batch?;
        let own = pixels.len() / (3 * side * side);
        pixels.resize(rows * 3 * side * side, 0.5);
        session.write(plan, "image", Data::F32(&pixels))?;
        session.run(plan)?;
        let found = session.read(plan, "ids")?.u32();
        let mut row = writer.rows() + pending.len() / key.row();
        pending.extend(&found[..own * key.row() / key.views]);
        for (name, error) in pictures {
            let picture = writer.pictures() + lines.len();
            lines.push(match error {
                Some(error) => json!({"picture": picture, "name": name, "error": error}),
                None => {
                    row += 1;
                    json!({"picture": picture, "name": name, "row": row - 1})
                }
            });
        }
        batches += 1;
        if batches % SYNC == 0 {
            writer.append(&pending, &lines)?;
            (pending, lines) = (vec![], vec![]);
            if run.should_stop() {
                return Ok(false);
            }
        }
    }
    writer.append(&pending, &lines)?;
    if writer.rows() == 0 {
        return Err(Error::data("none of the training pictures can be read").at(config.data.clone()));
    }
    writer.finish()?;
    Ok(true)
}
