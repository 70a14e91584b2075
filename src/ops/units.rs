//! Grids of the light kernels: one invocation per unit of four elements (or one), or per word of eight, or per row, or a workgroup
//! per row.

use super::{Caps, KernelCall, Tier};

/// Invocations of a workgroup of an elementwise kernel.
const EACH: usize = 64;

/// 4 if every size divides by 4, so that a kernel may read and write vectors; else 1.
pub(crate) fn vector(sizes: &[usize]) -> usize {
    if sizes.iter().all(|s| s % 4 == 0) { 4 } else { 1 }
}

/// Elements of a word, what a kernel with PARTS loads and stores at once: 8 on a software adapter with 64-bit integers, where
/// a lane's move costs by its components, whatever their width; else a unit.
pub(crate) fn widest(caps: &Caps, sizes: &[usize]) -> usize {
    let octs = caps.tier == Tier::Software && caps.int64;
    if octs && sizes.iter().all(|s| s % 8 == 0) { 8 } else { vector(sizes) }
}

/// Whether the eight lanes of a subgroup can hold rows of `width`: on a software adapter, whole words a lane, and not so many
/// that they cost more in compiling than they save.
pub(crate) fn lanes_hold(caps: &Caps, width: usize) -> bool {
    widest(caps, &[width]) == 8 && caps.subgroup_size == 8 && width % 64 == 0 && width <= 1024
}

impl KernelCall {
    /// `vec` elements per unit, or two units of four per word ([`widest`]).
    fn in_units(self, vec: usize) -> Self {
        let call = self.define("VEC", u32::from(vec >= 4));
        if vec == 8 {
            return call.define("PARTS", 2).define("OCT", 1).define("WIDE", 1);
        }
        call.define("PARTS", 1)
    }
    /// Rows of `cols` words in blocks of `block`: one invocation per word of a row and block.
    pub(crate) fn down(self, caps: &Caps, blocks: usize, cols: usize, vec: usize) -> Self {
        let group = if caps.tier == Tier::Hardware { EACH } else { 16 };
        self.in_units(vec).define("WG", group as u32).over(blocks * cols, group)
    }
    /// Blocks of rows of `width`, each by a workgroup whose subgroup holds a row (common/lanes.wgsl); see [`lanes_hold`].
    pub(crate) fn lanes(self, blocks: usize, width: usize) -> Self {
        self.in_units(8).define("WORDS", (width / 64) as u32).define("WG", 8).groups(blocks)
    }
    /// One invocation per unit or word.
    pub(crate) fn each(self, units: usize, vec: usize) -> Self {
        self.in_units(vec).define("WG", EACH as u32).over(units, EACH)
    }
    /// `units` in runs of consecutive ones per invocation: where the constants of a kernel cost as much as its work.
    pub(crate) fn runs(self, caps: &Caps, units: usize, vec: usize) -> Self {
        let run = if caps.tier == Tier::Hardware { 1 } else { 64 / vec.max(4) };
        self.in_units(vec).define("WG", EACH as u32).define("RUN", run as u32).over(units.div_ceil(run), EACH)
    }
    /// Rows of `units`: one invocation per row on a software adapter, a workgroup with a tree of sums on a GPU.
    pub(crate) fn rows(self, caps: &Caps, rows: usize, units: usize, vec: usize) -> Self {
        let call = self.in_units(vec);
        if caps.tier == Tier::Hardware {
            let lanes = units.next_power_of_two().clamp(32, 256);
            call.define("TREE", 1).define("WG", lanes as u32).groups(rows)
        } else {
            // Few rows in small workgroups: threads take them one by one.
            let group = if rows < 512 { 8 } else { 16 };
            call.define("WG", group as u32).over(rows, group)
        }
    }
    /// One workgroup over everything, with a tree of sums.
    pub(crate) fn alone(self, vec: usize) -> Self {
        self.in_units(vec).define("TREE", 1).define("WG", 64).groups(1)
    }
}
