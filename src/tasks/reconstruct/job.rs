//! A reconstruction under way: a chain of runs and read-backs that never waits unless it is told to.

use super::decoding::{Decoding, to_size};
use super::patches::{self, PatchReport};
use super::{AttentionMaps, Figures, Reconstruction, Request, Shown, Viewer};
use crate::data::{Picture, normalize::push_normalized, to_dvae_nhwc};
use crate::error::{Error, Result};
use crate::pictures::cells::{fill_in, hide, of_decoded};
use crate::session::{Data, HostData, Session, Ticket};

/// What the job waits for.
#[derive(Debug)]
enum Stage {
    /// Nothing has run yet.
    Fresh,
    /// Logits (and attention) of the whole mask, ids of the tokenizer.
    First { logits: Ticket, ids: Ticket, read: Option<Vec<HostData>> },
    /// The filled-in patches of a round as pixels.
    Filling { decoded: Ticket },
    /// Logits of the patches that are still hidden.
    Looking { logits: Ticket },
    /// The final pictures.
    Last { tickets: Vec<Ticket>, read: Vec<Picture> },
    /// Given away.
    Done,
}

/// See the module text.
#[derive(Debug)]
pub struct Job {
    viewer: Viewer,
    request: Request,
    stage: Stage,
    true_ids: Vec<u32>,
    /// Of the first pass, which is what figures and tables are about.
    reports: Vec<PatchReport>,
    /// Of the latest pass.
    latest: Vec<PatchReport>,
    decoding: Decoding,
    attention: Option<AttentionMaps>,
}

impl Job {
    pub(super) fn new(viewer: Viewer, request: Request) -> Self {
        let decoding = Decoding::new(&request.mask, request.rounds);
        Job {
            viewer,
            request,
            stage: Stage::Fresh,
            true_ids: vec![],
            reports: vec![],
            latest: vec![],
            decoding,
            attention: None,
        }
    }

