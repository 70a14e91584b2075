// rows: stats[m] = (log-sum-exp, nll, 1 if the largest logit is the label) of logits[m, V] and labels[m].
// totals: loss = Σ w·nll, accuracy = Σ w·correct.  grad: dlogits = dloss·w·(softmax − one-hot).
// Grid: a row per invocation or workgroup (common/row.wgsl); totals: one workgroup. Sums in f32, fixed order.

#import elem
#import row
#import best

struct Params {
    rows: u32,
    cols: u32, // units
    classes: u32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if rows
#import logits
@group(0) @binding(0) var<storage, read_write> stats: array<f32>; // [rows, 3]
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
        let label = labels[row];
        var hit = 0.0;
        if label < p.classes {
            hit = element(logits[at + label / WIDTH], label % WIDTH);
        }
        stats[3u * row] = lse;
        stats[3u * row + 1u] = lse - hit;
        stats[3u * row + 2u] = select(0.0, 1.0, best.at == label);
    }
}
#endif

#if totals
@group(0) @binding(0) var<storage, read_write> loss: array<f32>;
@group(0) @binding(1) var<storage, read_write> accuracy: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;

@compute @workgroup_size(WG)
fn totals(@builtin(local_invocation_index) lane: u32) {
    var nll = 0.0;
    var correct = 0.0;
    for (var m = lane; m < p.rows; m += WG) {
        let w = weights[m];
        nll += w * stats[3u * m + 1u];
        correct += w * stats[3u * m + 2u];
    }
    let all_nll = row_sum(lane, nll);
    let all_correct = row_sum(lane, correct);
    if lane == 0u {
        loss[0] = all_nll;
        accuracy[0] = all_correct;
    }
}
#endif

#if grad
@group(0) @binding(0) var<storage, read_write> dlogits: array<E>;
@group(0) @binding(1) var<storage, read> dloss: f32;
@group(0) @binding(2) var<storage, read> logits: array<E>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> weights: array<f32>;
@group(0) @binding(5) var<storage, read> stats: array<f32>;

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
    let cols = p.cols;
    let at = row * cols;
    let factor = dloss * weights[row];
    let lse = stats[3u * row];
    let label = labels[row];
    for (var i = lane; i < cols; i += LANES) {
        dlogits[at + i] = factor * (exp(logits[at + i] - lse) - indicator(i * WIDTH, label));
    }
}
#endif
