// forward: y[B, 2H, 2W, C] = nearest of x[B, H, W, C].  grad: dx = sum of the four cotangents, in row-major order.
// Grid: one invocation per word of the result.

#import grid
#import elem

struct Params {
    n: u32, // words of the result
    w: u32, // of the small image
    c: u32, // words
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let pixel = i / p.c;
    let line = pixel / (2u * p.w); // over images and rows of y
    let col = pixel % (2u * p.w);
    y[i] = x[(line / 2u * p.w + col / 2u) * p.c + i % p.c];
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let pixel = i / p.c;
    let line = pixel / p.w;
    let at = (4u * line * p.w + 2u * (pixel % p.w)) * p.c + i % p.c;
    let below = at + 2u * p.w * p.c;
    var v = parts(x[at]);
    let b = parts(x[at + p.c]);
    let c = parts(x[below]);
    let d = parts(x[below + p.c]);
#repeat k PARTS
    v[k] = ((v[k] + b[k]) + c[k]) + d[k];
#end
    y[i] = word(v);
}
