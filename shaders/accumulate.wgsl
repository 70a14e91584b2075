// sum[n] += x[n]: gradients over micro-batches.
// Grid: one invocation per word. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words
}

@group(0) @binding(0) var<storage, read_write> sum: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn accumulate(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        var v = parts(sum[i]);
        let w = parts(x[i]);
#repeat k PARTS
        v[k] += w[k];
#end
        sum[i] = word(v);
    }
}
