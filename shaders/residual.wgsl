// forward: y = x + s·gamma⊙branch.  grad_branch: dbranch = dy·gamma·s.
// grad_gamma: partial sums of dy·branch·s over blocks of rows; reduce:col_sum adds them.
// All [B, .., D]; s per sample: 1/keep with probability keep, else 0, drawn from the key (DROP), or 1.
// Grid: one invocation per word of a row and block of rows. f32, fixed order.
// F_HALF: the branch is kept in half precision; Y_HALF: so is the result.

#import grid
#import elem
#import rng

struct Params {
    n: u32, // invocations
    d: u32, // words of a row
    rows: u32,
    block: u32, // rows
    sample: u32, // rows
    salt: u32,
    keep: f32,
    inv_keep: f32,
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
alias F = Halves;
fn number(v: F) -> Parts {
    return half_parts(v);
}
#else
alias F = Word;
fn number(v: F) -> Parts {
    return parts(v);
}
#endif
#if Y_HALF
#import half
alias Y = Halves;
fn stored(v: Parts) -> Y {
    return half_word(v);
}
#else
alias Y = Word;
fn stored(v: Parts) -> Y {
    return word(v);
}
#endif

@group(0) @binding(0) var<storage, read_write> y: array<Y>;
// The branch, or its cotangent.
@group(0) @binding(1) var<storage, read> f: array<F>;
#if !grad_branch
// The other summand, or the cotangent.
@group(0) @binding(2) var<storage, read> x: array<Word>;
#endif
#if GAMMA
@group(0) @binding(GAMMA_AT) var<storage, read> gamma: array<Word>;
#endif

@compute @workgroup_size(WG)
#if forward
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
#endif
#if grad_branch
fn grad_branch(@builtin(global_invocation_id) gid: vec3<u32>) {
#endif
#if grad_gamma
fn grad_gamma(@builtin(global_invocation_id) gid: vec3<u32>) {
#endif
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let d = p.d;
    let rows = p.sample;
    let first = i / d * p.block;
    let last = min(first + p.block, p.rows);
    let k = branch_key();
    var sample = first / rows;
    var s = factor(k, sample);
    var next = (sample + 1u) * rows; // first row of the next sample
#if GAMMA
    let g = parts(gamma[i % d]);
#endif
#if grad_gamma
    var sum: Parts;
#endif
    var at = first * d + i % d;
    for (var row = first; row < last; row++) {
        if row == next {
            sample++;
            next += rows;
            s = factor(k, sample);
        }
        var v = number(f[at]);
#if !grad_branch
        let w = parts(x[at]);
#endif
#repeat j PARTS
#if GAMMA
        v[j] *= g[j];
#endif
        v[j] *= s;
#if forward
        v[j] += w[j];
#endif
#if grad_gamma
        sum[j] += v[j] * w[j];
#endif
#end
#if !grad_gamma
        y[at] = stored(v);
#endif
        at += d;
    }
#if grad_gamma
    y[i] = stored(sum);
#endif
}
