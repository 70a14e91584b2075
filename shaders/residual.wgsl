// forward: y = x + s·gamma⊙branch.  grad: TO_BRANCH: dbranch = dy·gamma·s, TO_SUMS: partial sums over blocks of rows of
// dy·branch·s (dgamma) and of dbranch, which reduce:col_sum adds. A software adapter does both at once.
// All [B, .., D]; s per sample: 1/keep with probability keep, else 0, drawn from the key (DROP), or 1.
// Grid: one invocation per word of a row and block of rows. f32, fixed order.
// F_HALF: the branch is kept in half precision; Y_HALF: so is its cotangent.

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
#import stored

#if forward
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;
#else
@group(0) @binding(DY_AT) var<storage, read> dy: array<Word>;
#endif
#if F_AT
@group(0) @binding(F_AT) var<storage, read> branch: array<F>;
#endif
#if GAMMA_AT
@group(0) @binding(GAMMA_AT) var<storage, read> gamma: array<Word>;
#endif
#if TO_BRANCH
@group(0) @binding(0) var<storage, read_write> dbranch: array<Y>;
#endif
#if TO_SUMS
@group(0) @binding(DGAMMA_AT) var<storage, read_write> dgamma: array<Word>;
@group(0) @binding(SUMS_AT) var<storage, read_write> sums: array<Word>;
#endif

#if forward
@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
#else
@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
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
#if GAMMA_AT
    let g = parts(gamma[i % d]);
#endif
#if TO_SUMS
    var dg: Parts;
    var sum: Parts;
#endif
    var at = first * d + i % d;
    for (var row = first; row < last; row++) {
        if row == next {
            sample++;
            next += rows;
            s = factor(k, sample);
        }
#if forward
        var v = parts(x[at]);
#else
        var v = parts(dy[at]);
#endif
#if F_AT
        let f = number(branch[at]);
#endif
#repeat j PARTS
#if forward
#if GAMMA_AT
        v[j] += s * g[j] * f[j];
#else
        v[j] += s * f[j];
#endif
#else
        v[j] *= s;
#if TO_SUMS
        dg[j] += v[j] * f[j];
#endif
#if GAMMA_AT
        v[j] *= g[j];
#endif
#if TO_SUMS
        sum[j] += v[j];
#endif
#endif
#end
#if forward
        y[at] = word(v);
#endif
#if TO_BRANCH
        dbranch[at] = stored(v);
#endif
        at += d;
    }
#if TO_SUMS
    dgamma[i] = word(dg);
    sums[i] = word(sum);
#endif
}
