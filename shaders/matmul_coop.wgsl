// C[m,n] = A·B (+ bias[n]) (+ C if ACCUMULATE) by cooperative matrices of 16 × 16: the variant for GPUs that list f16
// operands with f32 sums, in half precision only.
//
// Shapes and storage of A and B: common/operands.wgsl. Grid: one workgroup per tile of 64 × 64, times the parts of k,
// which matmul_sum.wgsl adds. Four subgroups of 32 hold a quarter of the tile each, as 2 × 2 blocks. Operands are rounded
// to halves on their way into workgroup memory, whatever they are kept in. Accumulation in f32.

enable f16;
enable wgpu_cooperative_matrix;

#import grid
#import words
#import operands
#import result
#import put

const WG: u32 = 128u;
const EDGE: u32 = 64u;
const DEPTH: u32 = 16u;
var<workgroup> rows: array<f16, 1024>; // [row, k]
var<workgroup> cols: array<f16, 1024>; // [k, col]
var<workgroup> blocks: array<f32, 1024>; // a block of each subgroup

// Where the four numbers of load `q` lie: (row or column, k), neighbours along k, or across it.
fn along(q: u32) -> vec2<u32> {
    return vec2(q / 4u, q % 4u * 4u);
}
fn across(q: u32) -> vec2<u32> {
    return vec2(q % 16u * 4u, q / 16u);
}
fn load_left(q: u32, row: u32, k: u32) {
#if TA
    let at = across(q);
    let v = vec4<f16>(left(row + at.x, k + at.y));
#repeat i 4
    rows[(at.x + i) * DEPTH + at.y] = v[i];
#end
#else
    let at = along(q);
    let v = vec4<f16>(left(row + at.x, k + at.y));
#repeat i 4
    rows[at.x * DEPTH + at.y + i] = v[i];
#end
#endif
}
fn load_right(q: u32, k: u32, col: u32) {
#if TB
    let at = along(q);
    let v = vec4<f16>(right(k + at.y, col + at.x));
#repeat i 4
    cols[(at.y + i) * EDGE + at.x] = v[i];
#end
#else
    let at = across(q);
    let v = vec4<f16>(right(k + at.y, col + at.x));
#repeat i 4
    cols[at.y * EDGE + at.x + i] = v[i];
#end
#endif
}

// Stores the block that each subgroup has put into its part of `blocks`: four neighbours per lane and turn.
fn store_block(at: u32, row: u32, col: u32, own: u32, lane: u32) {
    let j = col + lane % 4u * 4u;
    let e = ends(j);
    for (var q = lane; q < 64u; q += 32u) {
        let start = own + q * 4u;
        let v = vec4(blocks[start], blocks[start + 1u], blocks[start + 2u], blocks[start + 3u]);
        put_row(at, row + q / 4u, j, e, v);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) t: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let group = group_index(wid);
    let tiles = p.tiles_m * p.tiles_n;
    // The same for the whole workgroup, which the barriers below need.
    let part = group / tiles;
    let row = group % tiles / p.tiles_n * EDGE;
    let col = group % p.tiles_n * EDGE;
    let end = min(p.k, (part + 1u) * p.chunk);
    let quarter_row = subgroup / 2u * 32u;
    let quarter_col = subgroup % 2u * 32u;
    var s00 = coop_mat16x16<f32, C>();
    var s01 = coop_mat16x16<f32, C>();
    var s10 = coop_mat16x16<f32, C>();
    var s11 = coop_mat16x16<f32, C>();
    for (var k = part * p.chunk; k < end; k += DEPTH) {
        load_left(t, row, k);
        load_left(t + WG, row, k);
        load_right(t, k, col);
        load_right(t + WG, k, col);
        workgroupBarrier();
        let a0 = coopLoadT<coop_mat16x16<f16, A>>(&rows[quarter_row * DEPTH], DEPTH);
        let a1 = coopLoadT<coop_mat16x16<f16, A>>(&rows[(quarter_row + 16u) * DEPTH], DEPTH);
        let b0 = coopLoadT<coop_mat16x16<f16, B>>(&cols[quarter_col], EDGE);
        let b1 = coopLoadT<coop_mat16x16<f16, B>>(&cols[quarter_col + 16u], EDGE);
        s00 = coopMultiplyAdd(a0, b0, s00);
        s01 = coopMultiplyAdd(a0, b1, s01);
        s10 = coopMultiplyAdd(a1, b0, s10);
        s11 = coopMultiplyAdd(a1, b1, s11);
        workgroupBarrier();
    }
    let at = p.c_at + part * p.m * p.n;
    let own = subgroup * 256u;
    let r = row + quarter_row;
    let c0 = col + quarter_col;
    coopStoreT(s00, &blocks[own], 16u);
    workgroupBarrier();
    store_block(at, r, c0, own, lane);
    workgroupBarrier();
    coopStoreT(s01, &blocks[own], 16u);
    workgroupBarrier();
    store_block(at, r, c0 + 16u, own, lane);
    workgroupBarrier();
    coopStoreT(s10, &blocks[own], 16u);
    workgroupBarrier();
    store_block(at, r + 16u, c0, own, lane);
    workgroupBarrier();
    coopStoreT(s11, &blocks[own], 16u);
    workgroupBarrier();
    store_block(at, r + 16u, c0 + 16u, own, lane);
}
