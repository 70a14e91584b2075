//! What is looked at as a file: the board that the command line draws too.

use std::path::PathBuf;

use beit::data::decode::encode_png;
use beit::pictures::reconstruction::{Words, board};
use beit::tasks::reconstruct::{Job, Reconstruction};
use beit::{Error, Result};

use super::Engine;
use super::looking::Looking;
use crate::news::Wish;

/// Where to, the picture's name, the patch whose attention is shown.
pub(super) type Order = (PathBuf, String, Option<usize>);

/// A board whose pictures are on their way.
pub(super) struct Saving {
    order: Order,
    wish: Wish,
    job: Job,
}

impl Engine {
    /// Asks the networks for the pictures of a board.
    pub(super) fn start_saving(&mut self) -> Result<bool> {
        let (Some(order), Some(loaded)) = (self.save.take(), &self.loaded) else { return Ok(false) };
        let Some(wish) = self.wish.clone() else {
            self.board.tell(|n| n.note = Some("nothing is hidden, so there is nothing to save".into()));
            return Ok(false);
        };
        let mut request = loaded.viewer.request(&wish.picture, wish.mask.to_vec());
        (request.rounds, request.sampling, request.attention) =
            (wish.rounds, wish.sampling, order.2.is_some());
        let job = loaded.viewer.start(request)?;
        self.looking = Some(Looking::Saving(Box::new(Saving { order, wish, job })));
        Ok(true)
    }

    /// Goes on with a board, and writes it when all is there.
    pub(super) fn saving(&mut self, mut saving: Box<Saving>) -> Result<bool> {
        let Some(loaded) = &mut self.loaded else { return Ok(false) };
        match saving.job.advance(loaded.holder.session(), false)? {
            None => self.looking = Some(Looking::Saving(saving)),
            // A disk that is full is no fault of the networks.
            Some(found) => {
                if let Err(e) = self.write_board(&saving, &found) {
                    self.board.tell(|n| n.error = Some(e.to_string()));
                }
            }
        }
        Ok(true)
    }

    fn write_board(&self, saving: &Saving, found: &Reconstruction) -> Result<()> {
        let (path, title, from) = &saving.order;
        let words = Words {
            title: title.clone(),
            lines: vec![format!("model {}", self.name)],
            temperature: saving.wish.sampling.map_or(1.0, |s| s.temperature),
            rounds: saving.wish.rounds,
        };
        let png = encode_png(&board(found, &words, &[], &[], *from).draw()?)?;
        let name = path.display().to_string();
        if cfg!(target_arch = "wasm32") {
            self.board.tell(|n| n.download = Some((name, png)));
            return Ok(());
        }
        std::fs::write(path, &png).map_err(|e| Error::io("cannot write the picture", path, &e))?;
        self.board.tell(|n| (n.note, n.error) = (Some(format!("saved as {name}")), None));
        Ok(())
    }
}
