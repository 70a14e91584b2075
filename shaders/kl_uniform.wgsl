// forward: kl[r] = ln V + Σ q ln q with q = softmax(logits[r, V]).
// grad: dlogits = dkl·q⊙(ln q − Σ q ln q).
// Grid: a row per invocation or workgroup (common/row.wgsl). Sums in f32, fixed order.

#import elem
#import row

struct Params {
    rows: u32,
    cols: u32, // units
    ln_v: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<E>;

// Log-sum-exp and Σ q ln q of a row.
fn negative_entropy(row: u32, lane: u32) -> vec2<f32> {
    var top = E(-3.4028234e38);
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        top = max(top, logits[i]);
    }
    let row_top = row_max(lane, largest(top));
    var sums = E(0.0);
    var weighted = E(0.0);
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        let l = logits[i] - row_top;
        let e = exp(l);
        sums += e;
        weighted += e * l;
    }
    let sum = row_sum(lane, total(sums));
    let mean = row_sum(lane, total(weighted)) / sum;
    return vec2<f32>(row_top + log(sum), mean - log(sum));
}

#if forward
@group(0) @binding(0) var<storage, read_write> kl: array<f32>;

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
    let value = p.ln_v + negative_entropy(row, lane).y;
    if lane == 0u {
        kl[row] = value;
    }
}
#else
@group(0) @binding(0) var<storage, read_write> dlogits: array<E>;
@group(0) @binding(2) var<storage, read> dkl: array<f32>;

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
    let stats = negative_entropy(row, lane);
    let d = dkl[row];
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        let ln_q = logits[i] - stats.x;
        dlogits[i] = d * exp(ln_q) * (ln_q - stats.y);
    }
}
#endif
