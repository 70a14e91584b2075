// forward: y[B, H', W', C] = bilinear of x[B, H, W, C], corners not aligned.  grad: dx = the adjoint, of dy.
// Positions are whole numbers over 2n as in src/ops/resize.rs.
// Grid: one invocation per unit of the result; sums run over the pixels that touch it, row by row.

#import grid
#import elem
#import bilinear

struct Params {
    n: u32, // units of the result
    c: u32, // units
    from_h: u32,
    from_w: u32,
    to_h: u32,
    to_w: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let line = i / (p.c * p.to_w);
    let v = taps(line % p.to_h, p.from_h, p.to_h);
    let h = taps(i / p.c % p.to_w, p.from_w, p.to_w);
    let image = line / p.to_h * p.from_h;
    let top = (image + v.low) * p.from_w;
    let bottom = (image + v.high) * p.from_w;
    let c = i % p.c;
    let upper = (1.0 - h.upper) * x[(top + h.low) * p.c + c] + h.upper * x[(top + h.high) * p.c + c];
    let lower = (1.0 - h.upper) * x[(bottom + h.low) * p.c + c] + h.upper * x[(bottom + h.high) * p.c + c];
    y[i] = (1.0 - v.upper) * upper + v.upper * lower;
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let line = i / (p.c * p.from_w);
    let row = line % p.from_h;
    let col = i / p.c % p.from_w;
    let down = touching(row, p.from_h, p.to_h);
    let across = touching(col, p.from_w, p.to_w);
    var sum = E(0.0);
    for (var r = down.x; r < down.y; r++) {
        let wy = weight_at(taps(r, p.from_h, p.to_h), row);
        let at = (line / p.from_h * p.to_h + r) * p.to_w;
        for (var k = across.x; k < across.y; k++) {
            let w = wy * weight_at(taps(k, p.from_w, p.to_w), col);
            sum += w * x[(at + k) * p.c + i % p.c];
        }
    }
    y[i] = sum;
}
