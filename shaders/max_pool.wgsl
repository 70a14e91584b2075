// forward: y[B, ⌊H/2⌋, ⌊W/2⌋, C] = largest of the 2×2 cells of x[B, H, W, C].
// grad: dx[B, H, W, C] = dy at the largest cell (the first of the four in row-major order on ties), else 0; also 0 in
// an odd last row or column.
// Grid: one invocation per unit of y; grad one per unit of ⌈H/2⌉·⌈W/2⌉ windows, writes their cells. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units of windows
    h: u32, // of x
    w: u32, // of x
    c: u32, // units
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;
@group(0) @binding(2) var<storage, read> dy: array<E>;

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let pixel = i / p.c;
    let line = pixel / (p.w / 2u); // over images and rows of y
    let top = line / (p.h / 2u) * p.h + 2u * (line % (p.h / 2u));
    let at = (top * p.w + 2u * (pixel % (p.w / 2u))) * p.c + i % p.c;
    let below = at + p.w * p.c;
    y[i] = max(max(x[at], x[at + p.c]), max(x[below], x[below + p.c]));
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let wide = (p.w + 1u) / 2u;
    let high = (p.h + 1u) / 2u;
    let pixel = i / p.c;
    let line = pixel / wide;
    let row = line % high;
    let col = pixel % wide;
    let at = ((line / high * p.h + 2u * row) * p.w + 2u * col) * p.c + i % p.c;
    let below = at + p.w * p.c;
    let right = 2u * col + 1u < p.w;
    let down = 2u * row + 1u < p.h;
    if !(right && down) {
        y[at] = E(0.0);
        if right {
            y[at + p.c] = E(0.0);
        }
        if down {
            y[below] = E(0.0);
        }
        return;
    }
    var best = x[at];
    var cell = E(0.0);
    let b = x[at + p.c];
    cell = select(cell, E(1.0), b > best);
    best = max(best, b);
    let c = x[below];
    cell = select(cell, E(2.0), c > best);
    best = max(best, c);
    cell = select(cell, E(3.0), x[below + p.c] > best);
    let d = dy[((line / high * (p.h / 2u) + row) * (p.w / 2u) + col) * p.c + i % p.c];
    y[at] = select(E(0.0), d, cell == E(0.0));
    y[at + p.c] = select(E(0.0), d, cell == E(1.0));
    y[below] = select(E(0.0), d, cell == E(2.0));
    y[below + p.c] = select(E(0.0), d, cell == E(3.0));
}
