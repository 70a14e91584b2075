// add_scaled: y[n] = a[n] + s·b[n].  scale: y[n] = s·a[n].
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
    s: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> a: array<E>;
@group(0) @binding(2) var<storage, read> b: array<E>;
@group(1) @binding(0) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn add_scaled(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = a[i] + p.s * b[i];
    }
}

@compute @workgroup_size(WG)
fn scale(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = p.s * a[i];
    }
}
