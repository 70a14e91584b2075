//! What both networks say of a picture: the transformer about every patch, the tokenizer about its ids. With several
//! rounds the transformer looks again at what it filled in.

use super::decoding::{Decoding, to_size};
use super::patches::{self, PatchReport};
use super::{AttentionMaps, Request, Viewer};
use crate::data::Picture;
use crate::data::normalize::push_normalized;
use crate::data::to_dvae_nhwc;
use crate::error::{Error, Result};
use crate::pictures::cells::of_decoded;
use crate::session::{Data, HostData, Session, Ticket};

/// What a look found; no pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The tokenizer's ids `[n]`.
    pub true_ids: Vec<u32>,
    /// Every patch, row-major; predictions for visible ones too. With several rounds also what they chose.
    pub patches: Vec<PatchReport>,
    /// Attention maps, if asked for.
    pub attention: Option<AttentionMaps>,
}

impl Looked {
    /// All ids `[n]`: the tokenizer's in visible patches, a choice in hidden ones.
    pub fn filled(&self, choice: impl Fn(&PatchReport) -> u32) -> Vec<u32> {
        self.patches.iter().map(|p| if p.masked { choice(p) } else { p.true_id }).collect()
    }
}

#[derive(Debug)]
enum Stage {
    Fresh,
    /// Logits (and attention) of the whole mask, ids of the tokenizer.
    Waiting {
        logits: Ticket,
        ids: Ticket,
        read: Option<Vec<HostData>>,
    },
    /// The filled-in patches of a round as pixels.
    Filling {
        decoded: Ticket,
    },
    /// Logits of the patches that are still hidden.
    Looking {
        logits: Ticket,
    },
    Done,
}

/// A look under way: never waits unless it is told to.
#[derive(Debug)]
pub struct LookJob {
    viewer: Viewer,
    request: Request,
    stage: Stage,
    /// Of the first pass, which is what figures and tables are about.
    found: Option<Looked>,
    /// Of the latest pass.
    latest: Vec<PatchReport>,
    decoding: Decoding,
}

impl LookJob {
    pub(super) fn new(viewer: Viewer, request: Request) -> Self {
        let decoding = Decoding::new(&request.mask, request.rounds);
        LookJob { viewer, request, stage: Stage::Fresh, found: None, latest: vec![], decoding }
    }
    /// What was asked for.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Goes on as far as it can. `None` means: not ready, call again (with `wait` it still may need several calls).
    ///
    /// # Errors
    /// If the device refuses or was lost; the look is then of no further use.
    pub fn advance(&mut self, session: &mut dyn Session, wait: bool) -> Result<Option<Looked>> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Fresh => self.run(session).map(|()| None),
            Stage::Waiting { logits, ids, read } => {
                let read = match read {
                    Some(read) => Some(read),
                    None => session.take(logits, wait)?,
                };
                let arrived = if read.is_some() { session.take(ids, wait)? } else { None };
                match (read, arrived) {
                    (Some(read), Some(ids)) => self.first(session, read, ids),
                    (read, _) => self.later(Stage::Waiting { logits, ids, read }),
                }
            }
            Stage::Filling { decoded } => match session.take(decoded, wait)? {
                Some(read) => self.look_again(session, read).map(|()| None),
                None => self.later(Stage::Filling { decoded }),
            },
            Stage::Looking { logits } => match session.take(logits, wait)? {
                Some(read) => {
                    let logits = read.into_iter().next().map(HostData::f32).unwrap_or_default();
                    let hidden = self.decoding.still_hidden();
                    let ids = self.found.as_ref().map_or(&[][..], |f| &f.true_ids);
                    self.latest = self.viewer.read_logits(&logits, ids, &hidden, 1);
                    self.decoding.choose(&self.latest);
                    self.next_round(session)
                }
                None => self.later(Stage::Looking { logits }),
            },
            Stage::Done => Err(Error::shape("the look was given away already")),
        }
    }

    fn later(&mut self, stage: Stage) -> Result<Option<Looked>> {
        self.stage = stage;
        Ok(None)
    }

    /// The first pass is there; with one round that is all.
    fn first(
        &mut self,
        session: &mut dyn Session,
        read: Vec<HostData>,
        ids: Vec<HostData>,
    ) -> Result<Option<Looked>> {
        let found = self.arrived(read, ids);
        if self.request.rounds == 1 {
            return Ok(Some(found));
        }
        self.latest = found.patches.clone();
        self.found = Some(found);
        self.decoding.choose(&self.latest);
        self.next_round(session)
    }

    /// Decodes what is filled in so far, for the next look; at the end, gives what was found.
    fn next_round(&mut self, session: &mut dyn Session) -> Result<Option<Looked>> {
        let Some(found) = &self.found else { return Err(Error::shape("a round before the first look")) };
        if !self.decoding.done() {
            let ids = self.decoding.ids(&found.true_ids, &self.latest);
            self.viewer.run_decode(session, &ids)?;
            return self.later(Stage::Filling { decoded: session.fetch(self.viewer.decode, &["decoded"])? });
        }
        let mut found = self.found.take();
        let patches = found.iter_mut().flat_map(|f| &mut f.patches);
        for (report, chosen) in patches.zip(&self.decoding.chosen) {
            report.iterated = chosen.map(|c| c.0);
            report.round = chosen.map(|c| c.1);
        }
        Ok(found)
    }

    fn look_again(&mut self, session: &mut dyn Session, read: Vec<HostData>) -> Result<()> {
        let decoded = decoded_picture(&self.request, read);
        let (grid, norm) = (self.viewer.grid(), self.viewer.normalization);
        let view = self.decoding.next_view(&self.request.patch_view, &decoded, grid, norm);
        self.viewer.run_forward(session, &view, &self.decoding.still_hidden())?;
        self.stage = Stage::Looking { logits: session.fetch(self.viewer.forward, &["logits"])? };
        Ok(())
    }

    fn run(&mut self, session: &mut dyn Session) -> Result<()> {
        let (viewer, request) = (&self.viewer, &self.request);
        let mut view = Vec::with_capacity(request.patch_view.rgb.len());
        push_normalized(&mut view, &request.patch_view, viewer.normalization);
        viewer.run_forward(session, &view, &request.mask)?;
        let mut names = vec!["logits".to_string()];
        if request.attention {
            names.extend((0..viewer.vit.depth).map(|i| format!("qkv.{i}")));
            names.extend((0..viewer.tables).map(|i| format!("table.{i}")));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let logits = session.fetch(viewer.forward, &names)?;
        session.write(viewer.encode, "image", Data::F32(&to_dvae_nhwc(&request.token_view)))?;
        session.run(viewer.encode)?;
        let ids = session.fetch(viewer.encode, &["ids"])?;
        self.stage = Stage::Waiting { logits, ids, read: None };
        Ok(())
    }

    fn arrived(&self, read: Vec<HostData>, ids: Vec<HostData>) -> Looked {
        let true_ids = ids.into_iter().next().map(HostData::u32).unwrap_or_default();
        let mut parts: Vec<Vec<f32>> = read.into_iter().map(HostData::f32).collect();
        let rest = parts.split_off(parts.len().min(1));
        let logits = parts.pop().unwrap_or_default();
        let request = &self.request;
        let mut patches = self.viewer.read_logits(&logits, &true_ids, &request.mask, request.top.max(5));
        if let Some(s) = request.sampling {
            let rows = logits.chunks_exact(self.viewer.vit.vocab).skip(1);
            for (p, (report, row)) in patches.iter_mut().zip(rows).enumerate() {
                report.sampled = Some(patches::sample(row, s.temperature, s.seed, p));
            }
        }
        let attention = request.attention.then(|| {
            let (qkv, tables) = rest.split_at(self.viewer.vit.depth.min(rest.len()));
            AttentionMaps::of(&self.viewer.vit, qkv, tables)
        });
        Looked { true_ids, patches, attention }
    }
}

