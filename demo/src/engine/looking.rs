//! Looks: what the networks make of a picture under a mask, and the pixels of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use beit::Result;
use beit::tasks::reconstruct::{LookJob, Looked, PatchReport, Score};

use super::saving::Saving;
use super::{Drawer, Engine, Holder, Loaded};
use crate::news::{Layer, Seen, Wish};

/// Guesses listed for a patch.
const TOP: usize = 8;
/// Seconds between two looks at the networks while they are trained.
const LOOK_EVERY: f64 = 0.5;

/// A look under way.
pub(super) enum Looking {
    Networks(Wish, Box<LookJob>),
    /// The pixels are being decoded and drawn; the flag is set when that was submitted.
    Drawing(Arc<Seen>, Arc<AtomicBool>),
    /// Pictures for a file.
    Saving(Box<Saving>),
}

impl Engine {
    /// Advances the look under way, or starts the one that is asked for.
    pub(super) fn look(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        match self.looking.take() {
            Some(Looking::Networks(wish, mut job)) => {
                self.looking = Some(match job.advance(loaded.holder.session(), false)? {
                    None => Looking::Networks(wish, job),
                    Some(found) => loaded.draw(&self.drawer, &wish, &job, found)?,
                });
                Ok(true)
            }
            Some(Looking::Drawing(seen, drawn)) => {
                if drawn.load(Ordering::Acquire) {
                    self.board.tell(|n| n.seen = Some(seen));
                } else {
                    self.looking = Some(Looking::Drawing(seen, drawn));
                }
                Ok(true)
            }
            Some(Looking::Saving(saving)) => self.saving(saving),
            None if self.save.is_some() => self.start_saving(),
            None => {
                let training = matches!(loaded.holder, Holder::Training(_)) && !self.paused;
                let due = training && now - self.looked_at >= LOOK_EVERY;
                let fresh = self.board.read().seen.map(|s| s.request);
                let Some(wish) =
                    self.wish.clone().filter(|w| due || self.look_again || fresh != Some(w.request))
                else {
                    return Ok(false);
                };
                (self.looked_at, self.look_again) = (now, false);
                let mut request = loaded.viewer.request(&wish.picture, wish.mask.to_vec());
                (request.top, request.attention) = (TOP, true);
                (request.rounds, request.sampling) = (wish.rounds, wish.sampling);
                // A mask of another grid is on its way out: the widgets make a new one for the new networks.
                if wish.mask.len() != loaded.viewer.grid().0 * loaded.viewer.grid().1 {
                    self.wish = None;
                    return Ok(false);
                }
                let job = loaded.viewer.start_look(request)?;
                self.looking = Some(Looking::Networks(wish, Box::new(job)));
                Ok(true)
            }
        }
    }
}

impl Loaded {
    /// Decodes what was found and draws it; it counts as seen when that was submitted.
    fn draw(&mut self, drawer: &Drawer, wish: &Wish, job: &LookJob, found: Looked) -> Result<Looking> {
        let mut layers = vec![
            (found.filled(PatchReport::predicted), Layer::Filled),
            (found.true_ids.clone(), Layer::Ceiling),
        ];
        if wish.rounds > 1 {
            layers.push((found.filled(|p| p.iterated.unwrap_or(0)), Layer::Iterated));
        }
        if wish.sampling.is_some() {
            layers.push((found.filled(|p| p.sampled.unwrap_or(0)), Layer::Sampled));
        }
        let (plan, output) = self.viewer.decoded();
        let view = &job.request().token_view;
        let (height, width) = (view.height, view.width);
        for (ids, layer) in layers {
            let session = self.holder.session();
            self.viewer.run_decode(session, &ids)?;
            let pixels = drawer.output(session, plan, output, [1, height, width])?;
            drawer.draw(session, drawer.painter.picture(&pixels, &self.canvases[layer as usize]));
        }
        let drawn = Arc::new(AtomicBool::new(false));
        let done = drawn.clone();
        drawer.draw(self.holder.session(), Box::new(move |_| done.store(true, Ordering::Release)));
        let seen = Seen {
            request: wish.request,
            picture: Arc::new(job.request().patch_view.clone()),
            mask: wish.mask.clone(),
            score: Score::of(&found.patches),
            patches: found.patches,
            attention: found.attention,
            rounds: wish.rounds,
            sampling: wish.sampling,
        };
        Ok(Looking::Drawing(Arc::new(seen), drawn))
    }
}
