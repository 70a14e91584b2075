//! Sizes from the shapes of the tensors, for files without a config.

use super::{Head, segmenter};
use crate::error::{Error, Result};
use crate::io::names::{self, INDEX_BUFFER};
use crate::io::tensors::Tensors;
use crate::models::{DvaeConfig, DvaeNetwork, RelPos, VitConfig, VqKdConfig};
use crate::ops::Pool;

/// Vocabulary written for a transformer without a token head: the published one.
const VOCAB: usize = 8192;
/// Width of one head in every published BEiT.
const HEAD_WIDTH: usize = 64;

/// What shapes cannot say, from whatever else is known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hints {
    /// The grid, from an index buffer.
    pub grid: Option<(usize, usize)>,
    /// Side of the picture, from a config.
    pub image: Option<(usize, usize)>,
    /// Attention heads, from a config.
    pub heads: Option<usize>,
    /// Added to variances, from a config.
    pub eps: Option<f32>,
}

/// The grid that an index buffer among a file's own tensors was made for.
pub(super) fn grid_hint(tensors: &Tensors) -> Option<(usize, usize)> {
    tensors.iter().find(|(name, _)| name.ends_with(INDEX_BUFFER)).and_then(|(_, t)| names::grid_of_index(t))
}

/// A transformer's sizes from its tensors by our names; `notes` gets what had to be assumed.
pub(super) fn infer_vit(tensors: &Tensors, hints: Hints, notes: &mut Vec<String>) -> Result<VitConfig> {
    let patch_embed = "patch_embed.proj.weight";
    let &[width, 3, patch, square] = shape_of(tensors, patch_embed)? else {
        return Err(odd(tensors, patch_embed, "[D, 3, P, P]"));
    };
    if patch != square || patch == 0 || width == 0 {
        return Err(odd(tensors, patch_embed, "[D, 3, P, P] with square patches"));
    }
    let depth = depth_of(tensors)?;
    let fc1 = "blocks.0.mlp.fc1.weight";
    let &[mlp, _] = shape_of(tensors, fc1)? else { return Err(odd(tensors, fc1, "[MLP, D]")) };
    let shared = tensors.get("rel_pos_bias.relative_position_bias_table");
    let own = tensors.get("blocks.0.attn.relative_position_bias_table");
    let rel_pos = match (shared.is_some(), own.is_some()) {
        (false, false) => RelPos::None,
        (true, false) => RelPos::Shared,
        (false, true) => RelPos::PerLayer,
        (true, true) => RelPos::Both,
    };
    let table = match shared.or(own).map(|t| t.shape.as_slice()) {
        None => None,
        Some(&[rows, heads]) => Some((rows, heads)),
        Some(_) => return Err(Error::checkpoint("odd relative position table").expected("[R, heads]")),
    };
    let heads = match (table, hints.heads) {
        (Some((_, heads)), _) | (None, Some(heads)) => heads,
        (None, None) if width.is_multiple_of(HEAD_WIDTH) => {
            notes.push(format!("heads of {HEAD_WIDTH} channels assumed: the file does not say how many"));
            width / HEAD_WIDTH
        }
        (None, None) => 1,
    };
    let pos = tensors.get("pos_embed").map(|t| t.shape.as_slice());
    let tokens = match pos {
        None => None,
        Some(&[1, tokens, _]) => Some(tokens),
        Some(_) => return Err(odd(tensors, "pos_embed", "[1, N, D]")),
    };
    let grid = hints.grid.or_else(|| hints.image.map(|(h, w)| (h / patch, w / patch)));
    let grid = match grid.or_else(|| grid_of(tokens.map(|n| n.saturating_sub(1)), table.map(|t| t.0))) {
        Some(grid) => grid,
        None => {
            let side = 224 / patch.min(224);
            notes.push(format!("a grid of {side} x {side} patches assumed: the file does not tell"));
            (side, side)
        }
    };
    let vocab = match tensors.get("lm_head.weight").map(|t| t.shape.as_slice()) {
        Some(&[vocab, _]) => vocab,
        _ => VOCAB,
    };
    Ok(VitConfig {
        image: (grid.0.saturating_mul(patch), grid.1.saturating_mul(patch)),
        patch,
        width,
        depth,
        heads,
        mlp,
        vocab,
        layer_norm_eps: hints.eps.unwrap_or(1e-6),
        abs_pos: tokens.is_some(),
        rel_pos,
        layer_scale: if tensors.contains_key("blocks.0.gamma_1") { 0.1 } else { 0.0 },
        drop_path: 0.0,
    })
}

