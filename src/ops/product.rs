//! The ways to compute a matrix product in WGSL, and the choice between them.
//!
//! The rule goes by the class of the adapter and by the waste at the edges; a timing on the adapter (`gpu::tune`) may
//! override it for a class of shapes. Every variant gives the same result to rounding, which the op suite checks.

use super::{Caps, KernelCall, Tier};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A way to compute a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductVariant {
    /// Register tiles of `rows` × 8 columns a lane, without workgroup memory: by a subgroup that loads each row once, or by
    /// eight lanes that all load it.
    Strip {
        /// 8, 16, 32, 40 or 64.
        rows: usize,
        /// The operands are exchanged and the result is stored transposed.
        swap: bool,
    },
    /// Tiles of `edge` × `edge` in workgroup memory.
    Tile {
        /// 32, 64 or 128.
        edge: usize,
    },
    /// Tiles of 64 × 64 by cooperative matrices of 16 × 16, with operands rounded to halves.
    Coop,
}

use ProductVariant as Variant;

impl fmt::Display for ProductVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Variant::Strip { rows, swap: false } => format!("strip-{rows}"),
            Variant::Strip { rows, swap: true } => format!("strip-{rows}-swapped"),
            Variant::Tile { edge } => format!("tile-{edge}"),
            Variant::Coop => "coop".into(),
        })
    }
}

/// Classes of shapes that a choice is made for: whether the product has many rows, and many columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapeClass {
    /// 512 rows or more.
    pub tall: bool,
    /// 512 columns or more.
    pub wide: bool,
}

impl ShapeClass {
    /// All four.
    pub const ALL: [ShapeClass; 4] = [
        ShapeClass { tall: false, wide: false },
        ShapeClass { tall: true, wide: false },
        ShapeClass { tall: false, wide: true },
        ShapeClass { tall: true, wide: true },
    ];
    /// The class of a product.
    pub fn of(m: usize, n: usize) -> Self {
        ShapeClass { tall: m >= 512, wide: n >= 512 }
    }
    /// Number in [`ShapeClass::ALL`] and in [`Caps::products`].
    pub fn index(self) -> usize {
        usize::from(self.tall) + 2 * usize::from(self.wide)
    }
    /// A product of the class, (m, n, k), of the kind that transformers have.
    pub fn example(self) -> (usize, usize, usize) {
        match (self.tall, self.wide) {
            (false, false) => (192, 192, 1024),
            (true, false) => (1576, 192, 256),
            (false, true) => (192, 1536, 256),
            (true, true) => (1576, 768, 192),
        }
    }
}

impl fmt::Display for ShapeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |large| if large { "many" } else { "few" };
        write!(f, "{} rows, {} columns", size(self.tall), size(self.wide))
    }
}

/// What was chosen for a run's kernels on an adapter. It is kept with the run, which goes on with the same ones however a
/// later timing turns out, so that its sums keep their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChoices {
    /// Name of the adapter.
    pub adapter: String,
    /// Variants of matrix products.
    pub products: Choices,
    /// What is joined to them.
    pub fusions: super::Fusions,
}

/// Choices made for an adapter, by [`ShapeClass::index`]; `None` leaves it to the rule.
pub type Choices = [Option<ProductVariant>; 4];