/// What the decoder gave, at the size of the transformer's picture.
pub(super) fn decoded_picture(request: &Request, read: Vec<HostData>) -> Picture {
    let values = read.into_iter().next().map(HostData::f32).unwrap_or_default();
    let side = (request.token_view.height, request.token_view.width);
    to_size(&of_decoded(&values, side), &request.patch_view)
}

impl Viewer {
    /// Checks a request and prepares a look that reads no pixels; nothing runs yet.
    ///
    /// # Errors
    /// If picture, mask or settings cannot work.
    pub fn start_look(&self, request: Request) -> Result<LookJob> {
        self.check(&request)?;
        Ok(LookJob::new(self.clone(), request))
    }

    pub(super) fn run_forward(&self, session: &mut dyn Session, view: &[f32], mask: &[bool]) -> Result<()> {
        let words: Vec<u32> = mask.iter().map(|&m| u32::from(m)).collect();
        session.write(self.forward, "image", Data::F32(view))?;
        session.write(self.forward, "mask", Data::U32(&words))?;
        session.run(self.forward)
    }

    /// Decodes ids `[n]`; the pixels are then in the output of [`Viewer::decoded`].
    ///
    /// # Errors
    /// If the device refuses.
    pub fn run_decode(&self, session: &mut dyn Session, ids: &[u32]) -> Result<()> {
        session.write(self.decode, "ids", Data::U32(ids))?;
        session.run(self.decode)
    }

    /// Plan and output of decoded pixels `[1,h,w,C]`: three channels of means (beit-spec §3.3) and their scales.
    pub fn decoded(&self) -> (crate::session::PlanId, &'static str) {
        (self.decode, "decoded")
    }

    /// One report a patch from logits `[N,V]`, class token first.
    pub(super) fn read_logits(
        &self,
        logits: &[f32],
        true_ids: &[u32],
        mask: &[bool],
        top: usize,
    ) -> Vec<PatchReport> {
        let (v, columns) = (self.vit.vocab, self.grid().1);
        let rows = logits.chunks_exact(v).skip(1).zip(mask).zip(true_ids).enumerate();
        rows.map(|(p, ((row, &masked), &id))| {
            PatchReport::of(row, id.min(v as u32 - 1), top, masked, (p / columns, p % columns))
        })
        .collect()
    }
}
