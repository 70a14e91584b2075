// Writes pieces of a product: C[row, col..col+4], plus the bias (of the column, or of the row if SWAP), plus what C
// holds if ACCUMULATE, after its ENDING if it has one. C_VEC: four neighbours in memory are written at once. Pieces
// outside the matrix are dropped.

#if ENDING
#import ending
#endif

// Writes four neighbours; `count` of them exist, and the first has the bias index `j`.
fn put(at: u32, j: u32, value: vec4<f32>, count: u32) {
    var v = value;
#if C_VEC
#if BIAS
    v += vec4(bias[p.bias_at + j], bias[p.bias_at + j + 1u], bias[p.bias_at + j + 2u], bias[p.bias_at + j + 3u]);
#endif
#if ACCUMULATE
    v += c[at >> 2u];
#endif
#if ENDING
    c[at >> 2u] = stored(ended(at >> 2u, j >> 2u, v));
#else
    c[at >> 2u] = stored(v);
#endif
#else
    for (var i = 0u; i < min(count, 4u); i += 1u) {
        var x = select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i > 1u);
#if BIAS
        x += bias[p.bias_at + j + i];
#endif
#if ACCUMULATE
        x += c[at + i];
#endif
#if ENDING
        c[at + i] = ended(at + i, j + i, x);
#else
        c[at + i] = x;
#endif
    }
#endif
}

// Elements (row, col..col+4).
fn put_row(at: u32, row: u32, col: u32, v: vec4<f32>) {
    if row < p.m && col < p.n {
        put(at + row * p.ldc + col, col, v, p.n - col);
    }
}
