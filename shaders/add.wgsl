// add_scaled: y[n] = a[n] + s·b[n].
// scale: y[n] = s·a[n]; with s = 1 a copy in the precision of y. X_HALF, Y_HALF: kept in half precision.
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
    s: f32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if add_scaled
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> a: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;

@compute @workgroup_size(WG)
fn add_scaled(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = a[i] + p.s * b[i];
    }
}
#endif

#if scale
#if X_HALF
#import half
alias X = Half;
fn number(v: X) -> E {
    return widen(v);
}
#else
alias X = E;
fn number(v: X) -> E {
    return v;
}
#endif
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
@group(0) @binding(1) var<storage, read> a: array<X>;

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = stored(p.s * number(a[i]));
    }
}
#endif
