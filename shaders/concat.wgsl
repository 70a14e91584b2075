// y[r, from + i] = x[r, i] for one of the operands; a dispatch each.
// Grid: one invocation per unit of x. No sums.

#import grid
#import elem

struct Params {
    n: u32, // units of x
    all: u32, // units of a row of y
    first: u32, // units
    len: u32, // units of a row of x
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn concat(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i / p.len * p.all + p.first + i % p.len] = x[i];
    }
}
