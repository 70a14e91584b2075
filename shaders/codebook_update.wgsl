// codes[k] ← norm(keep·codes[k] + share·norm(Σ of the rows of k)), sizes[k] ← keep·sizes[k] + share·number of rows.
// A code without rows stays, or with a size below restart becomes a row drawn by the key. Sums that are not finite move nothing.
// Grid: a code per invocation or workgroup (common/row.wgsl). Chains of rows (members.wgsl) in order; sums in f32, fixed order.

#import elem
#import row
#import rng
#import finite

struct Params {
    codes: u32,
    cols: u32, // units
    rows: u32,
    keep: f32,
    share: f32,
    restart: f32,
}
@group(0) @binding(0) var<storage, read_write> codes: array<E>;
@group(0) @binding(1) var<storage, read_write> sizes: array<f32>;
@group(0) @binding(2) var<storage, read_write> sums: array<E>;
@group(0) @binding(3) var<storage, read> x: array<E>;
@group(0) @binding(4) var<storage, read> first: array<u32>;
@group(0) @binding(5) var<storage, read> next: array<u32>;
@group(0) @binding(6) var<storage, read> key: array<u32>;
@group(0) @binding(15) var<uniform> p: Params;

const EPS: f32 = 1e-12;

@compute @workgroup_size(WG)
fn codebook_update(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let code = row_index(gid, wid);
    let lane = lane_index(lid);
    if code >= p.codes {
        return;
    }
    let at = code * p.cols;
    var size = p.keep * sizes[code];
    var count = 0.0;
    for (var r = first[code]; r < p.rows; r = next[r]) {
        count += 1.0;
    }
    size += p.share * count;

    var squares = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        var sum = E(0.0);
        for (var r = first[code]; r < p.rows; r = next[r]) {
            sum += x[r * p.cols + i];
        }
        sums[at + i] = sum;
        squares += sum * sum;
    }
    let length = sqrt(row_sum(lane, total(squares)));
    let part = p.share / max(length, EPS);
    var moved_squares = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        let moved = p.keep * codes[at + i] + part * sums[at + i];
        sums[at + i] = moved;
        moved_squares += moved * moved;
    }
    let inverse = 1.0 / max(sqrt(row_sum(lane, total(moved_squares))), EPS);

    let again = count == 0.0 && size < p.restart;
    let moves = is_finite(length) && length > 0.0;
    let row = random_words(vec4<u32>(key[0], key[1], key[2], key[3]), code).x % p.rows;
    for (var i = lane; i < p.cols; i += LANES) {
        if again {
            codes[at + i] = x[row * p.cols + i];
        } else if moves {
            codes[at + i] = sums[at + i] * inverse;
        }
    }
    if lane == 0u {
        sizes[code] = select(size, 1.0, again);
    }
}
