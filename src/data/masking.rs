//! Masks of patches: blockwise as in the released BEiT code, as printed in the paper, and uniformly random.
//!
//! A mask is `rows * columns` flags in row-major order, true = masked. It is a pure function of its key.

use crate::rng::{Draws, Key};
use crate::{Error, Result};

/// Attempts at one block before the generator of the released code gives up.
const ATTEMPTS: usize = 10;
/// Bound of the paper's loop, which has none; it ends after four or five blocks where it can end at all.
const MOST_BLOCKS: usize = 10_000;

/// How the masked patches are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskKind {
    /// Rectangles until the target is reached or no block fits; never more than the target.
    Blockwise,
    /// Rectangles until more than the target is masked; overshoots.
    Paper,
    /// Exactly the target, uniformly without replacement.
    Random,
    /// No patch.
    None,
}

/// Settings of the mask generator.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskSpec {
    /// Rows of the patch grid.
    pub rows: usize,
    /// Columns of the patch grid.
    pub columns: usize,
    /// Number of patches to mask.
    pub target: usize,
    /// Smallest block, patches.
    pub min_block: usize,
    /// Largest block, patches.
    pub max_block: usize,
    /// Smallest ratio of height to width of a block; the largest is its inverse.
    pub min_aspect: f64,
    /// How patches are chosen.
    pub kind: MaskKind,
}

impl MaskSpec {
    /// Blockwise masks with the published aspect range and no bound on a block but the target.
    pub fn blockwise(rows: usize, columns: usize, target: usize, min_block: usize) -> Self {
        let kind = MaskKind::Blockwise;
        MaskSpec { rows, columns, target, min_block, max_block: target, min_aspect: 0.3, kind }
    }

    /// Number of patches.
    pub fn cells(&self) -> usize {
        self.rows.saturating_mul(self.columns)
    }

    /// Refuses settings that cannot work, naming the flag.
    pub fn validate(&self) -> Result<()> {
        let grid = format!("{}x{} grid of {} patches", self.rows, self.columns, self.cells());
        if self.cells() == 0 {
            return Err(wrong("patch grid", "at least one row and one column", &grid));
        }
        if self.kind == MaskKind::None {
            return Ok(());
        }
        // The paper's loop runs until more than the target is masked.
        let most = self.cells() - usize::from(self.kind == MaskKind::Paper);
        if self.target == 0 || self.target > most {
            let expected = format!("1 to {most} on a {grid}");
            return Err(wrong("num-mask-patches", &expected, &self.target.to_string()));
        }
        if self.kind == MaskKind::Random { Ok(()) } else { self.validate_blocks(&grid) }
    }

    fn validate_blocks(&self, grid: &str) -> Result<()> {
        if self.rows < 2 || self.columns < 2 {
            let e = wrong("mask-kind", "at least 2 rows and 2 columns for blocks", grid);
            return Err(e.hint("take random masks on such a grid"));
        }
        // A block is strictly smaller than the grid in both directions.
        let most = self.target.min((self.rows - 1) * (self.columns - 1));
        if self.min_block == 0 || self.min_block > most {
            let expected = format!("1 to {most} with {} masked patches on a {grid}", self.target);
            return Err(wrong("min-mask-block", &expected, &self.min_block.to_string()));
        }
        if self.max_block < self.min_block {
            let expected = format!("min-mask-block ({}) or more", self.min_block);
            return Err(wrong("max-mask-block", &expected, &self.max_block.to_string()));
        }
        if !(self.min_aspect > 0.0 && self.min_aspect <= 1.0) {
            return Err(wrong("min-mask-aspect", "above 0 and at most 1", &self.min_aspect.to_string()));
        }
        Ok(())
    }
}

fn wrong(flag: &str, expected: &str, got: &str) -> Error {
    Error::config("impossible mask").at(flag).expected(expected).got(got)
}

/// Draws one mask. Always ends; never empty unless the grid is or nothing is to be masked.
pub fn generate(spec: &MaskSpec, key: Key) -> Vec<bool> {
    let mut grid = Grid { rows: spec.rows, columns: spec.columns, cells: vec![false; spec.cells()] };
    let mut draws = key.draws();
    match spec.kind {
        MaskKind::Blockwise => blockwise(spec, &mut grid, &mut draws),
        MaskKind::Paper => paper(spec, &mut grid, &mut draws),
        MaskKind::Random => random(&mut grid, spec.target, &mut draws),
        MaskKind::None => return grid.cells,
    }
    // A loss over no patches is undefined, so one cell stands in where no block could be placed.
    if !grid.cells.contains(&true) {
        random(&mut grid, 1, &mut draws);
    }
    grid.cells
}

