// C[m,n] = A·B (+ bias[n]) (+ C if ACCUMULATE), register tiles: the variant for software adapters, and for subgroups.
//
// Shapes and storage of A and B: common/operands.wgsl; the tile: common/strip.wgsl.
// Grid: one workgroup of LANES lanes per tile of ROWS × 8·LANES, times the parts of k; parts are summed by matmul_sum.wgsl.
// SWAP: the host exchanged the operands to make the rows the narrow side, so the tile is stored transposed.
// Accumulation in f32, in the order of k: deterministic.

#import grid
#import words
#import operands
#import strip

#import result
#import tile_store

#if SUBGROUP
// What lane `lane` loads of eight rows from `row` and four k from `k`; lanes beyond the eighth load the same again.
fn load_left(row: u32, k: u32, lane: u32) -> Left {
#if TA
    return left(row + (lane & 4u), k + (lane & 3u));
#else
    return left(row + (lane & 7u), k);
#endif
}
#else
fn load_left(row: u32, k: u32, lane: u32) -> Left {
#if TA
    let lo = transpose(mat4x4(left(row, k), left(row, k + 1u), left(row, k + 2u), left(row, k + 3u)));
    let hi = transpose(mat4x4(left(row + 4u, k), left(row + 4u, k + 1u), left(row + 4u, k + 2u), left(row + 4u, k + 3u)));
    return Left(lo[0], lo[1], lo[2], lo[3], hi[0], hi[1], hi[2], hi[3]);
#else
    return Left(left(row, k), left(row + 1u, k), left(row + 2u, k), left(row + 3u, k), left(row + 4u, k), left(row + 5u, k), left(row + 6u, k), left(row + 7u, k));
#endif
}
#endif

// Four k of four columns: column j of the matrix is k + j.
fn load_right(k: u32, col: u32) -> mat4x4<f32> {
#if TB
    return transpose(mat4x4(right(k, col), right(k, col + 1u), right(k, col + 2u), right(k, col + 3u)));
#else
    return mat4x4(right(k, col), right(k + 1u, col), right(k + 2u, col), right(k + 3u, col));
#endif
}

#if SUBGROUP
// The workgroup is one subgroup.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
#else
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
#endif
    let group = group_index(wid);
    let tiles = p.tiles_m * p.tiles_n;
    if group >= tiles * ((p.k + p.chunk - 1u) / p.chunk) {
        return;
    }
    let part = group / tiles;
    let row = (group % tiles) / p.tiles_n * ROWS;
    let col = (group % p.tiles_n) * (8u * LANES) + lane * 8u;
    let end = min(p.k, (part + 1u) * p.chunk);
    var tile: Tile;
    for (var k = part * p.chunk; k < end; k += 4u) {
        let lo = load_right(k, col);
        let hi = load_right(k, col + 4u);
        strip(&tile, 0u, load_left(row, k, lane), lo, hi);
#if PAIR
        strip(&tile, 16u, load_left(row + 8u, k, lane), lo, hi);
#endif
#if MID
        strip(&tile, 32u, load_left(row + 16u, k, lane), lo, hi);
        strip(&tile, 48u, load_left(row + 24u, k, lane), lo, hi);
#endif
#if TALL
        strip(&tile, 64u, load_left(row + 32u, k, lane), lo, hi);
        strip(&tile, 80u, load_left(row + 40u, k, lane), lo, hi);
        strip(&tile, 96u, load_left(row + 48u, k, lane), lo, hi);
        strip(&tile, 112u, load_left(row + 56u, k, lane), lo, hi);
#endif
    }
    let at = p.c_at + part * p.m * p.n;
    let of_cols = ends8(col);
    store_strip(&tile, 0u, at, row, col, of_cols);
#if PAIR
    store_strip(&tile, 16u, at, row + 8u, col, of_cols);
#endif
#if MID
    store_strip(&tile, 32u, at, row + 16u, col, of_cols);
    store_strip(&tile, 48u, at, row + 24u, col, of_cols);
#endif
#if TALL
    store_strip(&tile, 64u, at, row + 32u, col, of_cols);
    store_strip(&tile, 80u, at, row + 40u, col, of_cols);
    store_strip(&tile, 96u, at, row + 48u, col, of_cols);
    store_strip(&tile, 112u, at, row + 56u, col, of_cols);
#endif
}
