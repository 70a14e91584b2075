// The parts of a "same" convolution beside its matrix product (common to all three passes, images NHWC).
// gather: rows[pixel − first, tap·C + c] = x[pixel shifted by tap, c], 0 outside the image; tap = kh·k + kw.
// pack: packed[tap·C + c, o] = w[o, c, kh, kw].  flip: packed[tap·O + o, c] = w[o, c, k²−1−tap] (input gradient).
// unpack: dw[o, c, tap] = packed[o, tap·C + c].
// Grid: one invocation per unit of the result, or per pixel (BY_PIXEL). No sums.

#import elem
#import grid
#import words

#if gather
#if VEC
alias Moved = Quad;
#else
alias Moved = f32;
#endif
struct Params {
    items: u32,
    first: u32, // pixel
    height: u32,
    width: u32,
    c: u32, // units
    k: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> rows: array<Moved>;
@group(0) @binding(1) var<storage, read> x: array<Moved>;

@compute @workgroup_size(WG)
fn gather(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.items {
        return;
    }
#if BY_PIXEL
    let pixel = p.first + i;
    let line = pixel / p.width;
    let col = pixel - line * p.width;
    let row = line % p.height;
    var to = i * p.c * p.k * p.k;
    for (var kh = 0u; kh < p.k; kh += 1u) {
        // Beyond the upper or left edge these wrap to large numbers.
        let sy = row + kh - p.k / 2u;
        for (var kw = 0u; kw < p.k; kw += 1u) {
            let sx = col + kw - p.k / 2u;
            let inside = sy < p.height && sx < p.width;
            let at = ((line - row + sy) * p.width + sx) * p.c;
            for (var c = 0u; c < p.c; c += 1u) {
                var v = Moved();
                if inside {
                    v = x[at + c];
                }
                rows[to] = v;
                to += 1u;
            }
        }
    }
#else
    let tap = i / p.c % (p.k * p.k);
    let pixel = p.first + i / (p.c * p.k * p.k);
    let line = pixel / p.width;
    // Beyond the upper or left edge these wrap to large numbers.
    let y = line % p.height + tap / p.k - p.k / 2u;
    let col = pixel % p.width + tap % p.k - p.k / 2u;
    var v = Moved();
    if y < p.height && col < p.width {
        v = x[((line / p.height * p.height + y) * p.width + col) * p.c + i % p.c];
    }
    rows[i] = v;
#endif
}
#else
struct Params {
    units: u32,
    o: u32,
    c: u32,
    taps: u32, // k²
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> result: array<f32>;
@group(0) @binding(1) var<storage, read> w: array<f32>;
#endif

#if pack
@compute @workgroup_size(WG)
fn pack(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.units {
        return;
    }
    let line = i / p.o;
    result[i] = w[(i % p.o * p.c + line % p.c) * p.taps + line / p.c];
}
#endif

#if flip
@compute @workgroup_size(WG)
fn flip(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.units {
        return;
    }
    let line = i / p.c;
    result[i] = w[(line % p.o * p.c + i % p.c) * p.taps + p.taps - 1u - line / p.o];
}
#endif

#if unpack
@compute @workgroup_size(WG)
fn unpack(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.units {
        return;
    }
    let o = i / (p.c * p.taps);
    result[i] = w[(o * p.taps + i % p.taps) * p.c + i / p.taps % p.c];
}
#endif
