// y = x·f with f = 1/keep or 0, drawn for each image and channel of x[B, .., C] from the key.
// Grid: one invocation per element.

#import grid
#import rng

struct Params {
    n: u32,
    c: u32,
    image: u32, // elements of an image
    salt: u32,
    keep: f32,
    inv_keep: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> key: vec4<u32>;

@compute @workgroup_size(WG)
fn channel_dropout(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let drawn = uniform_unit(child_key(key, p.salt), i / p.image * p.c + i % p.c);
    y[i] = x[i] * select(0.0, p.inv_keep, drawn < p.keep);
}
