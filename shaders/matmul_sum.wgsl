// Second phase of a product split along k: C = Σ parts (+ bias) (+ C if ACCUMULATE), parts in order.
//
// parts[count, m, n]; C has its own row stride. Grid: one invocation per element. Accumulation in f32: deterministic.

#import grid

struct Params {
    m: u32,
    n: u32,
    ldc: u32,
    c_at: u32,
    count: u32,
    bias_at: u32,
}
@group(0) @binding(0) var<storage, read> parts: array<f32>;
#if BIAS
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
#else
@group(0) @binding(1) var<storage, read_write> c: array<f32>;
#endif
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, 64u);
    let size = p.m * p.n;
    if i >= size {
        return;
    }
    var sum = 0.0;
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
    c[at] = sum;
}