/// The head that the tensors have.
pub(super) fn infer_head(tensors: &Tensors, vit: &VitConfig) -> Head {
    let rows = |name: &str| tensors.get(name).and_then(|t| t.shape.first().copied());
    if let Some(head) = segmenter::infer(tensors, vit) {
        return Head::Segmenter(head);
    }
    if let Some(classes) = rows("head.weight") {
        let mean = tensors.contains_key("fc_norm.weight") || !tensors.contains_key("norm.weight");
        let pool = if mean { Pool::MeanPatches } else { Pool::Cls };
        return Head::Classifier { classes, pool };
    }
    if tensors.contains_key("lm_head.weight") { Head::MaskedImage } else { Head::None }
}

/// A tokenizer's sizes from its tensors. Pooling has no weights: one stage after each group but the last, as in
/// the released network.
pub(super) fn infer_dvae(tensors: &Tensors) -> Result<DvaeConfig> {
    let first = |name: &str| match shape_of(tensors, name) {
        Ok(&[o, _, _, _]) => Ok(o),
        Ok(_) => Err(odd(tensors, name, "[out, in, k, k]")),
        Err(e) => Err(e),
    };
    let highest = |prefix: &str| {
        let of = |name: &String| {
            let digits: String =
                name.strip_prefix(prefix)?.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        };
        tensors.keys().filter_map(of).max().unwrap_or(0)
    };
    let groups = highest("encoder.blocks.group_");
    Ok(DvaeConfig {
        network: DvaeNetwork::Openai,
        n_hid: first("encoder.blocks.input.w")?,
        n_init: first("decoder.blocks.input.w")?,
        groups,
        blocks: highest("encoder.blocks.group_1.block_"),
        pools: groups.saturating_sub(1),
        vocab: first("encoder.blocks.output.conv.w")?,
    })
}

/// The sizes of a customised dVAE from its tensors: a convolution that halves the sides opens each stage.
pub(super) fn infer_custom(tensors: &Tensors) -> Result<DvaeConfig> {
    let (codebook, input) = ("codebook.weight", "encoder.0.0.weight");
    let &[vocab, n_init] = shape_of(tensors, codebook)? else { return Err(odd(tensors, codebook, "[V, C]")) };
    let &[n_hid, 3, _, _] = shape_of(tensors, input)? else {
        return Err(odd(tensors, input, "[D, 3, 4, 4]"));
    };
    let layers = |end: &str| {
        let own = |name: &String| name.strip_prefix("encoder.")?.strip_suffix(end)?.parse::<usize>().ok();
        tensors.keys().filter_map(own).count()
    };
    let (groups, blocks) = (layers(".0.weight"), layers(".net.0.weight"));
    Ok(DvaeConfig {
        network: DvaeNetwork::Custom,
        n_hid,
        n_init,
        groups,
        blocks: blocks / groups.max(1),
        pools: groups,
        vocab,
    })
}

