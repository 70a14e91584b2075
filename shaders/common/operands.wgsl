// The operands of a matrix product: A[m,k], stored [k,m] if TA, and B[k,n], stored [n,k] if TB, with row strides and
// offsets in elements. A_VEC and B_VEC: four neighbours are read at once, which needs strides and offsets in fours; A_HALF and
// B_HALF: they are kept in half precision.
// K_TAIL: k is no multiple of the kernel's step, so terms beyond it are cut off.
// OCT: eight neighbours of either are read at once, and k, strides, offsets and lengths along memory come in eights.
// A_CONV and B_CONV: the operand is the matrix of a "same" convolution, which is never stored: row = pixel of NHWC images,
// column = tap · channels + channel, 0 where a tap lies outside the image. Channels come in fours; a_at and b_at are pixels.

struct Params {
    m: u32,
    n: u32,
    k: u32,
    // Row strides and first elements.
    lda: u32,
    ldb: u32,
    ldc: u32,
    a_at: u32,
    b_at: u32,
    c_at: u32,
    // Tiles of the product, and the part of k that one dispatch row sums (a multiple of four).
    tiles_m: u32,
    tiles_n: u32,
    chunk: u32,
    bias_at: u32,
#if CONV
    height: u32,
    width: u32,
    channels: u32,
    side: u32, // of the kernel
#endif
#import ending_params
}
// What is read at once.
#if OCT
alias Run = Oct;
@group(0) @binding(0) var<storage, read> a: array<Oct>;
@group(0) @binding(1) var<storage, read> b: array<Oct>;
#else
alias Run = vec4<f32>;
#if A_HALF
#import half
@group(0) @binding(0) var<storage, read> a: array<Half>;
fn four_of_a(i: u32) -> vec4<f32> {
    return widen(a[i]);
}
#else
#if A_VEC
@group(0) @binding(0) var<storage, read> a: array<Quad>;
fn four_of_a(i: u32) -> vec4<f32> {
    return quad(a[i]);
}
#else
@group(0) @binding(0) var<storage, read> a: array<f32>;
#endif
#endif
#if B_HALF
#import half
@group(0) @binding(1) var<storage, read> b: array<Half>;
fn four_of_b(i: u32) -> vec4<f32> {
    return widen(b[i]);
}
#else
#if B_VEC
@group(0) @binding(1) var<storage, read> b: array<Quad>;
fn four_of_b(i: u32) -> vec4<f32> {
    return quad(b[i]);
}
#else
@group(0) @binding(1) var<storage, read> b: array<f32>;
#endif
#endif
#endif
@group(0) @binding(15) var<uniform> p: Params;

#if CONV
// A pixel: the first one of its image, its row and its column.
struct Pixel {
    image: u32,
    y: u32,
    x: u32,
}
fn pixel_at(i: u32) -> Pixel {
    let line = i / p.width;
    let y = line % p.height;
    return Pixel((line - y) * p.width, y, i - line * p.width);
}
// The first channel under a tap of the kernel that lies on a pixel, less the tap's first column: add the column of the
// matrix. It may wrap.
struct Tap {
    at: u32,
    inside: bool,
}
fn tap_at(pixel: Pixel, tap: u32) -> Tap {
    // Beyond the upper or left edge these wrap to large numbers.
    let y = pixel.y + tap / p.side - p.side / 2u;
    let x = pixel.x + tap % p.side - p.side / 2u;
    return Tap((pixel.image + y * p.width + x - tap) * p.channels, y < p.height && x < p.width);
}
#endif
#if OCT
#if A_CONV
fn under_a(tap: Tap, k: u32) -> Oct {
    return select(Oct(), a[(tap.at + k) >> 3u], tap.inside);
}
#endif
#if B_CONV
fn under_b(tap: Tap, k: u32) -> Oct {
    return select(Oct(), b[(tap.at + k) >> 3u], tap.inside);
}
#endif
#else
#if A_CONV
fn under_a(tap: Tap, k: u32) -> vec4<f32> {
    return select(vec4<f32>(), four_of_a((tap.at + k) >> 2u), tap.inside);
}
#endif
#if B_CONV
fn under_b(tap: Tap, k: u32) -> vec4<f32> {
    return select(vec4<f32>(), four_of_b((tap.at + k) >> 2u), tap.inside);
}
#endif

