//! Looks: what the networks make of a picture under a mask, and the pixels of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use beit::Result;
use beit::tasks::reconstruct::{LookJob, Looked, Score};

use super::{Engine, Holder, Loaded, no_gpu};
use crate::news::{Layer, Seen, Wish};
use crate::painter::Painter;

/// Guesses listed for a patch.
const TOP: usize = 8;
/// Seconds between two looks at the networks while they are trained.
const LOOK_EVERY: f64 = 0.5;

/// A look under way.
pub(super) enum Looking {
    Networks(Wish, Box<LookJob>),
    /// The pixels are being decoded and drawn; the flag is set when that was submitted.
    Drawing(Arc<Seen>, Arc<AtomicBool>),
}

impl Engine {
    /// Advances the look under way, or starts the one that is asked for.
    pub(super) fn look(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        match self.looking.take() {
            Some(Looking::Networks(wish, mut job)) => {
                self.looking = Some(match job.advance(loaded.holder.session(), false)? {
                    None => Looking::Networks(wish, job),
                    Some(found) => loaded.draw(&self.painter, &wish, &job, found)?,
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
                (request.top, request.attention) = (TOP, wish.attention);
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
    fn draw(&mut self, painter: &Painter, wish: &Wish, job: &LookJob, found: Looked) -> Result<Looking> {
        let filled: Vec<u32> = (found.patches.iter().zip(&found.true_ids))
            .map(|(p, &id)| if p.masked { p.predicted() } else { id })
            .collect();
        let (plan, output) = self.viewer.decoded();
        let drawn = Arc::new(AtomicBool::new(false));
        for (ids, layer) in [(&filled, Layer::Filled), (&found.true_ids, Layer::Ceiling)] {
            self.viewer.run_decode(self.holder.session(), ids)?;
            let gpu = self.holder.session().as_gpu().ok_or_else(no_gpu)?;
            let drawing = painter.picture(&gpu.output(plan, output)?, &self.canvases[layer as usize]);
            gpu.draw(drawing);
        }
        let done = drawn.clone();
        if let Some(gpu) = self.holder.session().as_gpu() {
            gpu.draw(Box::new(move |_| done.store(true, Ordering::Release)));
        }
        let seen = Seen {
            request: wish.request,
            picture: Arc::new(job.request().patch_view.clone()),
            mask: wish.mask.clone(),
            score: Score::of(&found.patches),
            patches: found.patches,
            attention: found.attention,
        };
        Ok(Looking::Drawing(Arc::new(seen), drawn))
    }
}
