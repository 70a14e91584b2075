//! A reconstruction under way: a chain of runs and read-backs that never waits unless it is told to.

use super::decoding::{Decoding, to_size};
use super::look::{LookJob, Looked};
use super::patches::PatchReport;
use super::{AttentionMaps, Figures, Reconstruction, Request, Score, Shown, Viewer};
use crate::data::Picture;
use crate::error::{Error, Result};
use crate::pictures::cells::{fill_in, hide, of_decoded};
use crate::session::{HostData, Session, Ticket};

/// What the job waits for.
#[derive(Debug)]
enum Stage {
    /// Logits (and attention) of the whole mask, ids of the tokenizer.
    First(Box<LookJob>),
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
        let look = LookJob::new(viewer.clone(), request.clone());
        Job {
            viewer,
            request,
            stage: Stage::First(Box::new(look)),
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
            Stage::First(mut look) => match look.advance(session, wait)? {
                Some(found) => self.first_arrived(session, found).map(|()| None),
                None => self.later(Stage::First(look)),
            },
            Stage::Filling { decoded } => match session.take(decoded, wait)? {
                Some(read) => self.look_again(session, read).map(|()| None),
                None => self.later(Stage::Filling { decoded }),
            },
            Stage::Looking { logits } => match session.take(logits, wait)? {
                Some(read) => {
                    let logits = read.into_iter().next().map(HostData::f32).unwrap_or_default();
                    let hidden = self.decoding.still_hidden();
                    self.latest = self.viewer.read_logits(&logits, &self.true_ids, &hidden, 1);
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

    fn run_decode(&self, session: &mut dyn Session, ids: &[u32]) -> Result<Ticket> {
        self.viewer.run_decode(session, ids)?;
        session.fetch(self.viewer.decode, &["decoded"])
    }

    fn first_arrived(&mut self, session: &mut dyn Session, found: Looked) -> Result<()> {
        (self.true_ids, self.reports, self.attention) = (found.true_ids, found.patches, found.attention);
        if self.request.rounds == 1 {
            return self.last_runs(session);
        }
        self.latest = self.reports.clone();
        self.decoding.choose(&self.latest);
        self.next_round(session)
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
        self.viewer.run_forward(session, &view, &self.decoding.still_hidden())?;
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
    let score = Score::of(reports);
    let error = |p: &Picture| hidden_error(&shown.original, p, mask, grid);
    Figures {
        masked: score.masked,
        loss: score.loss,
        accuracy: score.accuracy,
        accuracy_top5: score.accuracy_top5,
        entropy: score.entropy,
        iterated_accuracy: shown.iterated.is_some().then(|| Score::iterated(reports)),
        mae: error(&shown.reconstructed),
        iterated_mae: shown.iterated.as_ref().map(error),
        ceiling_mae: error(&shown.ceiling),
    }
}
