// ids[r] = number k of the largest Σ_c x[r, c]·codes[k, c], the lowest of equals; chosen[r, C] = codes[ids[r], C].
// Grid: a row per invocation or workgroup, whose lanes share the codes (common/row.wgsl). Sums in f32, columns in order;
// the result does not depend on the order of the codes' comparison.

#import elem
#import row
#import best

struct Params {
    rows: u32,
    cols: u32, // units
    codes: u32,
}
@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read_write> chosen: array<E>;
@group(0) @binding(2) var<storage, read> x: array<E>;
@group(0) @binding(3) var<storage, read> codes: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn nearest(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    var best = Best(LOWEST, NOWHERE);
    for (var k = lane; k < p.codes; k += LANES) {
        var products = E(0.0);
        for (var c = 0u; c < p.cols; c++) {
            products += x[row * p.cols + c] * codes[k * p.cols + c];
        }
        let product = total(products);
        if product > best.value {
            best = Best(product, k);
        }
    }
    best = row_best(lane, best);
    let id = select(best.at, 0u, best.at == NOWHERE);
    if lane == 0u {
        ids[row] = id;
    }
    for (var c = lane; c < p.cols; c += LANES) {
        chosen[row * p.cols + c] = codes[id * p.cols + c];
    }
}
