// forward: y[n] = max(x, 0).  grad: dx[n] = dy where x > 0, else 0.
// Grid: one invocation per word. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words
}

@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(2) var<storage, read> dy: array<Word>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        var v = parts(x[i]);
#repeat k PARTS
        v[k] = max(v[k], E(0.0));
#end
        y[i] = word(v);
    }
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        let v = parts(x[i]);
        var d = parts(dy[i]);
#repeat k PARTS
        d[k] = select(E(0.0), d[k], v[k] > E(0.0));
#end
        y[i] = word(d);
    }
}
