// forward: y[r, D] = x/max(‖x‖, eps), inverse[r] = 1/max(‖x‖, eps).
// grad: dx = inverse·(dy − y·(y·dy)); rows that were cut off at eps are only scaled.
// Grid: a row per invocation or workgroup (common/row.wgsl). Sums in f32, fixed order.

#import elem
#import row

struct Params {
    rows: u32,
    cols: u32, // units
    eps: f32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if forward
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read_write> inverse: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    let at = row * p.cols;
    var squares = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        squares += x[at + i] * x[at + i];
    }
    let inv = 1.0 / max(sqrt(row_sum(lane, total(squares))), p.eps);
    for (var i = lane; i < p.cols; i += LANES) {
        y[at + i] = x[at + i] * inv;
    }
    if lane == 0u {
        inverse[row] = inv;
    }
}
#endif

#if grad
@group(0) @binding(0) var<storage, read_write> dx: array<E>;
@group(0) @binding(1) var<storage, read> dy: array<E>;
@group(0) @binding(2) var<storage, read> y: array<E>;
@group(0) @binding(3) var<storage, read> inverse: array<f32>;

@compute @workgroup_size(WG)
fn grad(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    let at = row * p.cols;
    var products = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        products += dy[at + i] * y[at + i];
    }
    let inv = inverse[row];
    let along = row_sum(lane, total(products)) * select(1.0, 0.0, inv >= 1.0 / p.eps);
    for (var i = lane; i < p.cols; i += LANES) {
        dx[at + i] = inv * (dy[at + i] - y[at + i] * along);
    }
}
#endif
