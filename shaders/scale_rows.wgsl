// scale: y[r, i] = s[r]·x[r, i].  row_dot: y[r] = Σ_i x[r, i]·s[r, i].
// Grid: one invocation per unit; row_dot: a row per invocation or workgroup (common/row.wgsl). f32, fixed order.

#import elem
#import row

#if scale
struct Params {
    n: u32, // units
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> s: array<f32>;

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = s[i / p.cols] * x[i];
    }
}
#endif

#if row_dot
struct Params {
    rows: u32,
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> a: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;

@compute @workgroup_size(WG)
fn row_dot(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    var sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        sum += a[row * p.cols + i] * b[row * p.cols + i];
    }
    let all = row_sum(lane, total(sum));
    if lane == 0u {
        y[row] = all;
    }
}
#endif
