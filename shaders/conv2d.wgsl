// The parts of a "same" convolution beside its matrix product (images NHWC; packed weights go tap by tap, tap = kh·k + kw).
// pack: packed[o, tap, c] = w[o, c, tap].  flip: packed[c, tap, o] = w[o, c, k² − 1 − tap] (input gradient).
// unpack: dw[o, c, tap] = packed[o, tap, c].
// gather: rows[pixel − first, tap, c] = x[pixel shifted by tap, c], 0 outside the image, where a product can't find them itself.
// Grid: one invocation per unit of channels and other channel, or per unit of the rows, or per pixel (BY_PIXEL). No sums.

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
// The weights' side: `units` of channels `c` of each `o`; for flip `units` of `o` of each `c`. TAPS = k².
struct Params {
    units: u32,
    o: u32,
    c: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
#if VEC
alias Moved = Quad;
#else
alias Moved = f32;
#endif
#endif

#if pack
@group(0) @binding(0) var<storage, read_write> result: array<Moved>;
@group(0) @binding(1) var<storage, read> w: array<Moved>;

@compute @workgroup_size(WG)
fn pack(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.o * p.units {
        return;
    }
    let read_at = i * TAPS;
    let write_at = i / p.units * p.units * TAPS + i % p.units;
#if VEC
    var v: array<vec4<f32>, TAPS>;
#repeat t TAPS
    v[t] = quad(w[read_at + t]);
#end
#repeat t TAPS
    result[write_at + t * p.units] = packed(vec4(v[t / 4u][t % 4u], v[(TAPS + t) / 4u][(TAPS + t) % 4u], v[(2u * TAPS + t) / 4u][(2u * TAPS + t) % 4u], v[(3u * TAPS + t) / 4u][(3u * TAPS + t) % 4u]));
#end
#else
    for (var t = 0u; t < TAPS; t += 1u) {
        result[write_at + t * p.units] = w[read_at + t];
    }
#endif
}
#endif

#if unpack
@group(0) @binding(0) var<storage, read_write> result: array<Moved>;
@group(0) @binding(1) var<storage, read> w: array<Moved>;

@compute @workgroup_size(WG)
fn unpack(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.o * p.units {
        return;
    }
    let write_at = i * TAPS;
    let read_at = i / p.units * p.units * TAPS + i % p.units;
#if VEC
    var v: array<vec4<f32>, TAPS>;
#repeat t TAPS
    {
        let q = quad(w[read_at + t * p.units]);
        v[t / 4u][t % 4u] = q.x;
        v[(TAPS + t) / 4u][(TAPS + t) % 4u] = q.y;
        v[(2u * TAPS + t) / 4u][(2u * TAPS + t) % 4u] = q.z;
        v[(3u * TAPS + t) / 4u][(3u * TAPS + t) % 4u] = q.w;
    }
#end
#repeat t TAPS
    result[write_at + t] = packed(v[t]);
#end
#else
    for (var t = 0u; t < TAPS; t += 1u) {
        result[write_at + t] = w[read_at + t * p.units];
    }
#endif
}
#endif

#if flip
@group(0) @binding(0) var<storage, read_write> result: array<Moved>;
@group(0) @binding(1) var<storage, read> w: array<f32>;

@compute @workgroup_size(WG)
fn flip(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.c * p.units {
        return;
    }
    let c = i / p.units;
    let step = p.c * TAPS;
    let read_at = i % p.units * WIDTH * step + c * TAPS;
    let write_at = c * p.units * TAPS + i % p.units;
    for (var t = 0u; t < TAPS; t += 1u) {
        let at = read_at + TAPS - 1u - t;
#if VEC
        result[write_at + t * p.units] = packed(vec4(w[at], w[at + step], w[at + 2u * step], w[at + 3u * step]));
#else
        result[write_at + t * p.units] = w[at];
#endif
    }
}
#endif
