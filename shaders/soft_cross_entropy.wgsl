// rows: stats[m] = (log-sum-exp, nll, 1 if the largest logit is where the largest target is) of logits[m, C] and
// targets[m, C], nll = Σ t·(log-sum-exp − l).  grad: dlogits = dloss·w·(Σt·softmax − t).
// Grid: a row per invocation or workgroup (common/row.wgsl). Sums in f32, fixed order. The totals are those of
// cross_entropy.wgsl.

#import elem
#import row
#import best

struct Params {
    rows: u32,
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;

#if rows
#import logits
@group(0) @binding(0) var<storage, read_write> stats: array<f32>; // [rows, 3]
@group(0) @binding(1) var<storage, read> logits: array<E>;
@group(0) @binding(2) var<storage, read> targets: array<E>;

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
    var wanted = Best(LOWEST, NOWHERE);
    for (var i = lane; i < p.cols; i += LANES) {
        wanted = better(wanted, targets[at + i], i * WIDTH);
    }
    wanted = row_best(lane, wanted);
    var nll = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        nll += targets[at + i] * (lse - logits[at + i]);
    }
    let row_nll = row_sum(lane, total(nll));
    if lane == 0u {
        stats[3u * row] = lse;
        stats[3u * row + 1u] = row_nll;
        stats[3u * row + 2u] = select(0.0, 1.0, best.at == wanted.at);
    }
}
#endif

#if grad
@group(0) @binding(0) var<storage, read_write> dlogits: array<E>;
@group(0) @binding(1) var<storage, read> dloss: f32;
@group(0) @binding(2) var<storage, read> logits: array<E>;
@group(0) @binding(3) var<storage, read> targets: array<E>;
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
    let at = row * p.cols;
    var sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        sum += targets[at + i];
    }
    let mass = row_sum(lane, total(sum));
    let factor = dloss * weights[row];
    let lse = stats[3u * row];
    for (var i = lane; i < p.cols; i += LANES) {
        dlogits[at + i] = factor * (mass * exp(logits[at + i] - lse) - targets[at + i]);
    }
}
#endif
