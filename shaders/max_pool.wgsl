// forward: y[B, ⌊H/2⌋, ⌊W/2⌋, C] = largest of the 2×2 cells of x[B, H, W, C].
// grad: dx[B, H, W, C] = dy at the largest cell (the first of the four in row-major order on ties), else 0; also 0 in
// an odd last row or column.
// Grid: one invocation per word of y; grad one per word of ⌈H/2⌉·⌈W/2⌉ windows, writes their cells. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words of windows
    h: u32, // of x
    w: u32, // of x
    c: u32, // words
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(2) var<storage, read> dy: array<Word>;

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
    var v = parts(x[at]);
    let b = parts(x[at + p.c]);
    let c = parts(x[below]);
    let d = parts(x[below + p.c]);
#repeat k PARTS
    v[k] = max(max(v[k], b[k]), max(c[k], d[k]));
#end
    y[i] = word(v);
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
        let none = word(Parts());
        y[at] = none;
        if right {
            y[at + p.c] = none;
        }
        if down {
            y[below] = none;
        }
        return;
    }
    var best = parts(x[at]);
    let b = parts(x[at + p.c]);
    let c = parts(x[below]);
    let d = parts(x[below + p.c]);
    let g = parts(dy[((line / high * (p.h / 2u) + row) * (p.w / 2u) + col) * p.c + i % p.c]);
    var y0: Parts;
    var y1: Parts;
    var y2: Parts;
    var y3: Parts;
#repeat k PARTS
    {
        var cell = select(E(0.0), E(1.0), b[k] > best[k]);
        best[k] = max(best[k], b[k]);
        cell = select(cell, E(2.0), c[k] > best[k]);
        best[k] = max(best[k], c[k]);
        cell = select(cell, E(3.0), d[k] > best[k]);
        y0[k] = select(E(0.0), g[k], cell == E(0.0));
        y1[k] = select(E(0.0), g[k], cell == E(1.0));
        y2[k] = select(E(0.0), g[k], cell == E(2.0));
        y3[k] = select(E(0.0), g[k], cell == E(3.0));
    }
#end
    y[at] = word(y0);
    y[at + p.c] = word(y1);
    y[below] = word(y2);
    y[below + p.c] = word(y3);
}
