// slice: y[r, i] = x[r, from + i].  pad: y[r, from + i] = x[r, i], 0 in the other columns.
// Grid: one invocation per unit of y. No sums.

#import grid
#import elem

struct Params {
    n: u32, // units of y
    all: u32, // units of a whole row
    first: u32, // units
    len: u32, // units of a row of the range
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn slice(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = x[i / p.len * p.all + p.first + i % p.len];
    }
}

@compute @workgroup_size(WG)
fn pad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let c = i % p.all;
    var v = E(0.0);
    if c >= p.first && c - p.first < p.len {
        v = x[i / p.all * p.len + (c - p.first)];
    }
    y[i] = v;
}
