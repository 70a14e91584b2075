// forward: y[n] = tanh(x), by e^(−2|x|), which cannot overflow.  grad: dx[n] = dy·(1 − y²).
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> out: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>; // grad: y
@group(0) @binding(2) var<storage, read> dy: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        let t = exp(-2.0 * abs(x[i]));
        let magnitude = (1.0 - t) / (1.0 + t);
        out[i] = select(magnitude, -magnitude, x[i] < E(0.0));
    }
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        out[i] = dy[i] * (1.0 - x[i] * x[i]);
    }
}
