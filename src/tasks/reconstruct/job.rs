//! A reconstruction under way: a chain of runs and read-backs that never waits unless it is told to.

use super::look::{LookJob, Looked, decoded_picture};
use super::patches::PatchReport;
use super::{Figures, Reconstruction, Request, Score, Shown, Viewer};
use crate::data::Picture;
use crate::error::{Error, Result};
use crate::pictures::cells::{fill_in, hide};
use crate::session::{Session, Ticket};

/// What the job waits for.
#[derive(Debug)]
enum Stage {
    /// What the networks say.
    Look(Box<LookJob>),
    /// The pictures of it.
    Last { found: Looked, tickets: Vec<Ticket>, read: Vec<Picture> },
    /// Given away.
    Done,
}

/// See the module text.
#[derive(Debug)]
pub struct Job {
    viewer: Viewer,
    request: Request,
    stage: Stage,
}

impl Job {
    pub(super) fn new(viewer: Viewer, request: Request) -> Self {
        let look = LookJob::new(viewer.clone(), request.clone());
        Job { viewer, request, stage: Stage::Look(Box::new(look)) }
    }

    /// Goes on as far as it can. `None` means: not ready, call again (with `wait` it still may need several calls).
    ///
    /// # Errors
    /// If the device refuses or was lost; the job is then of no further use.
    pub fn advance(&mut self, session: &mut dyn Session, wait: bool) -> Result<Option<Reconstruction>> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Look(mut look) => match look.advance(session, wait)? {
                Some(found) => self.last_runs(session, found).map(|()| None),
                None => self.later(Stage::Look(look)),
            },
            Stage::Last { found, tickets, mut read } => {
                while let Some(&ticket) = tickets.get(read.len()) {
                    let Some(data) = session.take(ticket, wait)? else {
                        return self.later(Stage::Last { found, tickets, read });
                    };
                    read.push(decoded_picture(&self.request, data));
                }
                Ok(Some(self.assemble(found, read)))
            }
            Stage::Done => Err(Error::shape("the reconstruction was given away already")),
        }
    }

    fn later(&mut self, stage: Stage) -> Result<Option<Reconstruction>> {
        self.stage = stage;
        Ok(None)
    }

    fn last_runs(&mut self, session: &mut dyn Session, found: Looked) -> Result<()> {
        let mut all = vec![found.filled(PatchReport::predicted), found.true_ids.clone()];
        if self.request.sampling.is_some() {
            all.push(found.filled(|p| p.sampled.unwrap_or(0)));
        }
        if self.request.rounds > 1 {
            all.push(found.filled(|p| p.iterated.unwrap_or(0)));
        }
        let mut tickets = vec![];
        for ids in &all {
            self.viewer.run_decode(session, ids)?;
            tickets.push(session.fetch(self.viewer.decode, &["decoded"])?);
        }
        self.stage = Stage::Last { found, tickets, read: vec![] };
        Ok(())
    }

    fn assemble(&self, found: Looked, decoded: Vec<Picture>) -> Reconstruction {
        let (request, grid) = (&self.request, self.viewer.grid());
        let original = request.patch_view.clone();
        let compose = |p: &Picture| fill_in(&original, p, &request.mask, grid);
        let mut decoded = decoded.into_iter();
        let tokens_only = decoded.next().unwrap_or_default();
        let ceiling = decoded.next().unwrap_or_default();
        let sampled = request.sampling.and_then(|_| decoded.next()).map(|p| compose(&p));
        let iterated = decoded.next().map(|p| compose(&p));
        let shown = Shown {
            corrupted: hide(&original, &request.mask, grid),
            reconstructed: compose(&tokens_only),
            sampled,
            iterated,
            tokens_only,
            ceiling,
            original,
        };
        let mut patches = found.patches;
        let figures = figures(&patches, &shown, &request.mask, grid);
        for report in &mut patches {
            report.top.truncate(request.top);
        }
        Reconstruction {
            grid,
            vocab: self.viewer.vit.vocab,
            mask: request.mask.clone(),
            shown,
            patches,
            figures,
            attention: found.attention,
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
