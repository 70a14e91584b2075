//! The board of a reconstruction: pictures, maps, tokens of single patches, attention.

use super::board::{Band, Board, Panel};
use super::cells::{cut_patch, heat_map, mark, spotlight};
use crate::data::Picture;
use crate::tasks::reconstruct::{PatchReport, Reconstruction, stretched};

/// Pictures are enlarged to about this many pixels.
const SIDE: usize = 160;
/// Tokens and attention maps are.
const SMALL: usize = 64;
/// Width at which rows are broken.
const WIDTH: usize = 1264;
/// Guesses that a sheet shows of a patch; numbers may list more.
const GUESSES: usize = 10;
/// The frame around a patch that is asked about.
const FRAME: [u8; 3] = [240, 60, 60];

/// What a board says beside the pictures.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Name of the picture.
    pub title: String,
    /// Lines under it: model, mask.
    pub lines: Vec<String>,
    /// Temperature of the sampled reconstruction.
    pub temperature: f32,
    /// Rounds of the iterative one.
    pub rounds: usize,
}

/// Hidden patches whose tokens are shown: the surest and the least sure ones, in that order.
pub fn telling_patches(r: &Reconstruction, most: usize) -> Vec<usize> {
    let mut hidden: Vec<usize> = (0..r.patches.len()).filter(|&p| r.patches[p].masked).collect();
    hidden.sort_by(|&a, &b| r.patches[b].confidence().total_cmp(&r.patches[a].confidence()).then(a.cmp(&b)));
    if hidden.len() > most {
        let first = most.div_ceil(2);
        hidden.drain(first..hidden.len() - (most - first));
    }
    hidden
}

/// The ids that [`board`] shows for these patches: each one's true id, then its guesses.
pub fn shown_ids(r: &Reconstruction, patches: &[usize]) -> Vec<u32> {
    let ids = |p: &PatchReport| {
        std::iter::once(p.true_id).chain(p.top.iter().take(GUESSES).map(|g| g.id)).collect::<Vec<_>>()
    };
    patches.iter().flat_map(|&p| ids(&r.patches[p])).collect()
}

