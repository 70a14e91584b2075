// C[m,n] = A·B (+ bias[n]) (+ C if ACCUMULATE), register tiles: the variant for software adapters, and for subgroups.
//
// Shapes and storage of A and B: common/operands.wgsl; the tile: common/strip.wgsl.
// Grid: one workgroup of LANES lanes per tile of ROWS × 8·LANES, times the parts of k; parts are summed by matmul_sum.wgsl.
// SWAP: the host exchanged the operands to make the rows the narrow side, so the tile is stored transposed.
// WALK_A, WALK_B: the rows of A, or the columns of B, are the pixels of a convolution. Their places are found once, and once
// for each tap of the kernel where they are under it, because divisions are dear on software adapters.
// Accumulation in f32, in the order of k: deterministic.

#import grid
#import words
#import operands
#import strip
#import strip_loads

#import result
#import tile_store

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
#if !WALK_A
    var rows: array<u32, STRIPS>;
#repeat i STRIPS
    rows[i] = rows_at(row + 8u * i, lane);
#end
#endif
#if !WALK_B
    let columns = columns_at(col);
#endif
#if WALK
    // The pixels that the lane loads, and what is of them under the present tap.
    var pixels: array<Pixel, PIXELS>;
    var taps: array<Tap, PIXELS>;
#repeat i PIXELS
#if WALK_B
    pixels[i] = pixel_at(p.b_at + min(col + i, p.n - 1u));
#else
#if SUBGROUP
    pixels[i] = pixel_at(p.a_at + min(row + 8u * i + (lane & 7u), p.m - 1u));
#else
    pixels[i] = pixel_at(p.a_at + min(row + i, p.m - 1u));
#endif
#endif
#end
    for (var first = part * p.chunk; first < end; first = (first / p.channels + 1u) * p.channels) {
        let last = min(end, (first / p.channels + 1u) * p.channels);
#repeat i PIXELS
        taps[i] = tap_at(pixels[i], first / p.channels);
#end
#else
    let first = part * p.chunk;
    let last = end;
    {
#endif
        for (var k = first; k < last; k += STEP) {
#if WALK_B
            let b = by_column(array<Run, 8>(under_b(taps[0], k), under_b(taps[1], k), under_b(taps[2], k), under_b(taps[3], k), under_b(taps[4], k), under_b(taps[5], k), under_b(taps[6], k), under_b(taps[7], k)));
#else
            let b = load_right(columns, k);
#endif
#repeat i STRIPS
#if WALK_A
#if SUBGROUP
#if OCT
            strip(&tile, 16u * i, terms(under_a(taps[i], k)), b);
#else
            strip(&tile, 16u * i, under_a(taps[i], k), b);
#endif
#else
            strip(&tile, 16u * i, Left(under_a(taps[8u * i], k), under_a(taps[8u * i + 1u], k), under_a(taps[8u * i + 2u], k), under_a(taps[8u * i + 3u], k), under_a(taps[8u * i + 4u], k), under_a(taps[8u * i + 5u], k), under_a(taps[8u * i + 6u], k), under_a(taps[8u * i + 7u], k)), b);
#endif
#else
            strip(&tile, 16u * i, load_left(rows[i], k, lane), b);
#endif
#end
        }
    }
    let at = p.c_at + part * p.m * p.n;
    let of_cols = ends8(col);
#repeat i STRIPS
    store_strip(&tile, 16u * i, at, row + 8u * i, col, of_cols);
#end
}