/// The sizes of a VQ-KD tokenizer from its tensors; its grid is square.
pub(super) fn infer_vq_kd(
    tensors: &Tensors,
    heads: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<VqKdConfig> {
    let half = |name: &str| names::without_prefix(tensors, name);
    let hints = Hints { heads, ..Hints::default() };
    let encoder = infer_vit(&half("encoder"), hints, notes)?;
    let (codes, last) = ("quantize.embedding.weight", "decode_task_layer.2.weight");
    let &[vocab, code] = shape_of(tensors, codes)? else { return Err(odd(tensors, codes, "[V, C]")) };
    let &[target, _] = shape_of(tensors, last)? else { return Err(odd(tensors, last, "[T, D]")) };
    Ok(VqKdConfig {
        image: encoder.image,
        patch: encoder.patch,
        width: encoder.width,
        depth: encoder.depth,
        heads: encoder.heads,
        mlp: encoder.mlp,
        decoder_depth: depth_of(&half("decoder"))?,
        code,
        vocab,
        target,
        layer_norm_eps: encoder.layer_norm_eps,
        mean_patches: tensors.contains_key("mean_patches.weight"),
    })
}

fn shape_of<'a>(tensors: &'a Tensors, name: &str) -> Result<&'a [usize]> {
    tensors.get(name).map(|t| t.shape.as_slice()).ok_or_else(|| {
        let first: Vec<String> = tensors.keys().take(6).cloned().collect();
        Error::checkpoint("a tensor that every such model has is missing").at(name.to_owned()).got(format!(
            "{} tensors: {} ...",
            tensors.len(),
            first.join(", ")
        ))
    })
}

fn odd(tensors: &Tensors, name: &str, expected: &str) -> Error {
    let got = tensors.get(name).map(|t| format!("{:?}", t.shape)).unwrap_or_default();
    Error::checkpoint("tensor of an odd shape").at(format!("tensor {name}")).expected(expected).got(got)
}

/// Number of blocks; they must be numbered without gaps.
fn depth_of(tensors: &Tensors) -> Result<usize> {
    let index = |name: &String| name.strip_prefix("blocks.")?.split_once('.')?.0.parse::<usize>().ok();
    let seen: std::collections::BTreeSet<usize> = tensors.keys().filter_map(index).collect();
    let depth = seen.len();
    match (depth, (0..depth).find(|i| !seen.contains(i))) {
        (0, _) => Err(Error::checkpoint("no transformer blocks in the file").expected("blocks.0 and so on")),
        (_, Some(gap)) => Err(Error::checkpoint("a block is missing")
            .at(format!("blocks.{gap}"))
            .expected(format!("{depth} blocks without gaps"))),
        (_, None) => Ok(depth),
    }
}

/// The grid from the number of patches and of table rows: the squarest that agrees with what is known.
fn grid_of(patches: Option<usize>, rows: Option<usize>) -> Option<(usize, usize)> {
    let root = |n: usize| (0..=n.min(1 << 16)).find(|r| r * r >= n).filter(|r| r * r == n);
    match (patches, rows) {
        (Some(n), None) => {
            let side = root(n)?;
            Some((side, side))
        }
        (None, Some(rows)) => {
            let side = root(rows.checked_sub(3)?)?;
            (side % 2 == 1).then_some((side.div_ceil(2), side.div_ceil(2)))
        }
        (Some(n), Some(rows)) => {
            let fits = |h: &usize| {
                n.is_multiple_of(*h) && (2 * h - 1).checked_mul(2 * (n / h) - 1) == rows.checked_sub(3)
            };
            (1..=n.min(1 << 16)).find(fits).map(|h| (h, n / h))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_from_counts() {
        assert_eq!(grid_of(Some(196), None), Some((14, 14)));
        assert_eq!(grid_of(None, Some(732)), Some((14, 14)));
        assert_eq!(grid_of(Some(15), Some(48)), Some((3, 5)));
        assert_eq!(grid_of(Some(196), Some(732)), Some((14, 14)));
        assert_eq!(grid_of(Some(15), None), None);
        assert_eq!(grid_of(None, Some(2)), None);
        assert_eq!(grid_of(Some(0), Some(usize::MAX)), None);
        assert_eq!(grid_of(None, None), None);
    }
}
