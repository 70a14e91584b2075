// The parts of a "same" convolution beside its matrix product (common to all three passes, images NHWC).
// gather: rows[pixel − first, tap·C + c] = x[pixel shifted by tap, c], 0 outside the image; tap = kh·k + kw.
// pack: packed[tap·C + c, o] = w[o, c, kh, kw].  flip: packed[tap·O + o, c] = w[o, c, k²−1−tap] (input gradient).
// unpack: dw[o, c, tap] = packed[o, tap·C + c].
// Grid: one invocation per unit of the result. No sums.

#import elem
#import grid

#if gather
struct Params {
    units: u32,
    first: u32, // pixel
    height: u32,
    width: u32,
    c: u32, // units
    k: u32,
}
@group(1) @binding(0) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> rows: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn gather(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.units {
        return;
    }
    let tap = i / p.c % (p.k * p.k);
    let pixel = p.first + i / (p.c * p.k * p.k);
    let line = pixel / p.width;
    // Beyond the upper or left edge these wrap to large numbers.
    let y = line % p.height + tap / p.k - p.k / 2u;
    let col = pixel % p.width + tap % p.k - p.k / 2u;
    var v = E(0.0);
    if y < p.height && col < p.width {
        v = x[((line / p.height * p.height + y) * p.width + col) * p.c + i % p.c];
    }
    rows[i] = v;
}
#else
struct Params {
    units: u32,
    o: u32,
    c: u32,
    taps: u32, // k²
}
@group(1) @binding(0) var<uniform> p: Params;
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
