// y[r, V] = 1 at ids[r], else 0; an id outside gives a row of zeros.
// Grid: one invocation per unit of y. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units of y
    cols: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;

@compute @workgroup_size(WG)
fn one_hot(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = indicator(i % p.cols * WIDTH, ids[i / p.cols]);
    }
}
