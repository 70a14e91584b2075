// softmax: y[r, V] = softmax((logits + G)/τ) with G = −ln(−ln U) drawn from the key, or given (NOISE).
// softmax_grad: dlogits = y⊙(dy − Σ dy⊙y)/τ.
// Grid: a row per invocation or workgroup (common/row.wgsl). Sums in f32, fixed order.

#import elem
#import math
#import row
#import rng

struct Params {
    rows: u32,
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> tau: f32;

#if softmax
@group(0) @binding(2) var<storage, read> logits: array<E>;
#if NOISE
@group(0) @binding(3) var<storage, read> noise: array<E>;
#else
@group(0) @binding(3) var<storage, read> key: vec4<u32>;

// Uniform draws of the elements from number `first` on.
fn draws(k: vec4<u32>, first: u32) -> E {
#if VEC
    return E(
        uniform_unit(k, first),
        uniform_unit(k, first + 1u),
        uniform_unit(k, first + 2u),
        uniform_unit(k, first + 3u),
    );
#else
    return uniform_unit(k, first);
#endif
}
#endif

@compute @workgroup_size(WG)
fn softmax(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    let inv_tau = 1.0 / tau;
#if !NOISE
    let k = key;
#endif
    var top = E(-3.4028234e38);
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
#if NOISE
        let g = noise[i];
#else
        let g = -ln(-ln(draws(k, i * WIDTH)));
#endif
        let z = (logits[i] + g) * inv_tau;
        y[i] = z;
        top = max(top, z);
    }
    let row_top = row_max(lane, largest(top));
    var sum = E(0.0);
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        let e = exp(y[i] - row_top);
        y[i] = e;
        sum += e;
    }
    let inv = 1.0 / row_sum(lane, total(sum));
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        y[i] *= inv;
    }
}
#else
@group(0) @binding(2) var<storage, read> dy: array<E>;
@group(0) @binding(3) var<storage, read> choice: array<E>;

@compute @workgroup_size(WG)
fn softmax_grad(
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
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        sum += dy[i] * choice[i];
    }
    let dot = row_sum(lane, total(sum));
    let inv_tau = 1.0 / tau;
    for (var i = row * p.cols + lane; i < (row + 1u) * p.cols; i += LANES) {
        y[i] = choice[i] * (dy[i] - dot) * inv_tau;
    }
}
#endif
