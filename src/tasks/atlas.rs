//! What single ids decode to: each one in the middle of a field in which every id is equally likely.

use crate::data::{Crop, Picture};
use crate::error::Result;
use crate::graph::{Graph, PageKind, ParamLayout};
use crate::models::TokenizerModel;
use crate::models::mim::TOKENIZER;
use crate::ops::Caps;
use crate::pictures::cells::of_decoded;
use crate::plan::{CompileOptions, Plan, compile};
use crate::session::{Data, HostData, PlanId, Session, Ticket};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Cells on a side of the field around an id: far enough that the zeros beyond the edge do not reach the middle of
/// small decoders.
const FIELD: usize = 5;
/// Bytes of a batch of fields.
const BATCH_BYTES: usize = 16 << 20;

/// A loaded plan that decodes ids one by one.
#[derive(Debug, Clone)]
pub struct Atlas {
    plan: PlanId,
    config: TokenizerModel,
    batch: usize,
}

/// Decoding of some ids under way.
#[derive(Debug)]
pub struct AtlasJob {
    atlas: Atlas,
    ids: Vec<u32>,
    waiting: Option<Ticket>,
    done: Vec<Picture>,
}

impl Atlas {
    /// Compiles the plan for up to `most` ids at a time.
    ///
    /// # Errors
    /// If the sizes do not fit.
    pub fn plan(
        cfg: &TokenizerModel,
        layout: &ParamLayout,
        caps: &Caps,
        weights: PageKind,
        most: usize,
    ) -> Result<(Plan, usize)> {
        let batch = (BATCH_BYTES / (4 * FIELD * FIELD * cfg.vocab())).clamp(1, 32).min(most.max(1));
        let mut g = Graph::new();
        g.in_store(TOKENIZER, |g| {
            let soft = g.input("soft", &[batch, FIELD, FIELD, cfg.vocab()])?;
            let decoded = cfg.decoder(g, soft)?;
            g.output("decoded", decoded);
            Ok(())
        })?;
        let options = CompileOptions {
            read_from: BTreeMap::from([(TOKENIZER.to_string(), weights)]),
            ..CompileOptions::default()
        };
        Ok((compile("codebook atlas", &g, &[layout], caps, &options)?, batch))
    }

    /// Loads the plan; the session must hold the tokenizer's store.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn load(
        session: &mut dyn Session,
        cfg: &TokenizerModel,
        layout: &ParamLayout,
        weights: PageKind,
        most: usize,
    ) -> Result<Atlas> {
        let (plan, batch) = Atlas::plan(cfg, layout, &session.caps(), weights, most)?;
        Ok(Atlas { plan: session.load(Arc::new(plan))?, config: cfg.clone(), batch })
    }

    /// Ids that one run decodes.
    pub fn batch(&self) -> usize {
        self.batch
    }
    /// Plan and output of decoded fields `[batch,s,s,C]`; the cell of an id is the middle one.
    pub fn decoded(&self) -> (PlanId, &'static str) {
        (self.plan, "decoded")
    }
    /// First row and column of the middle cell in a field, its side, and the side of a field, in pixels.
    pub fn cell(&self) -> (usize, usize, usize) {
        let cell = self.config.stride();
        (FIELD / 2 * cell, cell, FIELD * cell)
    }

    /// Decodes the first [`Atlas::batch`] of these ids; the fields are then in the output of [`Atlas::decoded`].
    ///
    /// # Errors
    /// If the device refuses.
    pub fn run(&self, session: &mut dyn Session, ids: &[u32]) -> Result<()> {
        session.write(self.plan, "soft", Data::F32(&self.fields(ids)))?;
        session.run(self.plan)
    }

    /// Fields `[batch,FIELD,FIELD,V]` around ids.
    fn fields(&self, ids: &[u32]) -> Vec<f32> {
        let v = self.config.vocab();
        let mut soft = vec![1.0 / v as f32; self.batch * FIELD * FIELD * v];
        for (field, &id) in soft.chunks_mut(FIELD * FIELD * v).zip(ids) {
            let middle = &mut field[FIELD * FIELD / 2 * v..][..v];
            middle.fill(0.0);
            middle[(id as usize).min(v - 1)] = 1.0;
        }
        soft
    }

    /// Prepares the decoding of some ids; nothing runs yet.
    pub fn start(&self, ids: &[u32]) -> AtlasJob {
        AtlasJob { atlas: self.clone(), ids: ids.to_vec(), waiting: None, done: vec![] }
    }

    /// Decodes ids and waits; one picture of a cell's size each.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn pictures(&self, session: &mut dyn Session, ids: &[u32]) -> Result<Vec<Picture>> {
        let mut job = self.start(ids);
        loop {
            if let Some(all) = job.advance(session, true)? {
                return Ok(all);
            }
        }
    }
}

impl AtlasJob {
    /// Goes on as far as it can. `None` means: not ready, call again. In the end one picture of each id, in order.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn advance(&mut self, session: &mut dyn Session, wait: bool) -> Result<Option<Vec<Picture>>> {
        if let Some(ticket) = self.waiting {
            let Some(read) = session.take(ticket, wait)? else { return Ok(None) };
            self.waiting = None;
            self.arrived(read);
        }
        if self.done.len() >= self.ids.len() {
            return Ok(Some(std::mem::take(&mut self.done)));
        }
        self.atlas.run(session, &self.ids[self.done.len()..])?;
        self.waiting = Some(session.fetch(self.atlas.plan, &["decoded"])?);
        Ok(None)
    }

    fn arrived(&mut self, read: Vec<HostData>) {
        let values = read.into_iter().next().map(HostData::f32).unwrap_or_default();
        let (first, cell, side) = self.atlas.cell();
        let crop = Crop { left: first, top: first, width: cell, height: cell };
        let left = self.ids.len() - self.done.len();
        let pictures = values.chunks(values.len() / self.atlas.batch).take(left);
        self.done.extend(pictures.map(|field| of_decoded(field, (side, side)).cut(crop)));
    }
}
