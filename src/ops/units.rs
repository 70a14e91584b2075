//! Grids of the light kernels: one invocation per unit of four elements (or one), or per row, or a workgroup per row.

use super::{Caps, KernelCall, Tier};

/// Invocations of a workgroup of an elementwise kernel.
const EACH: usize = 64;

/// 4 if every size divides by 4, so that a kernel may read and write vectors; else 1.
pub(crate) fn vector(sizes: &[usize]) -> usize {
    if sizes.iter().all(|s| s % 4 == 0) { 4 } else { 1 }
}

impl KernelCall {
    /// Elements per unit: the kernel's type `E` holds `vec`.
    fn in_units(self, vec: usize) -> Self {
        self.define("VEC", u32::from(vec == 4))
    }
    /// One invocation per unit.
    pub(crate) fn each(self, units: usize, vec: usize) -> Self {
        self.in_units(vec).define("WG", EACH as u32).over(units, EACH)
    }
    /// `units` in runs of consecutive ones per invocation: where the constants of a kernel cost as much as its work.
    pub(crate) fn runs(self, caps: &Caps, units: usize, vec: usize) -> Self {
        let run = if caps.tier == Tier::Hardware { 1 } else { 16 };
        self.in_units(vec).define("WG", EACH as u32).define("RUN", run as u32).over(units.div_ceil(run), EACH)
    }
    /// Rows of `units`: one invocation per row on a software adapter, a workgroup with a tree of sums on a GPU.
    pub(crate) fn rows(self, caps: &Caps, rows: usize, units: usize, vec: usize) -> Self {
        let call = self.in_units(vec);
        if caps.tier == Tier::Hardware {
            let lanes = units.next_power_of_two().clamp(32, 256);
            call.define("TREE", 1).define("WG", lanes as u32).groups(rows)
        } else {
            call.define("WG", 16).over(rows, 16)
        }
    }
    /// One workgroup over everything, with a tree of sums.
    pub(crate) fn alone(self, vec: usize) -> Self {
        self.in_units(vec).define("TREE", 1).define("WG", 64).groups(1)
    }
}
