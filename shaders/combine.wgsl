// combine: y[n] = a[n] + s·b[n].  scale_by: y[n] = s·a[n].  The factor s is a number in a buffer.
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> s: f32;
@group(0) @binding(2) var<storage, read> a: array<E>;
@group(0) @binding(3) var<storage, read> b: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn combine(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = a[i] + s * b[i];
    }
}

@compute @workgroup_size(WG)
fn scale_by(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = s * a[i];
    }
}
