// squares: partial sums of (x − mean)² over blocks of rows; reduce:col_sum adds them.
// finish: stats = (mean, 1/√(variance + eps), variance) from sums over rows, times 1/n.
// normalise: y = (x − mean)·rstd·gamma + beta.
// grad_params: partial sums of dy·x̂ (dgamma) and dy (dbeta).  grad_input: gamma·rstd·(dy − (dbeta + x̂·dgamma)/n).
// x is [rows, C], stats [3, C]. Grid: one invocation per unit of the result. Sums in f32, fixed order.

#import grid
#import elem

#if squares
struct Params {
    n: u32, // units of a partial result
    cols: u32, // units
    rows: u32,
    block: u32, // rows
    inv: f32, // 1/rows
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> part: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> sums: array<E>;

@compute @workgroup_size(WG)
fn squares(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.cols;
    let mean = sums[c] * p.inv;
    let first = i / p.cols * p.block;
    var sum = E(0.0);
    for (var r = first; r < min(first + p.block, p.rows); r++) {
        let d = x[r * p.cols + c] - mean;
        sum += d * d;
    }
    part[i] = sum;
}
#endif

#if finish
struct Params {
    cols: u32, // units
    inv: f32,
    eps: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> stats: array<E>;
@group(0) @binding(1) var<storage, read> sums: array<E>;
@group(0) @binding(2) var<storage, read> squares: array<E>;

@compute @workgroup_size(WG)
fn finish(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.cols {
        return;
    }
    let variance = squares[i] * p.inv;
    stats[i] = sums[i] * p.inv;
    stats[p.cols + i] = 1.0 / sqrt(variance + p.eps);
    stats[2u * p.cols + i] = variance;
}
#endif

#if normalise
struct Params {
    n: u32, // units
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> gamma: array<E>;
@group(0) @binding(3) var<storage, read> beta: array<E>;
@group(0) @binding(4) var<storage, read> stats: array<E>;

@compute @workgroup_size(WG)
fn normalise(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.cols;
    y[i] = (x[i] - stats[c]) * stats[p.cols + c] * gamma[c] + beta[c];
}
#endif

#if grad_params
struct Params {
    n: u32, // units of a partial result
    cols: u32, // units
    rows: u32,
    block: u32, // rows
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> dgamma: array<E>;
@group(0) @binding(1) var<storage, read_write> dbeta: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<E>;
@group(0) @binding(3) var<storage, read> x: array<E>;
@group(0) @binding(4) var<storage, read> stats: array<E>;

@compute @workgroup_size(WG)
fn grad_params(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.cols;
    let mean = stats[c];
    let rstd = stats[p.cols + c];
    let first = i / p.cols * p.block;
    var dg = E(0.0);
    var db = E(0.0);
    for (var r = first; r < min(first + p.block, p.rows); r++) {
        let d = dy[r * p.cols + c];
        dg += d * ((x[r * p.cols + c] - mean) * rstd);
        db += d;
    }
    dgamma[i] = dg;
    dbeta[i] = db;
}
#endif

#if grad_input
struct Params {
    n: u32, // units
    cols: u32, // units
    inv: f32, // 1/rows, or 0 if the statistics are constants
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> dx: array<E>;
@group(0) @binding(1) var<storage, read> dy: array<E>;
@group(0) @binding(2) var<storage, read> x: array<E>;
@group(0) @binding(3) var<storage, read> gamma: array<E>;
@group(0) @binding(4) var<storage, read> stats: array<E>;
@group(0) @binding(5) var<storage, read> dgamma: array<E>;
@group(0) @binding(6) var<storage, read> dbeta: array<E>;

@compute @workgroup_size(WG)
fn grad_input(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.cols;
    let rstd = stats[p.cols + c];
    let normal = (x[i] - stats[c]) * rstd;
    dx[i] = gamma[c] * rstd * (dy[i] - p.inv * (dbeta[c] + normal * dgamma[c]));
}
#endif
