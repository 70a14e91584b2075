// col_sum: y[b, c] = Σ of x[r, c] over the rows r of block b; applied again to the blocks until one is left. PAIR: of two matrices.
// sum: y[b] = scale·Σ of block b of x[n].  broadcast: y[n] = scale·x[0].
// Grid: one invocation per unit of y (col_sum: word); sum: a row per block. f32, fixed order (common/row.wgsl). X_HALF: x is kept in half precision.

#import elem
#import row

#if col_sum
struct Params {
    n: u32, // words of y
    rows: u32,
    cols: u32, // words
    block: u32, // rows
}
@group(0) @binding(15) var<uniform> p: Params;
#if X_HALF
#import half
alias X = Halves;
fn number(v: X) -> Parts {
    return half_parts(v);
}
#else
alias X = Word;
fn number(v: X) -> Parts {
    return parts(v);
}
#endif
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<X>;
#if PAIR
@group(0) @binding(2) var<storage, read_write> y2: array<Word>;
@group(0) @binding(3) var<storage, read> x2: array<Word>;
#endif

@compute @workgroup_size(WG)
fn col_sum(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let cols = p.cols;
    let first = i / cols * p.block;
    let end = min(first + p.block, p.rows) * cols;
    var sum: Parts;
#if PAIR
    var sum2: Parts;
#endif
    for (var at = first * cols + i % cols; at < end; at += cols) {
        let v = number(x[at]);
#repeat k PARTS
        sum[k] += v[k];
#end
#if PAIR
        let v2 = parts(x2[at]);
#repeat k PARTS
        sum2[k] += v2[k];
#end
#endif
    }
    y[i] = word(sum);
#if PAIR
    y2[i] = word(sum2);
#endif
}
#endif

#if sum
struct Params {
    n: u32, // units of x
    block: u32, // units
    scale: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn sum(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    let first = row * p.block;
    if first >= p.n {
        return;
    }
    let last = min(first + p.block, p.n);
    var part = E(0.0);
    for (var i = first + lane; i < last; i += LANES) {
        part += x[i];
    }
    let all = row_sum(lane, total(part));
    if lane == 0u {
        y[row] = all * p.scale;
    }
}
#endif

#if broadcast
struct Params {
    n: u32, // units of y
    scale: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read> x: f32;

@compute @workgroup_size(WG)
fn broadcast(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i < p.n {
        y[i] = E(x * p.scale);
    }
}
#endif
