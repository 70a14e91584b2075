//! What attention and its gradient share: sizes, the choice of kernels for an adapter, and their dispatches (the shaders'
//! side of it is `common/attend.wgsl`).

use super::attention::AttentionSpec;
use super::units::vector;
use super::{Access, Arg, Caps, DISPATCH_FLOPS, KernelCall, Tier, UNIFORM_BYTES};
use crate::cpu::Mat;
use crate::graph::TensorType;

/// Sizes read off the types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionSize {
    pub batch: usize,
    pub tokens: usize,
    pub heads: usize,
    pub hd: usize,
}

impl AttentionSize {
    pub(crate) fn of(qkv: &TensorType, heads: usize) -> Self {
        AttentionSize { batch: qkv.dim(0), tokens: qkv.dim(1), heads, hd: qkv.dim(2) / 3 / heads }
    }
    pub(crate) fn width(&self) -> usize {
        self.heads * self.hd
    }
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.hd as f64).sqrt()
    }
    /// One of q (0), k (1), v (2) of an image's `qkv[N,3D]`, for one head, as `[N, hd]`.
    pub(crate) fn part<'a, T>(&self, qkv: &'a [T], which: usize, head: usize) -> Mat<'a, T> {
        Mat { data: &qkv[which * self.width() + head * self.hd..], row: 3 * self.width(), col: 1 }
    }
}

/// Invocations per workgroup of the attention kernels.
const WG: usize = 32;
/// Tokens that the lanes of a subgroup hold.
const LANES: usize = 8;

/// Whether the kernels of `attention_lanes.wgsl` are the ones for an adapter.
pub(crate) fn in_lanes(caps: &Caps) -> bool {
    caps.tier == Tier::Software && caps.subgroup_size == LANES as u32
}

/// Rows that a workgroup of `attention_tile.wgsl` holds, one an invocation.
const TILE_ROWS: usize = 64;
/// Workgroups that keep a GPU busy.
const RUNS: usize = 512;
/// Bytes of workgroup memory for a tile of the other side, a little less than WebGPU guarantees.
const TILE_BYTES: usize = 12 << 10;

/// Whether the kernels of `attention_tile.wgsl` are the ones for an adapter; heads must be narrow enough for registers.
pub(crate) fn in_tiles(caps: &Caps, hd: usize) -> bool {
    caps.tier == Tier::Hardware && hd <= 128
}

/// Whether the kernels for an adapter take q, k, v and what is mixed of them in half precision.
pub(crate) fn takes_half(caps: &Caps, qkv: &TensorType, heads: usize) -> bool {
    let hd = AttentionSize::of(qkv, heads).hd;
    (in_lanes(caps) || in_tiles(caps, hd)) && hd % 4 == 0
}

