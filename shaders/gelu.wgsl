// forward: y[n] = x·Φ(x).  grad: dx[n] = dy·(Φ(x) + x·φ(x)).
// Grid: one invocation per word. No reduction. *_HALF: kept in half precision.

#import grid
#import elem
#import math

#import stored
#if X_HALF
#import half
alias X = Halves;
fn operand(v: X) -> Parts {
    return half_parts(v);
}
#else
alias X = Word;
fn operand(v: X) -> Parts {
    return parts(v);
}
#endif
#if DY_HALF
#import half
alias DY = Halves;
fn cotangent(v: DY) -> Parts {
    return half_parts(v);
}
#else
alias DY = Word;
fn cotangent(v: DY) -> Parts {
    return parts(v);
}
#endif

struct Params {
    n: u32, // words
}

@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> dy: array<DY>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        var v = operand(x[i]);
#repeat k PARTS
        v[k] = gelu(v[k]);
#end
        y[i] = stored(v);
    }
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        let v = operand(x[i]);
        var d = cotangent(dy[i]);
#repeat k PARTS
        d[k] *= gelu_slope(v[k]);
#end
        y[i] = stored(d);
    }
}
