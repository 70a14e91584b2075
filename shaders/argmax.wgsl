// ids[r] = number of the largest element of x[r, :]; the lowest number wins ties.
// Grid: a row per invocation or workgroup (common/row.wgsl); the result does not depend on the order.

#import elem
#import row
#import best

struct Params {
    rows: u32,
    cols: u32, // units
}

@group(0) @binding(0) var<storage, read_write> ids: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn argmax(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    let cols = p.cols;
    let at = row * cols;
    var best = Best(LOWEST, NOWHERE);
    for (var i = lane; i < cols; i += LANES) {
        best = better(best, x[at + i], i * WIDTH);
    }
    best = row_best(lane, best);
    if lane == 0u {
        ids[row] = select(best.at, 0u, best.at == NOWHERE);
    }
}
