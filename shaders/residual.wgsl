// forward: y = x + s·gamma⊙branch.  grad_branch: dbranch = dy·gamma·s.
// grad_gamma: partial sums of dy·branch·s over blocks of rows; reduce:col_sum adds them.
// All [B, .., D]; s per sample: 1/keep with probability keep, else 0, drawn from the key (DROP), or 1.
// Grid: one invocation per RUN units; grad_gamma one per unit and block. f32, fixed order.
// F_HALF: the branch is kept in half precision; Y_HALF: so is the result.

#import grid
#import elem
#import rng

struct Params {
    n: u32, // units of the result
    d: u32, // units of a row
    sample: u32, // units of a sample (grad_gamma: rows)
    salt: u32,
    keep: f32,
    inv_keep: f32,
    rows: u32,
    block: u32, // rows
}
@group(0) @binding(15) var<uniform> p: Params;

#if DROP
@group(0) @binding(KEY_AT) var<storage, read> key: vec4<u32>;

fn branch_key() -> vec4<u32> {
    return child_key(key, p.salt);
}
fn factor(k: vec4<u32>, sample: u32) -> f32 {
    return select(0.0, p.inv_keep, uniform_unit(k, sample) < p.keep);
}
#else
fn branch_key() -> vec4<u32> {
    return vec4<u32>(0u);
}
fn factor(k: vec4<u32>, sample: u32) -> f32 {
    return 1.0;
}
#endif

#if F_HALF
#import half
alias F = Half;
fn number(v: F) -> E {
    return widen(v);
}
#else
alias F = E;
fn number(v: F) -> E {
    return v;
}
#endif

#if grad_gamma
@group(0) @binding(0) var<storage, read_write> part: array<E>;
@group(0) @binding(1) var<storage, read> dy: array<E>;
@group(0) @binding(2) var<storage, read> branch: array<F>;

@compute @workgroup_size(WG)
fn grad_gamma(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.d;
    let first = i / p.d * p.block;
    let k = branch_key();
    var sample = first / p.sample;
    var s = factor(k, sample);
    var next = (sample + 1u) * p.sample; // first row of the next sample
    var sum = E(0.0);
    for (var r = first; r < min(first + p.block, p.rows); r++) {
        if r == next {
            sample++;
            next += p.sample;
            s = factor(k, sample);
        }
        sum += dy[r * p.d + c] * number(branch[r * p.d + c]) * s;
    }
    part[i] = sum;
}
#else
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
@group(0) @binding(1) var<storage, read> f: array<F>;
#if forward
@group(0) @binding(2) var<storage, read> x: array<E>;
#endif
#if GAMMA
@group(0) @binding(GAMMA_AT) var<storage, read> gamma: array<E>;
#endif

fn scaled(i: u32, s: f32) -> E {
#if GAMMA
    return s * gamma[i % p.d] * number(f[i]);
#else
    return s * number(f[i]);
#endif
}

// Walks over the units of one run; the factor is drawn again where a new sample begins.
#if forward
@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
#else
@compute @workgroup_size(WG)
fn grad_branch(@builtin(global_invocation_id) gid: vec3<u32>) {
#endif
    let first = item_index(gid, WG) * RUN;
    if first >= p.n {
        return;
    }
    let k = branch_key();
    var sample = first / p.sample;
    var s = factor(k, sample);
    var next = (sample + 1u) * p.sample; // first unit of the next sample
    for (var i = first; i < min(first + RUN, p.n); i++) {
        if i == next {
            sample++;
            next += p.sample;
            s = factor(k, sample);
        }
#if forward
        y[i] = stored(x[i] + scaled(i, s));
#else
        y[i] = stored(scaled(i, s));
#endif
    }
}
#endif