struct Grid {
    rows: usize,
    columns: usize,
    cells: Vec<bool>,
}

/// A rectangle of patches.
struct Block {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl Grid {
    fn block_rows(&mut self, block: &Block) -> impl Iterator<Item = &mut [bool]> {
        let (left, width) = (block.left, block.width);
        let rows = self.cells.chunks_exact_mut(self.columns.max(1)).skip(block.top).take(block.height);
        rows.filter_map(move |row| row.get_mut(left..left + width))
    }

    /// Cells of the block that are not masked yet.
    fn fresh(&mut self, block: &Block) -> usize {
        self.block_rows(block).map(|row| row.iter().filter(|masked| !**masked).count()).sum()
    }

    fn mark(&mut self, block: &Block) {
        self.block_rows(block).for_each(|row| row.fill(true));
    }
}

/// Height and width of a block: area uniform between the bounds in whichever order they come, aspect log-uniform.
fn draw_sides(spec: &MaskSpec, budget: usize, draws: &mut Draws) -> (usize, usize) {
    let area = draws.range(spec.min_block as f64, budget as f64);
    let log = spec.min_aspect.ln();
    let ratio = draws.range(log, -log).exp();
    let side = |s: f64| s.sqrt().round_ties_even() as usize;
    (side(area * ratio), side(area / ratio))
}

fn place(height: usize, width: usize, grid: &Grid, draws: &mut Draws) -> Block {
    let top = draws.below(grid.rows - height + 1);
    let left = draws.below(grid.columns - width + 1);
    Block { top, left, height, width }
}

fn blockwise(spec: &MaskSpec, grid: &mut Grid, draws: &mut Draws) {
    let mut count = 0;
    while count < spec.target {
        let budget = (spec.target - count).min(spec.max_block);
        match add_block(spec, budget, grid, draws) {
            0 => return,
            fresh => count += fresh,
        }
    }
}

/// Tries to place one block that adds between 1 and `budget` patches; returns how many it added.
fn add_block(spec: &MaskSpec, budget: usize, grid: &mut Grid, draws: &mut Draws) -> usize {
    for _ in 0..ATTEMPTS {
        let (height, width) = draw_sides(spec, budget, draws);
        if height >= grid.rows || width >= grid.columns {
            continue;
        }
        let block = place(height, width, grid, draws);
        let fresh = grid.fresh(&block);
        if (1..=budget).contains(&fresh) {
            grid.mark(&block);
            return fresh;
        }
    }
    0
}

fn paper(spec: &MaskSpec, grid: &mut Grid, draws: &mut Draws) {
    let mut count = 0;
    for _ in 0..MOST_BLOCKS {
        if count > spec.target {
            return;
        }
        let (height, width) = draw_sides(spec, (spec.target - count).min(spec.max_block), draws);
        if height > grid.rows || width > grid.columns {
            continue;
        }
        let block = place(height, width, grid, draws);
        count += grid.fresh(&block);
        grid.mark(&block);
    }
}

/// Marks `target` cells by a partial shuffle of the free ones.
fn random(grid: &mut Grid, target: usize, draws: &mut Draws) {
    let mut order: Vec<usize> = (0..grid.cells.len()).collect();
    for i in 0..target.min(order.len()) {
        let other = i + draws.below(order.len() - i);
        order.swap(i, other);
        if let Some(cell) = order.get(i).and_then(|&c| grid.cells.get_mut(c)) {
            *cell = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Stream;

    fn count(mask: &[bool]) -> usize {
        mask.iter().filter(|&&m| m).count()
    }

    fn masks(spec: &MaskSpec, n: u32) -> impl Iterator<Item = Vec<bool>> {
        (0..n).map(|i| generate(spec, Key::new(3, Stream::Mask, i)))
    }

    #[test]
    fn statistics_of_the_standard_mask() {
        let spec = MaskSpec::blockwise(14, 14, 75, 16);
        let (mut sum, mut full, mut corner, mut centre) = (0, 0, 0, 0);
        for mask in masks(&spec, 10_000) {
            let n = count(&mask);
            assert!((1..=75).contains(&n));
            sum += n;
            full += usize::from(n == 75);
            corner += usize::from(mask[0]);
            centre += usize::from(mask[6 * 14 + 6]);
        }
        let share = |n: usize| n as f64 / 1e4;
        assert!((share(sum) - 74.47).abs() < 0.05, "mean {}", share(sum));
        assert!((share(full) - 0.664).abs() < 0.02, "full {}", share(full));
        assert!((share(corner) - 0.041).abs() < 0.008, "corner {}", share(corner));
        assert!((share(centre) - 0.715).abs() < 0.02, "centre {}", share(centre));
    }

    #[test]
    fn never_over_target_and_never_empty() {
        let spec = MaskSpec::blockwise(14, 14, 75, 16);
        assert!(masks(&spec, 100_000).all(|m| (1..=75).contains(&count(&m))));
        for rows in 1..=5 {
            for columns in 1..=5 {
                for target in 1..=rows * columns {
                    for min_block in 1..=target {
                        let mut spec = MaskSpec::blockwise(rows, columns, target, min_block);
                        assert!(masks(&spec, 20).all(|m| (1..=target).contains(&count(&m))), "{spec:?}");
                        spec.kind = MaskKind::Random;
                        assert!(masks(&spec, 3).all(|m| count(&m) == target), "{spec:?}");
                        spec.kind = MaskKind::Paper;
                        assert!(masks(&spec, 1).all(|m| count(&m) >= 1), "{spec:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn paper_variant_overshoots_as_published() {
        let spec = MaskSpec {
            target: 78,
            max_block: 78,
            kind: MaskKind::Paper,
            ..MaskSpec::blockwise(14, 14, 78, 16)
        };
        let counts: Vec<usize> = masks(&spec, 10_000).map(|m| count(&m)).collect();
        let mean = counts.iter().sum::<usize>() as f64 / 1e4;
        assert!(counts.iter().all(|&n| n >= 79));
        assert!((mean - 82.6).abs() < 0.5, "mean {mean}");
    }

    #[test]
    fn blocks_are_connected_and_random_is_not() {
        let share_of_masked_neighbours = |spec: &MaskSpec| {
            let (mut both, mut all) = (0usize, 0usize);
            for mask in masks(spec, 2000) {
                for i in (0..196).filter(|i| i % 14 != 13) {
                    all += usize::from(mask[i]);
                    both += usize::from(mask[i] && mask[i + 1]);
                }
            }
            both as f64 / all as f64
        };
        let spec = MaskSpec::blockwise(14, 14, 75, 16);
        assert!((share_of_masked_neighbours(&spec) - 0.862).abs() < 0.02);
        let random = MaskSpec { kind: MaskKind::Random, ..spec };
        assert!((share_of_masked_neighbours(&random) - 0.38).abs() < 0.02);
    }

    #[test]
    fn impossible_settings_name_their_flag() {
        let at = |spec: MaskSpec| spec.validate().err().and_then(|e| e.at);
        let good = MaskSpec::blockwise(8, 8, 25, 4);
        assert_eq!(at(good.clone()), None);
        assert_eq!(at(MaskSpec { target: 0, ..good.clone() }).as_deref(), Some("num-mask-patches"));
        assert_eq!(at(MaskSpec { target: 65, ..good.clone() }).as_deref(), Some("num-mask-patches"));
        assert_eq!(at(MaskSpec { min_block: 26, ..good.clone() }).as_deref(), Some("min-mask-block"));
        assert_eq!(at(MaskSpec { min_block: 0, ..good.clone() }).as_deref(), Some("min-mask-block"));
        assert_eq!(at(MaskSpec { max_block: 3, ..good.clone() }).as_deref(), Some("max-mask-block"));
        assert_eq!(at(MaskSpec { min_aspect: f64::NAN, ..good.clone() }).as_deref(), Some("min-mask-aspect"));
        assert_eq!(at(MaskSpec { rows: 1, ..good.clone() }).as_deref(), Some("num-mask-patches"));
        assert_eq!(at(MaskSpec { rows: 1, target: 4, ..good.clone() }).as_deref(), Some("mask-kind"));
        assert_eq!(at(MaskSpec { rows: 0, ..good }).as_deref(), Some("patch grid"));
    }
}
