// C[m,n] = A·B (+ bias[n]) (+ C if ACCUMULATE), tiles in workgroup memory: the variant for GPUs.
//
// Shapes and storage of A and B: common/operands.wgsl. Grid: one workgroup per tile of EDGE × EDGE, times the parts of
// k, which matmul_sum.wgsl adds. Each invocation holds 4×4 elements (8×8 if BIG: four 4×4 blocks, half a tile apart) and
// loads four neighbours of each operand per DEPTH terms, one step ahead: EDGE · DEPTH = 4 · WG.
// Accumulation in f32, in the order of k: deterministic.

#import grid
#import words
#import operands
#import result
#import put

const SIDE: u32 = EDGE / 4u;
// One vector of padding keeps the columns of a transposed store in different banks.
const STRIDE: u32 = SIDE + 1u;
var<workgroup> rows: array<vec4<f32>, DEPTH * STRIDE>;
var<workgroup> cols: array<vec4<f32>, DEPTH * STRIDE>;

// What invocation `t` loads: four neighbours along k, or across it.
fn along(t: u32) -> vec2<u32> {
    return vec2(t / (DEPTH / 4u), t % (DEPTH / 4u) * 4u);
}
fn across(t: u32) -> vec2<u32> {
    return vec2(t % SIDE * 4u, t / SIDE);
}
fn next_left(t: u32, row: u32, k: u32) -> vec4<f32> {
#if TA
    let at = across(t);
#else
    let at = along(t);
#endif
    return left(row + at.x, k + at.y);
}
fn next_right(t: u32, k: u32, col: u32) -> vec4<f32> {
#if TB
    let at = along(t);
#else
    let at = across(t);
#endif
    return right(k + at.y, col + at.x);
}
fn keep_left(t: u32, v: vec4<f32>) {
#if TA
    let at = across(t);
    rows[at.y * STRIDE + at.x / 4u] = v;
#else
    let at = along(t);
    rows[at.y * STRIDE + at.x / 4u][at.x % 4u] = v.x;
    rows[(at.y + 1u) * STRIDE + at.x / 4u][at.x % 4u] = v.y;
    rows[(at.y + 2u) * STRIDE + at.x / 4u][at.x % 4u] = v.z;
    rows[(at.y + 3u) * STRIDE + at.x / 4u][at.x % 4u] = v.w;
#endif
}
fn keep_right(t: u32, v: vec4<f32>) {
#if TB
    let at = along(t);
    cols[at.y * STRIDE + at.x / 4u][at.x % 4u] = v.x;
    cols[(at.y + 1u) * STRIDE + at.x / 4u][at.x % 4u] = v.y;
    cols[(at.y + 2u) * STRIDE + at.x / 4u][at.x % 4u] = v.z;
    cols[(at.y + 3u) * STRIDE + at.x / 4u][at.x % 4u] = v.w;
#else
    let at = across(t);
    cols[at.y * STRIDE + at.x / 4u] = v;
#endif
}

struct Block {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
}
fn outer(s: Block, a: vec4<f32>, b: vec4<f32>) -> Block {
    return Block(s.r0 + a.x * b, s.r1 + a.y * b, s.r2 + a.z * b, s.r3 + a.w * b);
}
fn put_block(at: u32, row: u32, col: u32, s: Block) {
    let e = ends(col);
    put_row(at, row, col, e, s.r0);
    put_row(at, row + 1u, col, e, s.r1);
    put_row(at, row + 2u, col, e, s.r2);
    put_row(at, row + 3u, col, e, s.r3);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let group = group_index(wid);
    let tiles = p.tiles_m * p.tiles_n;
    // The same for the whole workgroup, which the barriers below need.
    let part = group / tiles;
    let row = group % tiles / p.tiles_n * EDGE;
    let col = group % p.tiles_n * EDGE;
    let end = min(p.k, (part + 1u) * p.chunk);
#if BIG
    let tx = t % 16u;
    let ty = t / 16u;
    var s01 = Block();
    var s10 = Block();
    var s11 = Block();
#else
    let tx = t % SIDE;
    let ty = t / SIDE;
#endif
    var s00 = Block();
    var k = part * p.chunk;
    var a_next = next_left(t, row, k);
    var b_next = next_right(t, k, col);
    while k < end {
        keep_left(t, a_next);
        keep_right(t, b_next);
        workgroupBarrier();
        k += DEPTH;
        if k < end {
            a_next = next_left(t, row, k);
            b_next = next_right(t, k, col);
        }
#repeat i DEPTH
        {
            let a0 = rows[i * STRIDE + ty];
            let b0 = cols[i * STRIDE + tx];
            s00 = outer(s00, a0, b0);
#if BIG
            let a1 = rows[i * STRIDE + 16u + ty];
            let b1 = cols[i * STRIDE + 16u + tx];
            s01 = outer(s01, a0, b1);
            s10 = outer(s10, a1, b0);
            s11 = outer(s11, a1, b1);
#endif
        }
#end
        workgroupBarrier();
    }
    if group >= tiles * ((p.k + p.chunk - 1u) / p.chunk) {
        return;
    }
    let at = p.c_at + part * p.m * p.n;
    put_block(at, row + ty * 4u, col + tx * 4u, s00);
#if BIG
    put_block(at, row + ty * 4u, col + 64u + tx * 4u, s01);
    put_block(at, row + 64u + ty * 4u, col + tx * 4u, s10);
    put_block(at, row + 64u + ty * 4u, col + 64u + tx * 4u, s11);
#endif
}