    /// Goes on as far as it can. `None` means: not ready, call again (with `wait` it still may need several calls).
    ///
    /// # Errors
    /// If the device refuses or was lost; the job is then of no further use.
    pub fn advance(&mut self, session: &mut dyn Session, wait: bool) -> Result<Option<Reconstruction>> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Fresh => self.first_runs(session).map(|()| None),
            Stage::First { logits, ids, read } => {
                let read = match read {
                    Some(read) => Some(read),
                    None => session.take(logits, wait)?,
                };
                let arrived = if read.is_some() { session.take(ids, wait)? } else { None };
                match (read, arrived) {
                    (Some(read), Some(ids)) => self.first_arrived(session, read, ids).map(|()| None),
                    (read, _) => self.later(Stage::First { logits, ids, read }),
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
                    self.latest = self.read_logits(&logits, &hidden, 1);
                    self.decoding.choose(&self.latest);
                    self.next_round(session).map(|()| None)
                }
                None => self.later(Stage::Looking { logits }),
            },
            Stage::Last { tickets, mut read } => {
                while let Some(&ticket) = tickets.get(read.len()) {
                    let Some(data) = session.take(ticket, wait)? else {
                        return self.later(Stage::Last { tickets, read });
                    };
                    read.push(self.decoded_picture(data));
                }
                Ok(Some(self.assemble(read)))
            }
            Stage::Done => Err(Error::shape("the reconstruction was given away already")),
        }
    }

    fn later(&mut self, stage: Stage) -> Result<Option<Reconstruction>> {
        self.stage = stage;
        Ok(None)
    }

    fn run_forward(&self, session: &mut dyn Session, view: &[f32], mask: &[bool]) -> Result<()> {
        let words: Vec<u32> = mask.iter().map(|&m| u32::from(m)).collect();
        session.write(self.viewer.forward, "image", Data::F32(view))?;
        session.write(self.viewer.forward, "mask", Data::U32(&words))?;
        session.run(self.viewer.forward)
    }

    fn run_decode(&self, session: &mut dyn Session, ids: &[u32]) -> Result<Ticket> {
        session.write(self.viewer.decode, "ids", Data::U32(ids))?;
        session.run(self.viewer.decode)?;
        session.fetch(self.viewer.decode, &["decoded"])
    }

    fn first_runs(&mut self, session: &mut dyn Session) -> Result<()> {
        let (viewer, request) = (&self.viewer, &self.request);
        let mut view = Vec::with_capacity(request.patch_view.rgb.len());
        push_normalized(&mut view, &request.patch_view, viewer.normalization);
        self.run_forward(session, &view, &request.mask)?;
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
        self.stage = Stage::First { logits, ids, read: None };
        Ok(())
    }

    fn first_arrived(
        &mut self,
        session: &mut dyn Session,
        read: Vec<HostData>,
        ids: Vec<HostData>,
    ) -> Result<()> {
        self.true_ids = ids.into_iter().next().map(HostData::u32).unwrap_or_default();
        let mut parts: Vec<Vec<f32>> = read.into_iter().map(HostData::f32).collect();
        let rest = parts.split_off(parts.len().min(1));
        let logits = parts.pop().unwrap_or_default();
        self.reports = self.read_logits(&logits, &self.request.mask, self.request.top.max(5));
        if let Some(s) = self.request.sampling {
            let (n, v) = (self.reports.len(), self.viewer.vit.vocab);
            for p in 0..n {
                let row = &logits[(p + 1) * v..(p + 2) * v];
                self.reports[p].sampled = Some(patches::sample(row, s.temperature, s.seed, p));
            }
        }
        if self.request.attention {
            let depth = self.viewer.vit.depth.min(rest.len());
            let (qkv, tables) = rest.split_at(depth);
            self.attention = Some(AttentionMaps::of(&self.viewer.vit, qkv, tables));
        }
        if self.request.rounds == 1 {
            return self.last_runs(session);
        }
        self.latest = self.reports.clone();
        self.decoding.choose(&self.latest);
        self.next_round(session)
    }

    /// One report a patch from logits `[N,V]`, class token first.
    fn read_logits(&self, logits: &[f32], mask: &[bool], top: usize) -> Vec<PatchReport> {
        let (v, columns) = (self.viewer.vit.vocab, self.viewer.grid().1);
        let rows = logits.chunks_exact(v).skip(1).zip(mask).zip(&self.true_ids).enumerate();
        rows.map(|(p, ((row, &masked), &id))| {
            PatchReport::of(row, id.min(v as u32 - 1), top, masked, (p / columns, p % columns))
        })
        .collect()
    }

    /// Decodes what is filled in so far, for the next look or for the end.
    fn next_round(&mut self, session: &mut dyn Session) -> Result<()> {
        if self.decoding.done() {
            return self.last_runs(session);
        }
        let ids = self.decoding.ids(&self.true_ids, &self.latest);
        self.stage = Stage::Filling { decoded: self.run_decode(session, &ids)? };
        Ok(())
    }

    fn look_again(&mut self, session: &mut dyn Session, read: Vec<HostData>) -> Result<()> {
        let decoded = self.decoded_picture(read);
        let (grid, norm) = (self.viewer.grid(), self.viewer.normalization);
        let view = self.decoding.next_view(&self.request.patch_view, &decoded, grid, norm);
        self.run_forward(session, &view, &self.decoding.still_hidden())?;
        self.stage = Stage::Looking { logits: session.fetch(self.viewer.forward, &["logits"])? };
        Ok(())
    }

    /// Ids with a choice in the hidden patches.
    fn filled_ids(&self, choice: impl Fn(usize) -> u32) -> Vec<u32> {
        let ids = self.true_ids.iter().zip(&self.request.mask).enumerate();
        ids.map(|(p, (&id, &m))| if m { choice(p) } else { id }).collect()
    }

    fn last_runs(&mut self, session: &mut dyn Session) -> Result<()> {
        let mut all = vec![self.filled_ids(|p| self.reports[p].predicted()), self.true_ids.clone()];
        if self.request.sampling.is_some() {
            all.push(self.filled_ids(|p| self.reports[p].sampled.unwrap_or(0)));
        }
        if self.request.rounds > 1 {
            all.push(self.filled_ids(|p| self.decoding.chosen[p].map_or(0, |c| c.0)));
        }
        let tickets = all.iter().map(|ids| self.run_decode(session, ids)).collect::<Result<_>>()?;
        self.stage = Stage::Last { tickets, read: vec![] };
        Ok(())
    }

    fn decoded_picture(&self, read: Vec<HostData>) -> Picture {
        let values = read.into_iter().next().map(HostData::f32).unwrap_or_default();
        let side = (self.request.token_view.height, self.request.token_view.width);
        to_size(&of_decoded(&values, side), &self.request.patch_view)
    }

    fn assemble(&mut self, decoded: Vec<Picture>) -> Reconstruction {
        let (request, grid) = (&self.request, self.viewer.grid());
        let original = request.patch_view.clone();
        let compose = |p: &Picture| fill_in(&original, p, &request.mask, grid);
        let mut decoded = decoded.into_iter();
        let tokens_only = decoded.next().unwrap_or_default();
        let ceiling = decoded.next().unwrap_or_default();
        let sampled = request.sampling.and_then(|_| decoded.next()).map(|p| compose(&p));
        let iterated = decoded.next().map(|p| compose(&p));
        let mut reports = std::mem::take(&mut self.reports);
        for (report, chosen) in reports.iter_mut().zip(&self.decoding.chosen) {
            report.iterated = chosen.map(|c| c.0);
            report.round = chosen.map(|c| c.1);
        }
        let shown = Shown {
            corrupted: hide(&original, &request.mask, grid),
            reconstructed: compose(&tokens_only),
            sampled,
            iterated,
            tokens_only,
            ceiling,
            original,
        };
        let figures = figures(&reports, &shown, &request.mask, grid);
        for report in &mut reports {
            report.top.truncate(request.top);
        }
        Reconstruction {
            grid,
            vocab: self.viewer.vit.vocab,
            mask: request.mask.clone(),
            shown,
            patches: reports,
            figures,
            attention: self.attention.take(),
        }
    }
}

