//! The codebook's atlas, drawn some ids at a time while somebody looks at it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use beit::Result;

use super::{Drawer, Engine, Holder, Loaded};
use crate::news::Layer;
use crate::painter::Squares;

/// Seconds between two drawings of the codebook while the networks are trained.
const ATLAS_EVERY: f64 = 4.0;

impl Engine {
    /// Draws the next ids of the codebook, if somebody looks at it.
    pub(super) fn draw_atlas(&mut self, now: f64) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        let vocab = loaded.viewer.vit().vocab;
        if let Some(drawn) = &self.atlas_batch {
            if !drawn.load(Ordering::Acquire) {
                return Ok(true);
            }
            self.atlas_batch = None;
            let ready = self.atlas_drawn;
            self.board.tell(|n| n.atlas_ready = n.atlas_ready.max(ready));
        }
        let training = matches!(loaded.holder, Holder::Training(_)) && !self.paused;
        if self.atlas_drawn >= vocab && training && now - self.atlas_at >= ATLAS_EVERY {
            self.atlas_drawn = 0;
        }
        if !self.want_atlas || self.atlas_drawn >= vocab {
            return Ok(false);
        }
        let first = self.atlas_drawn;
        let end = vocab.min(first + loaded.atlas.batch());
        self.atlas_batch = Some(loaded.draw_tokens(&self.drawer, first..end)?);
        (self.atlas_drawn, self.atlas_at) = (end, now);
        Ok(true)
    }
}

impl Loaded {
    /// Decodes ids of the codebook and draws them into the atlas.
    fn draw_tokens(&mut self, drawer: &Drawer, ids: std::ops::Range<usize>) -> Result<Arc<AtomicBool>> {
        let list: Vec<u32> = ids.clone().map(|id| id as u32).collect();
        let session = self.holder.session();
        self.atlas.run(session, &list)?;
        let (plan, output) = self.atlas.decoded();
        let (first, side, field) = self.atlas.cell();
        let squares = Squares {
            first: first as u32,
            side: side as u32,
            columns: atlas_grid(self.viewer.vit().vocab).0 as u32,
            start: ids.start as u32,
            count: ids.len() as u32,
        };
        let canvas = &self.canvases[Layer::Atlas as usize];
        let pixels = drawer.output(session, plan, output, [self.atlas.batch(), field, field])?;
        let drawing = drawer.painter.squares(&pixels, canvas, squares);
        let drawn = Arc::new(AtomicBool::new(false));
        let done = drawn.clone();
        drawer.draw(
            session,
            Box::new(move |encoder| {
                drawing(encoder);
                done.store(true, Ordering::Release);
            }),
        );
        Ok(drawn)
    }
}

/// Columns and rows of the atlas of a codebook.
pub(crate) fn atlas_grid(vocab: usize) -> (usize, usize) {
    let columns = (1..).find(|c| c * c >= vocab).unwrap_or(1);
    (columns, vocab.div_ceil(columns))
}
