//! The board of a codebook: what each id decodes to, by how often it is used.

use super::board::{Band, Board, Panel};
use crate::data::Picture;
use crate::pictures::colour::mix;
use crate::tasks::codebook::CodebookReport;

/// Ids that are drawn with their numbers; of larger codebooks the rest is drawn as a plain mosaic.
const CAPTIONED: usize = 512;
/// Paper under the ids that were never seen.
const DEAD: [u8; 3] = [214, 214, 210];

/// Composes the board; `tokens[V]` are pictures of a cell's size.
pub fn board(r: &CodebookReport, tokens: &[Picture], name: &str, data: &str) -> Board {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    let count = |id: usize| r.counts.get(id).copied().unwrap_or(0);
    order.sort_by(|&a, &b| count(b).cmp(&count(a)).then(a.cmp(&b)));
    let total = r.counts.iter().sum::<u64>().max(1) as f64;
    let used: Vec<usize> = order.iter().copied().filter(|&id| count(id) > 0).collect();
    let dead: Vec<usize> = order.iter().copied().filter(|&id| count(id) == 0).collect();
    let panel = |&id: &usize| {
        let share = 100.0 * count(id) as f64 / total;
        let caption = if count(id) > 0 { format!("{share:.1}%") } else { "-".into() };
        Panel::new(id.to_string(), faded(&tokens[id], count(id) == 0)).caption(caption)
    };
    let (first, rest) = used.split_at(used.len().min(CAPTIONED));
    let mut bands = vec![Band {
        heading: format!("{} ids in use", used.len()),
        note: "number of the id above, share of all cells below; the most used first".into(),
        side: 32,
        gap: 8,
        panels: first.iter().map(panel).collect(),
        ..Band::default()
    }];
    if !rest.is_empty() {
        bands.push(mosaic("further ids in use", rest, tokens, false));
    }
    if !dead.is_empty() {
        bands.push(mosaic(&format!("{} ids never seen", dead.len()), &dead, tokens, true));
    }
    Board {
        title: "Codebook atlas".into(),
        subtitles: vec![
            format!("{name} | measured on {} pictures of {data}", r.images),
            format!("perplexity {:.1} of {} | {}", r.perplexity, r.vocab, what(r)),
        ],
        bands,
        width: 1264,
    }
}

/// What the pictures are, and how good.
fn what(r: &CodebookReport) -> String {
    let mae = r.mae.unwrap_or(f64::NAN);
    match &r.relaxed {
        Some(q) => format!(
            "error from hard ids {mae:.4}, relaxed {:.4}, flat colours of cells {:.4} | KL {:.2} nat | each id decoded where all \
             its neighbours are undecided",
            q.relaxed_mae, r.flat_mae, q.kl
        ),
        None => format!(
            "each id drawn as the mean of the training cells that have it | error of these means {mae:.4}, flat colours of \
             cells {:.4} | cosine of cells and codes {:.3}",
            r.flat_mae,
            r.code_cosine.unwrap_or(f64::NAN)
        ),
    }
}

fn faded(token: &Picture, dead: bool) -> Picture {
    let mut out = token.clone();
    if dead {
        out.rgb.as_chunks_mut().0.iter_mut().for_each(|p| *p = mix(*p, DEAD, 0.5));
    }
    out
}

fn mosaic(heading: &str, ids: &[usize], tokens: &[Picture], dead: bool) -> Band {
    Band {
        heading: heading.into(),
        side: 16,
        gap: 2,
        panels: ids.iter().map(|&id| Panel::new("", faded(&tokens[id], dead))).collect(),
        ..Band::default()
    }
}
