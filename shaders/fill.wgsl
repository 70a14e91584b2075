// y[n] = value.
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
    value: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn fill(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = E(p.value);
    }
}
