// patchify: y[B, H/P·W/P, C·P·P] from x[B, H, W, C]; a row is one patch in the order (channel, row, column).
// unpatchify: the inverse. Grid: one invocation per element of the result. No reduction.

#import grid

struct Params {
    n: u32, // elements
    h: u32,
    w: u32,
    c: u32,
    side: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;

@compute @workgroup_size(WG)
fn patchify(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let size = p.side * p.side;
    let row = i / (p.c * size);
    let e = i % (p.c * size);
    let gw = p.w / p.side;
    let line = row / gw * p.side + e / p.side % p.side; // over images and rows of x
    let col = row % gw * p.side + e % p.side;
    y[i] = x[(line * p.w + col) * p.c + e / size];
}

@compute @workgroup_size(WG)
fn unpatchify(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let ch = i % p.c;
    let pixel = i / p.c;
    let line = pixel / p.w;
    let col = pixel % p.w;
    let row = line / p.side * (p.w / p.side) + col / p.side;
    y[i] = x[((row * p.c + ch) * p.side + line % p.side) * p.side + col % p.side];
}