impl ProductVariant {
    /// All variants.
    pub const ALL: [ProductVariant; 14] = [
        Variant::Strip { rows: 8, swap: false },
        Variant::Strip { rows: 16, swap: false },
        Variant::Strip { rows: 32, swap: false },
        Variant::Strip { rows: 40, swap: false },
        Variant::Strip { rows: 64, swap: false },
        Variant::Strip { rows: 8, swap: true },
        Variant::Strip { rows: 16, swap: true },
        Variant::Strip { rows: 32, swap: true },
        Variant::Strip { rows: 40, swap: true },
        Variant::Strip { rows: 64, swap: true },
        Variant::Tile { edge: 32 },
        Variant::Tile { edge: 64 },
        Variant::Tile { edge: 128 },
        Variant::Coop,
    ];
    /// Whether an adapter has the features that the variant needs.
    pub fn runs_on(self, caps: &Caps) -> bool {
        match self {
            Variant::Strip { .. } | Variant::Tile { .. } => true,
            Variant::Coop => caps.cooperative && caps.half,
        }
    }
    /// Whether it is worth a timing on an adapter: on a GPU short register tiles where it has subgroups, tiles in workgroup
    /// memory, and cooperative matrices; elsewhere register tiles.
    pub fn suits(self, caps: &Caps) -> bool {
        self.runs_on(caps)
            && match (self, caps.tier) {
                (Variant::Strip { rows, .. }, Tier::Hardware) => rows <= 16 && shares_loads(caps),
                (Variant::Strip { .. }, _) => true,
                (_, tier) => tier == Tier::Hardware,
            }
    }
    /// The variant for a product of `(m, n, k)`: the one chosen for the adapter, else the one that wastes least. `eights`:
    /// both operands can be read in eights.
    pub fn choose(caps: &Caps, (m, n, k): (usize, usize, usize), eights: bool) -> Self {
        let chosen = caps.products[ShapeClass::of(m, n).index()].filter(|v| v.runs_on(caps));
        chosen.unwrap_or_else(|| Self::by_rule(caps, (m, n, k), eights))
    }
    /// The variant that wastes least by the adapter's class.
    pub fn by_rule(caps: &Caps, (m, n, k): (usize, usize, usize), eights: bool) -> Self {
        if caps.tier == Tier::Hardware {
            let edge = [128, 64].into_iter().find(|&e| tiles(m, n, (e, e)) >= BUSY && m.min(n) > e / 2);
            return Variant::Tile { edge: edge.unwrap_or(if m.min(n) > 32 { 64 } else { 32 }) };
        }
        let mut best = (usize::MAX, Variant::Strip { rows: 16, swap: false });
        for swap in [false, true] {
            for &rows in strip_rows(caps) {
                let (m, n) = if swap { (n, m) } else { (m, n) };
                let variant = Variant::Strip { rows, swap };
                let (parts, chunk) = variant.split(caps, m, n, k);
                let groups = (tiles(m, n, variant.tile(caps)) * parts).next_multiple_of(THREADS);
                let cost = strip_cost(caps, rows, eights) * groups * chunk;
                if cost < best.0 {
                    best = (cost, variant);
                }
            }
        }
        best.1
    }
    /// Whether the variant reads operands in eights that can be.
    pub(crate) fn in_eights(self, caps: &Caps, eights: bool) -> bool {
        matches!(self, Variant::Strip { .. }) && eights && reads_eights(caps)
    }
    /// Rows and columns of one workgroup.
    pub(crate) fn tile(self, caps: &Caps) -> (usize, usize) {
        match self {
            Variant::Strip { rows, .. } => (rows, strip_columns(caps)),
            Variant::Tile { edge } => (edge, edge),
            Variant::Coop => (64, 64),
        }
    }
    /// Terms of k between two looks at the loop condition.
    pub(crate) fn step(self) -> usize {
        match self {
            Variant::Strip { .. } => 4, // 8 in eights, then without a rest
            Variant::Tile { edge: 64 } | Variant::Coop => 16,
            Variant::Tile { .. } => 8,
        }
    }
    /// Parts of k so that about as many workgroups run as the adapter wants, and the length of a part.
    pub(crate) fn split(self, caps: &Caps, m: usize, n: usize, k: usize) -> (usize, usize) {
        let (want, shortest) = if caps.tier == Tier::Hardware { (BUSY, 256) } else { (16, 512) };
        let parts = (want / tiles(m, n, self.tile(caps))).min(k / shortest).clamp(1, 64);
        let chunk = k.div_ceil(parts).next_multiple_of(self.step().max(8));
        (k.div_ceil(chunk), chunk)
    }
    /// The variant for the rows of a convolution: where lanes share no loads, each finds the place of every row of its
    /// tile itself, and for tall tiles that is more code than SwiftShader's compiler has memory for.
    pub(crate) fn under_taps(self, caps: &Caps) -> Self {
        match self {
            Variant::Strip { swap, .. } if !shares_loads(caps) => Variant::Strip { rows: 8, swap },
            other => other,
        }
    }
    /// Rows of the tile that one lane of a register tile loads.
    pub(crate) fn rows_loaded(self, caps: &Caps) -> usize {
        if shares_loads(caps) { self.tile(caps).0 / 8 } else { self.tile(caps).0 }
    }
    /// File stem of its shader.
    pub(crate) fn shader(self) -> &'static str {
        match self {
            Variant::Strip { .. } => "matmul",
            Variant::Tile { .. } => "matmul_tile",
            Variant::Coop => "matmul_coop",
        }
    }
    /// The defines of the variant.
    pub(crate) fn define(self, call: KernelCall, caps: &Caps) -> KernelCall {
        match self {
            Variant::Strip { rows, swap } => call
                .define("ROWS", rows as u32)
                .define("STRIPS", (rows / 8) as u32)
                .define("SWAP", u32::from(swap))
                .define("SUBGROUP", u32::from(shares_loads(caps)))
                .define("LANES", lanes(caps) as u32)
                .define("WIDE", u32::from(caps.int64)),
            Variant::Tile { edge } => call
                .define("EDGE", edge as u32)
                .define("DEPTH", self.step() as u32)
                .define("WG", (edge * self.step() / 4) as u32)
                .define("BIG", u32::from(edge == 128)),
            Variant::Coop => call,
        }
    }
}

