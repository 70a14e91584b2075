// unfold: y[B, rows, cols, C·k·k] = what lies under each window of x[B, H, W, C], in the order (channel, kh, kw).
// fold: y[B, H, W, C] = (bias +) sum of all that lies on a pixel in windows x[B, rows, cols, C·k·k].
// Grid: one invocation per element of y; sums in the order (kh, kw).

#import grid

struct Params {
    n: u32, // elements of y
    h: u32,
    w: u32,
    c: u32,
    rows: u32,
    cols: u32,
    k: u32,
    stride: u32,
    border: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>;
#endif

#if unfold
@compute @workgroup_size(WG)
fn unfold(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let taps = p.k * p.k;
    let tap = i % taps;
    let line = i / (taps * p.c * p.cols);
    // Beyond the upper or left edge these wrap to large numbers.
    let row = line % p.rows * p.stride + tap / p.k - p.border;
    let col = i / (taps * p.c) % p.cols * p.stride + tap % p.k - p.border;
    var v = 0.0;
    if row < p.h && col < p.w {
        v = x[((line / p.rows * p.h + row) * p.w + col) * p.c + i / taps % p.c];
    }
    y[i] = v;
}
#endif

#if fold
@compute @workgroup_size(WG)
fn fold(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let taps = p.k * p.k;
    let c = i % p.c;
    let line = i / (p.c * p.w);
    let row = line % p.h + p.border;
    let col = i / p.c % p.w + p.border;
#if BIAS
    var sum = bias[c];
#else
    var sum = 0.0;
#endif
    for (var a = 0u; a < p.k; a++) {
        // Before the first tap these wrap to large numbers, which are no windows.
        let down = row - a;
        if row < a || down % p.stride != 0u || down / p.stride >= p.rows {
            continue;
        }
        let start = (line / p.h * p.rows + down / p.stride) * p.cols;
        for (var b = 0u; b < p.k; b++) {
            let across = col - b;
            if col >= b && across % p.stride == 0u && across / p.stride < p.cols {
                sum += x[((start + across / p.stride) * p.c + c) * taps + a * p.k + b];
            }
        }
    }
    y[i] = sum;
}
#endif
