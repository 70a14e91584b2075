// forward: y[n] = x·Φ(x).  grad: dx[n] = dy·(Φ(x) + x·φ(x)).
// Grid: one invocation per unit. No reduction. *_HALF: kept in half precision.

#import grid
#import elem
#import math

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
#if X_HALF
#import half
alias X = Half;
fn operand(v: X) -> E {
    return widen(v);
}
#else
alias X = E;
fn operand(v: X) -> E {
    return v;
}
#endif
#if DY_HALF
#import half
alias DY = Half;
fn cotangent(v: DY) -> E {
    return widen(v);
}
#else
alias DY = E;
fn cotangent(v: DY) -> E {
    return v;
}
#endif

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> dy: array<DY>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = stored(gelu(operand(x[i])));
    }
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = stored(cotangent(dy[i]) * gelu_slope(operand(x[i])));
    }
}
