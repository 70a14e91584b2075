//! Contact sheets of a run: what the networks were shown and what they made of it.

use crate::error::Result;
use crate::models::TokenizerModel;
use crate::pictures::cells::{fill_in, hide, of_decoded, of_mapped};
use crate::pictures::sheet::{Sheet, SheetRow, Tile};

/// Pictures on a sheet.
const ROWS: usize = 8;

/// Original and the tokenizer's reconstruction of `view[B,H,W,3]`; `decoded[B,H,W,C]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn tokenizer_sheet(
    view: &[f32],
    decoded: &[f32],
    (h, w): (usize, usize),
    step: u64,
    tokenizer: &TokenizerModel,
) -> Result<Sheet> {
    let mut sheet = Sheet {
        title: format!("tokenizer after {step} updates"),
        columns: vec!["original".into(), from_tokens(tokenizer).into()],
        rows: vec![],
    };
    let images = (view.len() / (h * w * 3)).max(1);
    for (view, decoded) in view.chunks(h * w * 3).zip(decoded.chunks(decoded.len() / images)).take(ROWS) {
        let tiles = vec![Tile::photo(of_mapped(view, (h, w))), Tile::photo(of_decoded(decoded, (h, w)))];
        sheet.rows.push(SheetRow { caption: String::new(), tiles });
    }
    Ok(sheet)
}

/// What a picture from ids is called.
pub fn from_tokens(tokenizer: &TokenizerModel) -> &'static str {
    match tokenizer {
        TokenizerModel::Dvae(_) => "from tokens",
        TokenizerModel::VqKd(_) => "mean patch of each token",
    }
}

/// What [`reconstruction_sheet`] draws.
pub struct ReconstructionInputs<'a> {
    /// Mapped views `[B,H,W,3]`.
    pub view: &'a [f32],
    /// Masked patches `[B·n]`.
    pub mask: &'a [bool],
    /// Sides of a view.
    pub side: (usize, usize),
    /// The tokenizer.
    pub tokenizer: &'a TokenizerModel,
    /// Decoder output with predicted ids in the masked cells `[B,H,W,C]`.
    pub filled: &'a [f32],
    /// Decoder output with the tokenizer's ids everywhere.
    pub ceiling: &'a [f32],
    /// The tokenizer's ids `[B·n]`.
    pub ids: &'a [u32],
    /// The ids with predictions in the masked cells.
    pub predicted: &'a [u32],
    /// Text above.
    pub title: String,
}

/// Original, corrupted, reconstructed (visible patches kept), tokens alone, the tokenizer's own reconstruction.
///
/// # Errors
/// If the sizes do not fit.
pub fn reconstruction_sheet(i: &ReconstructionInputs<'_>) -> Result<Sheet> {
    let (h, w) = i.side;
    let (cell, best) = (
        i.tokenizer.stride(),
        match i.tokenizer {
            TokenizerModel::Dvae(_) => "tokenizer's best",
            TokenizerModel::VqKd(_) => "mean patches of its tokens",
        },
    );
    let columns = ["original", "corrupted", "reconstructed", "all from tokens", best];
    let mut sheet =
        Sheet { title: i.title.clone(), columns: columns.map(String::from).to_vec(), rows: vec![] };
    let n = (h / cell) * (w / cell);
    for b in 0..(i.mask.len() / n).min(ROWS) {
        let mask = &i.mask[b * n..(b + 1) * n];
        let grid = (h / cell, w / cell);
        let original = of_mapped(&i.view[b * h * w * 3..(b + 1) * h * w * 3], (h, w));
        let of = |decoded: &[f32]| {
            let size = decoded.len() * n / i.mask.len();
            of_decoded(&decoded[b * size..(b + 1) * size], (h, w))
        };
        let (filled, ceiling) = (of(i.filled), of(i.ceiling));
        let (corrupted, reconstructed) =
            (hide(&original, mask, grid), fill_in(&original, &filled, mask, grid));
        let hidden = (0..n).filter(|&p| mask[p]).count();
        let right = (0..n).filter(|&p| mask[p] && i.ids[b * n + p] == i.predicted[b * n + p]).count();
        sheet.rows.push(SheetRow {
            caption: format!("{right} of {hidden} masked tokens right"),
            tiles: [original, corrupted, reconstructed, filled, ceiling].map(Tile::photo).to_vec(),
        });
    }
    Ok(sheet)
}
