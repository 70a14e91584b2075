// Parts of the prediction head's loss on a chunk of rows of logits; `first` is the chunk's first row.
// rows: stats[m] = (log-sum-exp, nll, 1 if the largest logit is the label).
// grad: logits become dlogits = dloss·w·(softmax − one-hot) where they lie.
// bias: db[v] = Σ_m dlogits[m, v] over the chunk (+ what db holds if ACCUMULATE), rows in order.
// Grid: a row per invocation or workgroup (common/row.wgsl); bias: one invocation per column unit. Sums in f32.

#import elem
#import row
#import best

struct Params {
    rows: u32,
    cols: u32, // units
    classes: u32,
    first: u32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if rows
#import logits
@group(0) @binding(0) var<storage, read_write> stats: array<f32>; // [M, 3]
@group(0) @binding(1) var<storage, read> logits: array<E>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;

@compute @workgroup_size(WG)
fn rows(
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
    let best = best_logit(lane, at);
    let lse = log_sum_exp(lane, at, best.value);
    if lane == 0u {
        let label = labels[p.first + row];
        var hit = 0.0;
        if label < p.classes {
            hit = element(logits[at + label / WIDTH], label % WIDTH);
        }
        let to = 3u * (p.first + row);
        stats[to] = lse;
        stats[to + 1u] = lse - hit;
        stats[to + 2u] = select(0.0, 1.0, best.at == label);
    }
}
#endif

#if grad
@group(0) @binding(0) var<storage, read_write> logits: array<E>;
@group(0) @binding(1) var<storage, read> dloss: f32;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read> stats: array<f32>;

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
    let factor = dloss * weights[p.first + row];
    let lse = stats[3u * (p.first + row)];
    let label = labels[p.first + row];
    for (var i = lane; i < p.cols; i += LANES) {
        logits[at + i] = factor * (exp(logits[at + i] - lse) - indicator(i * WIDTH, label));
    }
}
#endif

#if bias
@group(0) @binding(0) var<storage, read_write> db: array<E>;
@group(0) @binding(1) var<storage, read> dlogits: array<E>;

@compute @workgroup_size(WG)
fn bias(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.cols {
        return;
    }
    var sum = E(0.0);
    for (var m = 0u; m < p.rows; m += 1u) {
        sum += dlogits[m * p.cols + i];
    }
#if ACCUMULATE
    sum += db[i];
#endif
    db[i] = sum;
}
#endif
