// forward: y[B, H/2, W/2, C] = largest of the 2×2 cells of x[B, H, W, C].
// grad: dx[B, H, W, C] = dy at the largest cell (the first of the four in row-major order on ties), else 0.
// Grid: one invocation per unit of y; grad writes the four cells of its window. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units of y
    h: u32, // of y
    w: u32, // of y
    c: u32, // units
}
@group(1) @binding(0) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<E>;

// Unit of the first cell of the window of unit i.
fn window(i: u32) -> u32 {
    let pixel = i / p.c;
    let line = pixel / p.w; // over images and rows of y
    return ((2u * line) * (2u * p.w) + 2u * (pixel % p.w)) * p.c + i % p.c;
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = window(i);
    let below = at + 2u * p.w * p.c;
    y[i] = max(max(x[at], x[at + p.c]), max(x[below], x[below + p.c]));
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let at = window(i);
    let below = at + 2u * p.w * p.c;
    var best = x[at];
    var cell = E(0.0);
    let b = x[at + p.c];
    cell = select(cell, E(1.0), b > best);
    best = max(best, b);
    let c = x[below];
    cell = select(cell, E(2.0), c > best);
    best = max(best, c);
    cell = select(cell, E(3.0), x[below + p.c] > best);
    let d = dy[i];
    y[at] = select(E(0.0), d, cell == E(0.0));
    y[at + p.c] = select(E(0.0), d, cell == E(1.0));
    y[below] = select(E(0.0), d, cell == E(2.0));
    y[below + p.c] = select(E(0.0), d, cell == E(3.0));
}
