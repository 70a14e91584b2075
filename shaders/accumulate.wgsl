// sum[n] += x[n]: gradients over micro-batches.
// Grid: one invocation per unit. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> sum: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn accumulate(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        sum[i] += x[i];
    }
}