/// Whether the lanes of a register tile are a subgroup, so that one of them loads for all.
fn shares_loads(caps: &Caps) -> bool {
    [8, 16, 32, 64].contains(&caps.subgroup_size)
}
/// Whether lanes that share loads read eight numbers in one move.
fn reads_eights(caps: &Caps) -> bool {
    caps.int64 && shares_loads(caps)
}
/// Lanes of a register tile.
fn lanes(caps: &Caps) -> usize {
    if shares_loads(caps) { caps.subgroup_size as usize } else { 8 }
}
/// Columns of a register tile: eight a lane.
fn strip_columns(caps: &Caps) -> usize {
    8 * lanes(caps)
}
/// Threads of a software adapter, at a guess.
const THREADS: usize = 4;
/// Workgroups that keep a GPU busy.
const BUSY: usize = 128;

fn tiles(m: usize, n: usize, tile: (usize, usize)) -> usize {
    m.div_ceil(tile.0) * n.div_ceil(tile.1)
}

/// Heights of register tiles to choose from.
///
/// Tall tiles are repaid where lanes share their loads, up to 40 rows: 64 make a step no faster, and are more code than the
/// instruction cache holds, which takes twice as long to compile and as much more memory. In SwiftShader, where lanes share
/// nothing, 8 rows are 1.2 to 1.4 times as fast as 16 to 64 and quicker to compile.
fn strip_rows(caps: &Caps) -> &'static [usize] {
    if shares_loads(caps) { &[40, 32, 16] } else { &[8] }
}

/// Cost of one term of k of a register tile.
///
/// Loads go lane by lane and word by word, arithmetic by vectors of eight. With operands in eights loads are cheap; the
/// numbers were fitted to times on llvmpipe.
fn strip_cost(caps: &Caps, rows: usize, eights: bool) -> usize {
    if eights && reads_eights(caps) {
        return 16 + rows;
    }
    let columns = strip_columns(caps);
    let words = if shares_loads(caps) { rows + columns } else { 8 * rows + columns };
    4 * words + rows * columns / 8
}
