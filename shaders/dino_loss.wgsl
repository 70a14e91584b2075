// targets: p[2B, K] = softmax((t − centre)/τ_t).
// student: lse[r] of s/τ_s, and value[r] = Σ over the row's teachers of −Σ p·log q.  reduce:sum adds the values.
// grad: ds = factor·(teachers·softmax(s/τ_s) − Σ p).  Row r is view r/B of image r%B; view v is not compared with itself.
// Grid: a row per invocation or workgroup (common/row.wgsl); grad: one invocation per unit. f32, fixed order.

#import elem
#import row

#if targets
struct Params {
    rows: u32,
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> prob: array<E>;
@group(0) @binding(1) var<storage, read> t: array<E>;
@group(0) @binding(2) var<storage, read> centre: array<E>;
@group(0) @binding(3) var<storage, read> temperature: f32;

@compute @workgroup_size(WG)
fn targets(
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
    let cold = 1.0 / temperature;
    var most = -3.4028234e38;
    for (var i = lane; i < p.cols; i += LANES) {
        most = max(most, largest((t[at + i] - centre[i]) * cold));
    }
    let top = row_max(lane, most);
    var sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        sum += exp((t[at + i] - centre[i]) * cold - top);
    }
    let inv = 1.0 / row_sum(lane, total(sum));
    for (var i = lane; i < p.cols; i += LANES) {
        prob[at + i] = exp((t[at + i] - centre[i]) * cold - top) * inv;
    }
}
#endif

#if student
struct Params {
    rows: u32,
    cols: u32, // units
    batch: u32,
    hot: f32, // 1/τ_s
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> lse: array<f32>;
@group(0) @binding(1) var<storage, read_write> value: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<E>;
@group(0) @binding(3) var<storage, read> prob: array<E>;

@compute @workgroup_size(WG)
fn student(
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
    var most = -3.4028234e38;
    for (var i = lane; i < p.cols; i += LANES) {
        most = max(most, largest(s[at + i] * p.hot));
    }
    let top = row_max(lane, most);
    var sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        sum += exp(s[at + i] * p.hot - top);
    }
    let all = top + log(row_sum(lane, total(sum)));
    let view = row / p.batch;
    var crossed = 0.0;
    for (var a = 0u; a < 2u; a++) {
        var cross = E(0.0);
        if a != view {
            let teacher = (a * p.batch + row % p.batch) * p.cols;
            for (var i = lane; i < p.cols; i += LANES) {
                cross += prob[teacher + i] * (all - s[at + i] * p.hot);
            }
        }
        crossed += row_sum(lane, total(cross));
    }
    if lane == 0u {
        lse[row] = all;
        value[row] = crossed;
    }
}
#endif

#if grad
struct Params {
    n: u32, // units
    cols: u32, // units
    batch: u32,
    hot: f32,
    factor: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> ds: array<E>;
@group(0) @binding(1) var<storage, read> dloss: f32;
@group(0) @binding(2) var<storage, read> s: array<E>;
@group(0) @binding(3) var<storage, read> prob: array<E>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let row = i / p.cols;
    let view = row / p.batch;
    let first = row % p.batch * p.cols + i % p.cols;
    var sum = E(0.0);
    if view != 0u {
        sum += prob[first];
    }
    if view != 1u {
        sum += prob[first + p.batch * p.cols];
    }
    let teachers = select(2.0, 1.0, view < 2u);
    ds[i] = dloss * p.factor * (teachers * exp(s[i] * p.hot - lse[row]) - sum);
}
#endif
