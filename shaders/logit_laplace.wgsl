// params[r, 2C] = (μ, ln b), target[r, C] in (0, 1), residual = logit(t) − μ.
// forward: nll[r, C] = |residual|/b + ln b + ln 2 + ln(t(1 − t)).
// grad: dμ = −dnll·sign(residual)/b (0 at the kink), dln b = dnll·(1 − |residual|/b).
// target_grad: dt = dnll·(sign(residual)/b + 1 − 2t) / (t(1 − t)).
// Grid: one invocation per element of target. No reduction.

#import grid
#import elem
#import math

struct Params {
    n: u32, // elements of target
    c: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> result: array<f32>;
@group(0) @binding(1) var<storage, read> params: array<f32>;
@group(0) @binding(2) var<storage, read> target_value: array<f32>;
@group(0) @binding(3) var<storage, read> dnll: array<f32>;

// Place of μ of element i; ln b lies C further.
fn mu_at(i: u32) -> u32 {
    return i + i / p.c * p.c;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = mu_at(i);
    let t = target_value[i];
    let ln_b = params[at + p.c];
    let residual = ln(t / (1.0 - t)) - params[at];
    result[i] = abs(residual) * exp(-ln_b) + ln_b + 0.69314718 + ln(t * (1.0 - t));
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = mu_at(i);
    let t = target_value[i];
    let d = dnll[i];
    let inv_b = exp(-params[at + p.c]);
    let residual = ln(t / (1.0 - t)) - params[at];
    result[at] = -d * inv_b * sign(residual);
    result[at + p.c] = d * (1.0 - abs(residual) * inv_b);
}

@compute @workgroup_size(WG)
fn target_grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = mu_at(i);
    let t = target_value[i];
    let residual = ln(t / (1.0 - t)) - params[at];
    let slope = exp(-params[at + p.c]) * sign(residual);
    result[i] = dnll[i] * (slope + 1.0 - t - t) / (t * (1.0 - t));
}
