//! Iterative decoding: the most certain hidden patches are filled in first, and the model looks again.

use super::patches::{PatchReport, hidden_after, most_certain};
use crate::data::{Filter, Normalization, Picture, normalize::push_normalized, resize};
use crate::pictures::cells::fill_in;

/// Hidden patches that are being filled in, round by round.
#[derive(Debug, Clone)]
pub(super) struct Decoding {
    /// Rounds asked for.
    pub rounds: usize,
    /// Rounds done.
    pub round: usize,
    /// The original mask.
    mask: Vec<bool>,
    /// Chosen id and round of each patch that is filled in.
    pub chosen: Vec<Option<(u32, usize)>>,
}

impl Decoding {
    pub fn new(mask: &[bool], rounds: usize) -> Self {
        Decoding { rounds, round: 0, mask: mask.to_vec(), chosen: vec![None; mask.len()] }
    }

    /// Whether all hidden patches are filled in.
    pub fn done(&self) -> bool {
        self.still_hidden().iter().all(|h| !h)
    }

    /// Patches that are hidden still.
    pub fn still_hidden(&self) -> Vec<bool> {
        self.mask.iter().zip(&self.chosen).map(|(&m, c)| m && c.is_none()).collect()
    }

    /// Takes the most certain predictions of this round.
    pub fn choose(&mut self, reports: &[PatchReport]) {
        let masked = self.mask.iter().filter(|&&m| m).count();
        let hidden = self.still_hidden();
        let candidates: Vec<(usize, f32)> =
            (0..hidden.len()).filter(|&p| hidden[p]).map(|p| (p, reports[p].confidence())).collect();
        self.round += 1;
        let fill = candidates.len().saturating_sub(hidden_after(masked, self.round, self.rounds));
        for p in most_certain(candidates, fill) {
            self.chosen[p] = Some((reports[p].predicted(), self.round));
        }
    }

    /// All ids: the tokenizer's where visible, chosen ones where filled in, predictions elsewhere.
    pub fn ids(&self, true_ids: &[u32], reports: &[PatchReport]) -> Vec<u32> {
        (0..self.mask.len())
            .map(|p| match (self.mask[p], self.chosen[p]) {
                (false, _) => true_ids[p],
                (true, Some((id, _))) => id,
                (true, None) => reports[p].predicted(),
            })
            .collect()
    }

    /// The transformer's next input: the original with the filled patches decoded into it.
    pub fn next_view(
        &self,
        original: &Picture,
        decoded: &Picture,
        grid: (usize, usize),
        normalization: Normalization,
    ) -> Vec<f32> {
        let filled: Vec<bool> = self.chosen.iter().map(Option::is_some).collect();
        let decoded = to_size(decoded, original);
        let mut view = Vec::with_capacity(original.rgb.len());
        push_normalized(&mut view, &fill_in(original, &decoded, &filled, grid), normalization);
        view
    }
}

/// A picture at the size of another one.
pub(super) fn to_size(picture: &Picture, like: &Picture) -> Picture {
    resize(picture, picture.whole(), like.width, like.height, Filter::Bicubic)
}
