// forward: y[r, D] = (x − mean)·rstd·gamma + beta, stats[r] = (mean, rstd), rstd = 1/√(variance + eps).
// grad_input: with x̂ = (x − mean)·rstd and h = dy·gamma: dx = rstd·(h − mean(h) − x̂·mean(h·x̂)), plus onto (ONTO).
// grad_params: partial sums of dy·x̂ (dgamma) and dy (dbeta) over blocks of rows; reduce:col_sum adds them.
// Grid: a row per invocation or workgroup (common/row.wgsl); grad_params one invocation per unit and block.
// Sums in f32, fixed order; two passes for the variance. Y_HALF, DY_HALF: kept in half precision.

#import elem
#import row

#if forward
struct Params {
    rows: u32,
    cols: u32, // units
    inv_d: f32,
    eps: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
#if Y_HALF
#import half
alias Y = Half;
fn stored(v: E) -> Y {
    return narrow(v);
}
#else
alias Y = E;
fn stored(v: E) -> Y {
    return v;
}
#endif
@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> x: array<E>;
@group(0) @binding(3) var<storage, read> gamma: array<E>;
@group(0) @binding(4) var<storage, read> beta: array<E>;

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
    var sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        sum += x[at + i];
    }
    let mean = row_sum(lane, total(sum)) * p.inv_d;
    var squares = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        let d = x[at + i] - mean;
        squares += d * d;
    }
    let rstd = 1.0 / sqrt(row_sum(lane, total(squares)) * p.inv_d + p.eps);
    for (var i = lane; i < p.cols; i += LANES) {
        y[at + i] = stored((x[at + i] - mean) * rstd * gamma[i] + beta[i]);
    }
    if lane == 0u {
        stats[row] = vec2<f32>(mean, rstd);
    }
}
#endif

#if DY_HALF
#import half
alias DY = Half;
fn cotangent(v: DY) -> E {
    return widen(v);
}
#else
alias DY = E;
fn cotangent(v: DY) -> E {
    return v;
}
#endif

#if grad_input
struct Params {
    rows: u32,
    cols: u32, // units
    inv_d: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> dx: array<E>;
@group(0) @binding(1) var<storage, read> dy: array<DY>;
@group(0) @binding(2) var<storage, read> x: array<E>;
@group(0) @binding(3) var<storage, read> gamma: array<E>;
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>;
#if ONTO
@group(0) @binding(5) var<storage, read> onto: array<E>;
#endif

@compute @workgroup_size(WG)
fn grad_input(
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
    let s = stats[row];
    var h_sum = E(0.0);
    var hx_sum = E(0.0);
    for (var i = lane; i < p.cols; i += LANES) {
        let h = cotangent(dy[at + i]) * gamma[i];
        h_sum += h;
        hx_sum += h * ((x[at + i] - s.x) * s.y);
    }
    let h_mean = row_sum(lane, total(h_sum)) * p.inv_d;
    let hx_mean = row_sum(lane, total(hx_sum)) * p.inv_d;
    for (var i = lane; i < p.cols; i += LANES) {
        let normal = (x[at + i] - s.x) * s.y;
        var v = s.y * (cotangent(dy[at + i]) * gamma[i] - h_mean - normal * hx_mean);
#if ONTO
        v += onto[at + i];
#endif
        dx[at + i] = v;
    }
}
#endif

#if grad_params
struct Params {
    n: u32, // units of a partial result: blocks · cols
    rows: u32,
    cols: u32, // units
    block: u32, // rows
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> dgamma: array<E>;
@group(0) @binding(1) var<storage, read_write> dbeta: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<DY>;
@group(0) @binding(3) var<storage, read> x: array<E>;
@group(0) @binding(4) var<storage, read> stats: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn grad_params(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let e = i % p.cols;
    let first = i / p.cols * p.block;
    var dg = E(0.0);
    var db = E(0.0);
    for (var r = first; r < min(first + p.block, p.rows); r++) {
        let s = stats[r];
        let d = cotangent(dy[r * p.cols + e]);
        dg += d * ((x[r * p.cols + e] - s.x) * s.y);
        db += d;
    }
    dgamma[i] = dg;
    dbeta[i] = db;
}
#endif
