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

#import result
#import tile_store

#if !WALK_A
#if OCT
// What lane `lane` loads of eight rows from `row` and eight k from `k`; lanes beyond the eighth load the same again.
fn load_left(row: u32, k: u32, lane: u32) -> Left {
#if TA
    return terms(left(row, k + (lane & 7u)));
#else
    return terms(left(row + (lane & 7u), k));
#endif
}
#else
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
#endif
#endif
#if OCT
fn terms(w: Run) -> Left {
    return Left(lower(w), upper(w));
}
#endif

#if !WALK_B
// STEP k of eight columns: column j of each matrix is k + j.
fn load_right(k: u32, col: u32) -> Right {
#if TB
    return by_column(array<Run, 8>(right(k, col), right(k, col + 1u), right(k, col + 2u), right(k, col + 3u), right(k, col + 4u), right(k, col + 5u), right(k, col + 6u), right(k, col + 7u)));
#else
#if OCT
    let r = array<Run, 8>(right(k, col), right(k + 1u, col), right(k + 2u, col), right(k + 3u, col), right(k + 4u, col), right(k + 5u, col), right(k + 6u, col), right(k + 7u, col));
    return Right(
        mat4x4(lower(r[0]), lower(r[1]), lower(r[2]), lower(r[3])),
        mat4x4(upper(r[0]), upper(r[1]), upper(r[2]), upper(r[3])),
        mat4x4(lower(r[4]), lower(r[5]), lower(r[6]), lower(r[7])),
        mat4x4(upper(r[4]), upper(r[5]), upper(r[6]), upper(r[7])),
    );
#else
    return Right(
        mat4x4(right(k, col), right(k + 1u, col), right(k + 2u, col), right(k + 3u, col)),
        mat4x4(right(k, col + 4u), right(k + 1u, col + 4u), right(k + 2u, col + 4u), right(k + 3u, col + 4u)),
    );
#endif
#endif
}
#endif

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
            let b = load_right(k, col);
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
            strip(&tile, 16u * i, load_left(row + 8u * i, k, lane), b);
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
