// forward: y[3D] = (q[D], 0, v[D]).  grad: dq[D] = dy[..D], dv[D] = dy[2D..].
// Grid: one invocation per unit of D. No reduction.

#import grid
#import elem

struct Params {
    d: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;

#if forward
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> q: array<E>;
@group(0) @binding(2) var<storage, read> v: array<E>;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.d {
        y[i] = q[i];
        y[p.d + i] = E(0.0);
        y[2u * p.d + i] = v[i];
    }
}
#else
@group(0) @binding(0) var<storage, read_write> dq: array<E>;
@group(0) @binding(1) var<storage, read_write> dv: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<E>;

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.d {
        dq[i] = dy[i];
        dv[i] = dy[2u * p.d + i];
    }
}
#endif