/// Mean |a − b| over the hidden patches, pixels 0..1.
fn hidden_error(a: &Picture, b: &Picture, mask: &[bool], grid: (usize, usize)) -> f64 {
    // Both pictures agree outside of the hidden patches once those of `b` are put into `a`.
    let filled = fill_in(a, b, mask, grid);
    let sum: f64 = a.rgb.iter().zip(&filled.rgb).map(|(&x, &y)| f64::from(x.abs_diff(y)) / 255.0).sum();
    let hidden = mask.iter().filter(|&&m| m).count() as f64 / mask.len().max(1) as f64;
    sum / (hidden * a.rgb.len() as f64).max(1.0)
}

fn figures(reports: &[PatchReport], shown: &Shown, mask: &[bool], grid: (usize, usize)) -> Figures {
    let hidden: Vec<&PatchReport> = reports.iter().filter(|r| r.masked).collect();
    let mean = |f: &dyn Fn(&PatchReport) -> f64| {
        hidden.iter().map(|r| f(r)).sum::<f64>() / hidden.len().max(1) as f64
    };
    let share = |f: &dyn Fn(&PatchReport) -> bool| mean(&|r| f64::from(u8::from(f(r))));
    let error = |p: &Picture| hidden_error(&shown.original, p, mask, grid);
    Figures {
        masked: hidden.len(),
        loss: mean(&|r| f64::from(r.loss)),
        accuracy: share(&|r| r.rank == 1),
        accuracy_top5: share(&|r| r.rank <= 5),
        entropy: mean(&|r| f64::from(r.entropy)),
        iterated_accuracy: shown.iterated.is_some().then(|| share(&|r| r.iterated == Some(r.true_id))),
        mae: error(&shown.reconstructed),
        iterated_mae: shown.iterated.as_ref().map(error),
        ceiling_mae: error(&shown.ceiling),
    }
}
