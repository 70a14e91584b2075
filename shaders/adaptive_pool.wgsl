// forward: y[B, rows, cols, C] = mean of the window of x[B, H, W, C] under each cell.  grad: dx = the adjoint, of dy.
// Grid: one invocation per unit of the result; windows and cells are summed row by row.

#import grid
#import elem

struct Params {
    n: u32, // units of the result
    c: u32, // units
    h: u32,
    w: u32,
    rows: u32,
    cols: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

// First and end of item i of `parts` over `all`, rounded outwards: a cell's pixels, and a pixel's cells.
fn spread(i: u32, all: u32, parts: u32) -> vec2<u32> {
    return vec2<u32>(i * all / parts, ((i + 1u) * all + parts - 1u) / parts);
}

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let line = i / (p.c * p.cols);
    let down = spread(line % p.rows, p.h, p.rows);
    let across = spread(i / p.c % p.cols, p.w, p.cols);
    var sum = E(0.0);
    for (var r = down.x; r < down.y; r++) {
        let at = (line / p.rows * p.h + r) * p.w;
        for (var k = across.x; k < across.y; k++) {
            sum += x[(at + k) * p.c + i % p.c];
        }
    }
    y[i] = sum * (1.0 / f32((down.y - down.x) * (across.y - across.x)));
}

@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let line = i / (p.c * p.w);
    let down = spread(line % p.h, p.rows, p.h);
    let across = spread(i / p.c % p.w, p.cols, p.w);
    var sum = E(0.0);
    for (var r = down.x; r < down.y; r++) {
        let rows = spread(r, p.h, p.rows);
        let at = (line / p.h * p.rows + r) * p.cols;
        for (var k = across.x; k < across.y; k++) {
            let cols = spread(k, p.w, p.cols);
            let size = (rows.y - rows.x) * (cols.y - cols.x);
            sum += (1.0 / f32(size)) * x[(at + k) * p.c + i % p.c];
        }
    }
    y[i] = sum;
}
