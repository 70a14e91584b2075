// forward: y[n] = x·Φ(x).  grad: dx[n] = dy·(Φ(x) + x·φ(x)).
// Grid: one invocation per unit. No reduction.

#import grid
#import elem
#import math

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<E>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = gelu(x[i]);
    }
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = dy[i] * gelu_slope(x[i]);
    }
}
