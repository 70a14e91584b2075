// Writes pieces of a product: C[row, col..col+4], plus the bias (of the column, or of the row if SWAP), plus what C
// holds if ACCUMULATE, after its ENDING if it has one. C_VEC: four neighbours in memory are written at once. Pieces
// outside the matrix are dropped. C_OCT: eight are written at once, without an ENDING; n, or m if SWAP, comes in eights.

#if ENDING
#import ending
#endif

// What four neighbours get from their columns. A tile reads it once for all of its rows: on software adapters a load in
// every row takes longer to compile and to run than all the rest of the store.
struct Ends {
    bias: vec4<f32>,
    gamma: vec4<f32>,
}

// Of the columns j..j+4; those beyond the last hold anything and are not written.
fn ends(j: u32) -> Ends {
    var e: Ends;
#if BIAS
    let first = p.bias_at + j;
    e.bias = vec4(bias[first], bias[first + 1u], bias[first + 2u], bias[first + 3u]);
#endif
#if GAMMA
#if C_VEC
    e.gamma = gamma(j >> 2u);
#else
    e.gamma = vec4(gamma(j), gamma(j + 1u), gamma(j + 2u), gamma(j + 3u));
#endif
#endif
    return e;
}

#if C_OCT
// Writes eight neighbours.
fn put_eight(at: u32, e: Ends, f: Ends, lower_half: vec4<f32>, upper_half: vec4<f32>) {
    var lo = lower_half;
    var hi = upper_half;
#if BIAS
    lo += e.bias;
    hi += f.bias;
#endif
#if ACCUMULATE
    lo += lower(c[at >> 3u]);
    hi += upper(c[at >> 3u]);
#endif
    c[at >> 3u] = join(lo, hi);
}
#else
#if !C_VEC
fn one_of(v: vec4<f32>, i: u32) -> f32 {
    return select(select(v.x, v.y, i == 1u), select(v.z, v.w, i == 3u), i > 1u);
}
#endif

// Writes four neighbours, of which `count` exist.
fn put(at: u32, e: Ends, value: vec4<f32>, count: u32) {
    var v = value;
#if BIAS
    v += e.bias;
#endif
#if C_VEC
#if ACCUMULATE
    v += c[at >> 2u];
#endif
#if ENDING
    c[at >> 2u] = stored(ended(at >> 2u, e.gamma, v));
#else
    c[at >> 2u] = stored(v);
#endif
#else
    for (var i = 0u; i < min(count, 4u); i += 1u) {
        var x = one_of(v, i);
#if ACCUMULATE
        x += c[at + i];
#endif
#if ENDING
        c[at + i] = ended(at + i, one_of(e.gamma, i), x);
#else
        c[at + i] = x;
#endif
    }
#endif
}

// Elements (row, col..col+4).
fn put_row(at: u32, row: u32, col: u32, e: Ends, v: vec4<f32>) {
    if row < p.m && col < p.n {
        put(at + row * p.ldc + col, e, v, p.n - col);
    }
}
#endif
