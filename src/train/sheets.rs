//! Contact sheets of a run: what the networks were shown and what they made of it.

use crate::error::Result;
use crate::runs::sheet::{Sheet, SheetRow, Tile};
use crate::tasks::tokenizer::{pixel_of_mu, unmap};

/// Pictures on a sheet.
const ROWS: usize = 8;
/// Colour of a hidden patch.
const HIDDEN: u8 = 128;

fn byte(v: f32) -> u8 {
    (v * 255.0).round() as u8
}

/// 8-bit pixels of mapped values in 0.1..0.9.
fn mapped_pixels(view: &[f32]) -> Vec<u8> {
    view.iter().map(|&v| byte(unmap(v))).collect()
}

/// 8-bit pixels of a decoder's output: the first three of six channels are μ.
fn decoded_pixels(decoded: &[f32]) -> Vec<u8> {
    decoded.chunks(6).flat_map(|p| &p[..3]).map(|&mu| byte(pixel_of_mu(mu))).collect()
}

/// Original and the tokenizer's reconstruction of `view[B,H,W,3]`; `decoded[B,H,W,6]`.
///
/// # Errors
/// If the sizes do not fit.
pub fn tokenizer_sheet(view: &[f32], decoded: &[f32], (h, w): (usize, usize), step: u64) -> Result<Sheet> {
    let mut sheet = Sheet {
        title: format!("tokenizer after {step} updates"),
        columns: vec!["original".into(), "from tokens".into()],
        rows: vec![],
    };
    for (view, decoded) in view.chunks(h * w * 3).zip(decoded.chunks(h * w * 6)).take(ROWS) {
        let tiles = vec![Tile::new(w, h, mapped_pixels(view))?, Tile::new(w, h, decoded_pixels(decoded))?];
        sheet.rows.push(SheetRow { caption: String::new(), tiles });
    }
    Ok(sheet)
}

/// What [`reconstruction_sheet`] draws.
pub struct ReconstructionInputs<'a> {
    /// Mapped views `[B,H,W,3]`.
    pub view: &'a [f32],
    /// Masked patches `[B·n]`.
    pub mask: &'a [bool],
    /// Sides of a view.
    pub side: (usize, usize),
    /// Side of a cell in pixels of the view.
    pub cell: usize,
    /// Decoder output with predicted ids in the masked cells `[B,H,W,6]`.
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
    let columns = ["original", "corrupted", "reconstructed", "all from tokens", "tokenizer's best"];
    let mut sheet =
        Sheet { title: i.title.clone(), columns: columns.map(String::from).to_vec(), rows: vec![] };
    let n = (h / i.cell) * (w / i.cell);
    for b in 0..(i.mask.len() / n).min(ROWS) {
        let mask = &i.mask[b * n..(b + 1) * n];
        let original = mapped_pixels(&i.view[b * h * w * 3..(b + 1) * h * w * 3]);
        let filled = decoded_pixels(&i.filled[b * h * w * 6..(b + 1) * h * w * 6]);
        let ceiling = decoded_pixels(&i.ceiling[b * h * w * 6..(b + 1) * h * w * 6]);
        let (mut corrupted, mut reconstructed) = (original.clone(), original.clone());
        for p in 0..h * w {
            if mask[p / w / i.cell * (w / i.cell) + p % w / i.cell] {
                corrupted[3 * p..3 * p + 3].fill(HIDDEN);
                reconstructed[3 * p..3 * p + 3].copy_from_slice(&filled[3 * p..3 * p + 3]);
            }
        }
        let hidden = (0..n).filter(|&p| mask[p]).count();
        let right = (0..n).filter(|&p| mask[p] && i.ids[b * n + p] == i.predicted[b * n + p]).count();
        let tiles = [original, corrupted, reconstructed, filled, ceiling].map(|rgb| Tile::new(w, h, rgb));
        sheet.rows.push(SheetRow {
            caption: format!("{right} of {hidden} masked tokens right"),
            tiles: tiles.into_iter().collect::<Result<_>>()?,
        });
    }
    Ok(sheet)
}
