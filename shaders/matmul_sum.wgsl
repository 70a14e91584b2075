// Second phase of a product split along k: C = Σ parts (+ bias) (+ C if ACCUMULATE), parts in order; then its ENDING.
//
// parts[count, m, n]; C has its own row stride and is kept in half precision if C_HALF. Units as in common/elem.wgsl.
// Grid: one invocation per unit. Accumulation in f32: deterministic.

#import grid
#import elem
#if C_HALF
#import half
alias Stored = Half;
fn stored(v: E) -> Stored {
    return narrow(v);
}
#else
alias Stored = E;
fn stored(v: E) -> Stored {
    return v;
}
#endif

struct Params {
    // Units.
    m: u32,
    n: u32,
    ldc: u32,
    c_at: u32,
    count: u32,
    bias_at: u32,
#import ending_params
}
@group(0) @binding(0) var<storage, read> parts: array<E>;
#if BIAS
@group(0) @binding(1) var<storage, read> bias: array<E>;
@group(0) @binding(2) var<storage, read_write> c: array<Stored>;
#else
@group(0) @binding(1) var<storage, read_write> c: array<Stored>;
#endif
@group(0) @binding(15) var<uniform> p: Params;

#if ENDING
#import ending
#endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, 64u);
    let size = p.m * p.n;
    if i >= size {
        return;
    }
    var sum = E(0.0);
    for (var part = 0u; part < p.count; part += 1u) {
        sum += parts[part * size + i];
    }
    let at = p.c_at + i / p.n * p.ldc + i % p.n;
#if BIAS
    sum += bias[p.bias_at + i % p.n];
#endif
#if ACCUMULATE
    sum += c[at];
#endif
#if ENDING
    c[at] = stored(ended(at, gamma(i % p.n), sum));
#else
    c[at] = stored(sum);
#endif
}
