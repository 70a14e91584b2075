// What the elements of a product go through before they are stored (ops/epilogue.rs), unit by unit as in elem.wgsl.
// `at` is the unit's place in the result and in everything of its shape, `g` its γ.
// KEEP: the product itself is stored too. *_HALF: kept in half precision. DROP: one draw per sample, as in residual.wgsl.

#import elem

#if KEEP
#if KEEP_HALF
#import half
@group(0) @binding(KEEP_AT) var<storage, read_write> kept: array<Half>;
fn keep(at: u32, v: E) {
    kept[at] = narrow(v);
}
#else
@group(0) @binding(KEEP_AT) var<storage, read_write> kept: array<E>;
fn keep(at: u32, v: E) {
    kept[at] = v;
}
#endif
#endif
#if OTHER
#if OTHER_HALF
#import half
@group(0) @binding(OTHER_AT) var<storage, read> others: array<Half>;
fn other(at: u32) -> E {
    return widen(others[at]);
}
#else
@group(0) @binding(OTHER_AT) var<storage, read> others: array<E>;
fn other(at: u32) -> E {
    return others[at];
}
#endif
#endif
#if GAMMA
@group(0) @binding(GAMMA_AT) var<storage, read> gammas: array<E>;
fn gamma(j: u32) -> E {
    return gammas[j];
}
#else
fn gamma(j: u32) -> E {
    return E(1.0);
}
#endif
#if DROP
#import rng
@group(0) @binding(KEY_AT) var<storage, read> key: vec4<u32>;
#endif
#if END_GELU
#import math
#endif
#if END_GELU_SLOPE
#import math
#endif

fn ended(at: u32, g: E, v: E) -> E {
#if KEEP
    keep(at, v);
#endif
#if END_GELU
    return gelu(v);
#endif
#if END_GELU_SLOPE
    return v * gelu_slope(other(at));
#endif
#if END_RELU
    return max(v, E(0.0));
#endif
#if END_RELU_GATE
    return select(E(0.0), v, other(at) > E(0.0));
#endif
#if END_ADD
    return other(at) + p.end_s * v;
#endif
#if END_RESIDUAL
    var f = v;
#if GAMMA
    f *= g;
#endif
#if DROP
    let draw = uniform_unit(child_key(key, p.end_salt), at * WIDTH / p.end_sample);
    f *= select(0.0, p.end_inv_keep, draw < p.end_keep);
#endif
    return other(at) + f;
#endif
}