/// Composes the board. `tokens` are pictures of [`shown_ids`] of `patches` (both may be empty); `from` is the patch whose
/// attention is shown, if attention was asked for.
pub fn board(
    r: &Reconstruction,
    words: &Words,
    patches: &[usize],
    tokens: &[Picture],
    from: Option<usize>,
) -> Board {
    let mut bands = vec![pictures(r, words), maps(r, from)];
    if !patches.is_empty() && !tokens.is_empty() {
        bands.push(token_strips(r, patches, tokens));
    }
    if let Some(patch) = from {
        bands.extend(attention(r, patch));
    }
    let mut subtitles = words.lines.clone();
    subtitles.push(figures(r));
    Board { title: words.title.clone(), subtitles, bands, width: WIDTH }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn figures(r: &Reconstruction) -> String {
    let f = &r.figures;
    format!(
        "{} of {} patches hidden | loss {:.3} nat (a blind guess: ln {} = {:.3}) | right token first {}, among five {} | \
         mean entropy {:.2} nat",
        f.masked,
        r.mask.len(),
        f.loss,
        r.vocab,
        (r.vocab as f64).ln(),
        percent(f.accuracy),
        percent(f.accuracy_top5),
        f.entropy
    )
}

fn pictures(r: &Reconstruction, words: &Words) -> Band {
    let (s, f) = (&r.shown, &r.figures);
    let error = |mae: f64| format!("error {mae:.3}");
    let mut panels = vec![
        Panel::photo("original", s.original.clone()),
        Panel::photo("what the model sees", s.corrupted.clone()),
        Panel::photo("most probable tokens", s.reconstructed.clone()).caption(error(f.mae)),
    ];
    if let (Some(p), Some(mae)) = (&s.iterated, f.iterated_mae) {
        let right = f.iterated_accuracy.map_or(String::new(), |a| format!(", right {}", percent(a)));
        let title = format!("surest first, {} rounds", words.rounds);
        panels.push(Panel::photo(title, p.clone()).caption(error(mae) + &right));
    }
    if let Some(p) = &s.sampled {
        panels.push(Panel::photo(format!("sampled, temperature {}", words.temperature), p.clone()));
    }
    panels.push(Panel::photo("all from tokens", s.tokens_only.clone()));
    panels.push(Panel::photo("tokenizer's best", s.ceiling.clone()).caption(error(f.ceiling_mae)));
    Band { side: SIDE, gap: 18, panels, ..Band::default() }
}

fn maps(r: &Reconstruction, from: Option<usize>) -> Band {
    let s = &r.shown;
    let ranks: Vec<Option<f32>> = r
        .patches
        .iter()
        .map(|p| p.masked.then(|| 1.0 - (p.rank as f32).ln() / (r.vocab.max(2) as f32).ln()))
        .collect();
    let mut panels = vec![
        Panel::new("confidence", heat_map(&s.original, &r.confidence(), r.grid))
            .legend("p = 0", "1")
            .caption("probability of the first guess"),
        Panel::new("rank of the true token", heat_map(&s.original, &ranks, r.grid))
            .legend(format!("{}", r.vocab), "1")
            .caption("logarithmic; 1 = predicted"),
        Panel::new("entropy", heat_map(&s.original, &r.entropy_share(), r.grid))
            .legend("0", format!("ln {}", r.vocab))
            .caption("how undecided the model is"),
    ];
    if let (Some(maps), Some(patch)) = (&r.attention, from) {
        let rollout = stretched(&maps.rollout_from(patch));
        let picture = mark(&spotlight(&s.original, &rollout, r.grid), patch, r.grid, FRAME);
        panels.push(
            Panel::new(format!("attention rollout from patch {patch}"), picture)
                .legend("0", "most")
                .caption("followed through all blocks"),
        );
    }
    Band { side: SIDE, gap: 18, panels, ..Band::default() }
}

/// A row for each patch: its place, its true token, the guesses.
fn token_strips(r: &Reconstruction, patches: &[usize], tokens: &[Picture]) -> Band {
    let mut panels = Vec::new();
    let mut tokens = tokens.iter();
    let top = patches.first().map_or(0, |&p| r.patches[p].top.len().min(GUESSES));
    for &p in patches {
        let report = &r.patches[p];
        let place = format!("row {}, col {}", report.row, report.column);
        let original = cut_patch(&r.shown.original, p, r.grid);
        panels.push(Panel::new(place, original).caption("original"));
        let truth = tokens.next().cloned().unwrap_or_default();
        panels.push(
            Panel::new(format!("true {}", report.true_id), truth)
                .caption(format!("p {:.3}", report.true_probability))
                .caption(format!("rank {}", report.rank)),
        );
        for guess in report.top.iter().take(GUESSES) {
            let hit = if guess.id == report.true_id { " = true" } else { "" };
            panels.push(
                Panel::new(format!("id {}", guess.id), tokens.next().cloned().unwrap_or_default())
                    .caption(format!("p {:.3}{hit}", guess.probability)),
            );
        }
    }
    // Two patches a row.
    let columns = 2 * (2 + top);
    Band {
        heading: "Tokens of single patches".into(),
        note: "surest patches first, then the least sure; each with its true token and the most probable guesses, decoded on \
               neutral ground"
            .into(),
        side: SMALL,
        gap: 14,
        columns: Some(columns),
        panels,
    }
}

/// One map for each head of each block.
fn attention(r: &Reconstruction, patch: usize) -> Option<Band> {
    let maps = r.attention.as_ref()?;
    let panel = |i: usize| {
        let (layer, head) = (i / maps.heads, i % maps.heads);
        let values = stretched(maps.from_patch(layer, head, patch));
        let picture = mark(&spotlight(&r.shown.original, &values, r.grid), patch, r.grid, FRAME);
        Panel::new(format!("block {layer} head {head}"), picture)
    };
    Some(Band {
        heading: format!("Attention from patch {patch}, every block and head"),
        note: "each map is stretched to its own largest value; the framed patch is the one that looks".into(),
        side: 96,
        gap: 10,
        // Whole blocks stand in a row.
        columns: Some(maps.heads * (12 / maps.heads).max(1)),
        panels: (0..maps.layers * maps.heads).map(panel).collect(),
    })
}