// Four neighbours of A: [row, k..k+4], or [row..row+4, k] if TA; rows beyond m repeat the last, k beyond its end is 0.
fn left(row: u32, k: u32) -> vec4<f32> {
#if A_CONV
#if TA
    let pixel = k;
    let column = min(row, p.m - 4u);
#else
    let pixel = min(row, p.m - 1u);
    let column = k;
#endif
    let tap = tap_at(pixel_at(p.a_at + pixel), column / p.channels);
    return select(vec4<f32>(), under_a(tap, column), k < p.k);
#else
#if TA
#if A_VEC
    let v = four_of_a((p.a_at + min(k, p.k - 1u) * p.lda + min(row, p.m - 4u)) >> 2u);
#else
    let at = p.a_at + min(k, p.k - 1u) * p.lda;
    let last = p.m - 1u;
    let v = vec4(a[at + min(row, last)], a[at + min(row + 1u, last)], a[at + min(row + 2u, last)], a[at + min(row + 3u, last)]);
#endif
#if K_TAIL
    return select(vec4<f32>(), v, k < p.k);
#else
    return v;
#endif
#else
    let at = p.a_at + min(row, p.m - 1u) * p.lda;
#if A_VEC
#if K_TAIL
    return select(vec4<f32>(), four_of_a((at + min(k, p.k - 4u)) >> 2u), k < p.k);
#else
    return four_of_a((at + k) >> 2u);
#endif
#else
    let last = p.k - 1u;
    let v = vec4(a[at + min(k, last)], a[at + min(k + 1u, last)], a[at + min(k + 2u, last)], a[at + min(k + 3u, last)]);
    return select(vec4<f32>(), v, vec4(k, k + 1u, k + 2u, k + 3u) < vec4(p.k));
#endif
#endif
#endif
}

// Four neighbours of B: [k, col..col+4], or [k..k+4, col] if TB; columns beyond n repeat the last, k beyond its end is 0.
fn right(k: u32, col: u32) -> vec4<f32> {
#if B_CONV
#if TB
    let pixel = min(col, p.n - 1u);
    let column = k;
#else
    let pixel = k;
    let column = min(col, p.n - 4u);
#endif
    let tap = tap_at(pixel_at(p.b_at + pixel), column / p.channels);
    return select(vec4<f32>(), under_b(tap, column), k < p.k);
#else
#if TB
    let at = p.b_at + min(col, p.n - 1u) * p.ldb;
#if B_VEC
#if K_TAIL
    return select(vec4<f32>(), four_of_b((at + min(k, p.k - 4u)) >> 2u), k < p.k);
#else
    return four_of_b((at + k) >> 2u);
#endif
#else
    let last = p.k - 1u;
    let v = vec4(b[at + min(k, last)], b[at + min(k + 1u, last)], b[at + min(k + 2u, last)], b[at + min(k + 3u, last)]);
    return select(vec4<f32>(), v, vec4(k, k + 1u, k + 2u, k + 3u) < vec4(p.k));
#endif
#else
    let at = p.b_at + min(k, p.k - 1u) * p.ldb;
#if B_VEC
    let v = four_of_b((at + min(col, p.n - 4u)) >> 2u);
#else
    let last = p.n - 1u;
    let v = vec4(b[at + min(col, last)], b[at + min(col + 1u, last)], b[at + min(col + 2u, last)], b[at + min(col + 3u, last)]);
#endif
#if K_TAIL
    return select(vec4<f32>(), v, k < p.k);
#else
    return v;
#endif
#endif
#endif
}
#endif
