// pool: y[B, D] = token 0 of x[B, N, D] (CLS), or the mean of tokens 1..N.  grad: dx[B, N, D] from dy[B, D].
// Grid: one invocation per unit of the result; tokens are added in order, f32.

#import grid
#import elem

struct Params {
    n: u32, // units of the result
    d: u32, // units of a token
    tokens: u32,
    inv: f32, // 1/(N − 1)
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn pool(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = i / p.d * p.tokens * p.d + i % p.d;
#if CLS
    y[i] = x[at];
#else
    var sum = E(0.0);
    for (var t = 1u; t < p.tokens; t++) {
        sum += x[at + t * p.d];
    }
    y[i] = sum * p.inv;
#endif
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let row = i / p.d;
    let d = x[row / p.tokens * p.d + i % p.d];
    let first = row % p.tokens == 0u;
#if CLS
    y[i] = select(E(0.0), d, first);
#else
    y[i] = select(d * p.inv, E(0.0), first);
#endif
}
