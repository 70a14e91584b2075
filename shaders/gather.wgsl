// rows: y[m, C] = x[min(index[m], R − 1), C].  rows_grad: dx[r, C] = dy[inverse[r] − 1, C], or 0 if inverse[r] is 0.
// words: y[m] = x[index[m]], or 0 outside x. Grid: one invocation per unit of the result. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units of the result
    c: u32, // units of a row (words: length of x)
    rows: u32, // of x
}
@group(0) @binding(15) var<uniform> p: Params;

#if words
@group(0) @binding(0) var<storage, read_write> y: array<u32>;
@group(0) @binding(1) var<storage, read> x: array<u32>;
#else
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
#endif
@group(0) @binding(2) var<storage, read> index: array<u32>;

#if rows
@compute @workgroup_size(WG)
fn rows(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        let r = min(index[i / p.c], p.rows - 1u);
        y[i] = x[r * p.c + i % p.c];
    }
}
#endif

#if rows_grad
@compute @workgroup_size(WG)
fn rows_grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let slot = index[i / p.c];
    if slot == 0u {
        y[i] = E(0.0);
    } else {
        y[i] = x[(slot - 1u) * p.c + i % p.c];
    }
}
#endif

#if words
@compute @workgroup_size(WG)
fn words(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = index[i];
    var word = 0u;
    if at < p.c {
        word = x[at];
    }
    y[i] = word;
}
#endif