impl AttentionSize {
    fn complete(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
        tiles: usize,
        stride: usize,
    ) -> KernelCall {
        let vec = vector(&[self.hd]);
        let (gh, gw) = spec.grid.unwrap_or((0, 0));
        call.define("VEC", u32::from(vec == 4))
            .define("UNITS", (self.hd / vec) as u32)
            .define("TABLE", u32::from(spec.grid.is_some()))
            .words(&[self.batch, self.tokens, self.heads, gh, gw])
            .float(self.scale() as f32)
            .words(&[heads.0, heads.1, images, tiles, stride, 1])
    }
    /// Completes a dispatch of the tiles' kernels: `heads` are (first, number), and each workgroup goes through `images`.
    pub(crate) fn in_tiles(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
    ) -> KernelCall {
        let tiles = self.tokens.div_ceil(TILE_ROWS);
        // Two arrays; a power of two from 8 (see `in_tiles`) to 32.
        let fit = (TILE_BYTES / (8 * self.hd)).clamp(8, 32);
        let keys = if fit.is_power_of_two() { fit } else { fit.next_power_of_two() / 2 };
        self.complete(call, spec, heads, images, tiles, self.tokens)
            .define("PARTS", 1)
            .define("WG", TILE_ROWS as u32)
            .define("KEYS", keys as u32)
            .groups(self.batch.div_ceil(images) * heads.1 * tiles)
    }
    /// Groups of heads, (first, number), of one dispatch each: `terms` products of a query and a key row for each pair
    /// stay within the work of a dispatch, and no more than `most` heads.
    pub(crate) fn head_groups(&self, terms: u64, most: usize) -> Vec<(usize, usize)> {
        let fit = (DISPATCH_FLOPS / self.flops(terms, 1).max(1)) as usize;
        let group = fit.min(most).clamp(1, self.heads);
        (0..self.heads).step_by(group).map(|first| (first, group.min(self.heads - first))).collect()
    }
    /// FLOPs of `terms` products for each pair of tokens of some heads.
    pub(crate) fn flops(&self, terms: u64, heads: usize) -> u64 {
        2 * terms * (self.batch * self.tokens * self.tokens) as u64 * (heads * self.hd) as u64
    }
    /// Images that one workgroup goes through when the gradient of the table is summed over them: few enough groups to
    /// keep the map small, enough to keep a GPU busy.
    pub(crate) fn images_of_run(&self) -> usize {
        let groups = self.heads * self.tokens.div_ceil(TILE_ROWS);
        self.batch.div_ceil(RUNS.div_ceil(groups).clamp(1, self.batch))
    }
    /// Rows and columns of a head in the map of summed score gradients.
    pub(crate) fn map_stride(&self, caps: &Caps) -> usize {
        if in_lanes(caps) { self.tokens.next_multiple_of(LANES) } else { self.tokens }
    }
    /// Rows that a lane of the lanes' kernels holds: a tile's loads of the other side cost about as much as the arithmetic
    /// of one row. Heads wider than 32 fill the instruction cache with one row already.
    fn rows_of_lane(&self) -> usize {
        let most = if self.hd <= 32 { 3 } else { 1 };
        let cost = |rows: &usize| self.tokens.div_ceil(LANES * rows) * (1 + rows);
        (1..=most).min_by_key(cost).unwrap_or(1)
    }
    /// Completes a dispatch of the lanes' kernels: `heads` are (first, number), and each workgroup goes through `images`.
    pub(crate) fn lanes(
        &self,
        caps: &Caps,
        call: KernelCall,
        spec: &AttentionSpec,
        heads: (usize, usize),
        images: usize,
    ) -> KernelCall {
        let rows = self.rows_of_lane();
        let tiles = self.tokens.div_ceil(LANES * rows);
        let call = self.complete(call, spec, heads, images, tiles, self.map_stride(caps));
        let groups = self.batch.div_ceil(images) * heads.1 * tiles;
        let parts = if caps.int64 && self.hd % 8 == 0 { 2 } else { 1 };
        let call = call.define("PARTS", parts).define("OCT", u32::from(parts == 2));
        let call = call.define("WORDS", (self.hd / vector(&[self.hd])) as u32 / parts);
        call.define("WIDE", u32::from(caps.int64)).define("R", rows as u32).groups(groups)
    }
    /// Completes a dispatch of the attention kernels with `items` invocations; `heads` are (first, number) of the heads
    /// that a dispatch of the table gradient works on.
    pub(crate) fn dispatch(
        &self,
        call: KernelCall,
        spec: &AttentionSpec,
        items: usize,
        heads: (usize, usize),
        stride: usize,
    ) -> KernelCall {
        self.complete(call, spec, heads, 1, 0, stride).define("WG", WG as u32).over(items, WG)
    }
    /// Query rows of all images and heads.
    pub(crate) fn rows(&self) -> usize {
        self.batch * self.heads * self.tokens
    }
}

/// Binds the table, operand number `input`, if there is one.
pub(crate) fn with_table(call: KernelCall, caps: &Caps, spec: &AttentionSpec, input: usize) -> KernelCall {
    if spec.grid.is_none() {
        return call;
    }
    let at = call.bindings.len() as u32;
    let elements = spec.table_rows() * spec.heads;
    let call = call.define("TABLE_AT", at);
    // Lanes that read different elements of a uniform are quick on a software adapter, of a storage buffer slow.
    if in_lanes(caps) && elements % 4 == 0 && 4 * elements as u64 <= UNIFORM_BYTES {
        return call.bind(Arg::In(input), Access::Uniform).define("TABLE_UNITS", (elements / 4) as u32);
    }
    call.reads(&[input])
}
