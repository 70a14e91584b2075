// first[K] = the first row r with ids[r] = k.  next[R] = the first row after r with the id of r. R where there is none.
// Grid: one invocation per result, which searches the rows in order. No reduction.

#import grid

struct Params {
    n: u32, // results
    rows: u32,
}
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(15) var<uniform> p: Params;

fn search(id: u32, start: u32) -> u32 {
    var r = start;
    while r < p.rows {
        if ids[r] == id {
            break;
        }
        r++;
    }
    return r;
}

@compute @workgroup_size(WG)
fn first(@builtin(global_invocation_id) gid: vec3<u32>) {
    let k = item_index(gid, WG);
    if k < p.n {
        y[k] = search(k, 0u);
    }
}

@compute @workgroup_size(WG)
fn next(@builtin(global_invocation_id) gid: vec3<u32>) {
    let r = item_index(gid, WG);
    if r < p.n {
        y[r] = search(ids[r], r + 1u);
    }
}
