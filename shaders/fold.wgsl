// unfold: y[B, rows, cols, C·k·k] = what lies under each window of x[B, H, W, C], in the order (channel, kh, kw).
// fold: y[B, H, W, C] = (bias +) sum of all that lies on a pixel in windows x[B, rows, cols, C·k·k].
// Grid: unfold one invocation per unit of channels and TAPS neighbours of a window's row (QUAD: four, else one); fold one per
// element of y, sums in the order (kh, kw).

#import grid
#import elem

struct Params {
    n: u32, // invocations
    h: u32,
    w: u32,
    c: u32, // units
    rows: u32,
    cols: u32,
    k: u32,
    stride: u32,
    border: u32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if unfold
#if QUAD
alias Y = vec4<f32>;
#else
alias Y = f32;
#endif
@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn unfold(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let k = p.k;
    let across = k / TAPS;
    let of_window = i / across; // (window, channels, kh)
    let of_channels = of_window / k; // (window, channels)
    let window = of_channels / p.c;
    let line = window / p.cols;
    let image = line / p.rows;
    let kh = of_window - of_channels * k;
    let channels = of_channels - window * p.c;
    // Beyond the upper or left edge these wrap to large numbers.
    let row = (line - image * p.rows) * p.stride + kh - p.border;
    let col = (window - line * p.cols) * p.stride + (i - of_window * across) * TAPS - p.border;
    let inside = row < p.h;
    let width = p.w;
    let first = (image * p.h + row) * width;
    var v: array<E, TAPS>;
#repeat t TAPS
    if inside && col + t < width {
        v[t] = x[(first + col + t) * p.c + channels];
    }
#end
#if QUAD
#if VEC
    // Four channels, each with its rows of taps.
    let taps = transpose(mat4x4(v[0], v[1], v[2], v[3]));
    let at = (of_channels * 4u * k + kh) * across + (i - of_window * across);
    let next = k * across;
    y[at] = taps[0];
    y[at + next] = taps[1];
    y[at + 2u * next] = taps[2];
    y[at + 3u * next] = taps[3];
#else
    y[i] = vec4(v[0], v[1], v[2], v[3]);
#endif
#else
    y[i] = v[0];
#endif
}
#endif

#if fold
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
#if BIAS
@group(0) @binding(2) var<storage, read> bias: array<f32>;
#endif

@compute @workgroup_size(WG)
fn fold(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let k = p.k;
    let stride = p.stride;
    let cols = p.cols;
    let pixel = i / p.c;
    let c = i - pixel * p.c;
    let line = pixel / p.w;
    let image = line / p.h;
    let row = line - image * p.h + p.border;
    let col = pixel - line * p.w + p.border;
#if BIAS
    var sum = bias[c];
#else
    var sum = 0.0;
#endif
    // From tap to tap of a row or column that meets the pixel, the window moves back by one; before the first it wraps.
    let right = col / stride;
    let b0 = col - right * stride;
    var down = row / stride;
    for (var a = row - down * stride; a < k; a += stride) {
        if down < p.rows {
            let start = (image * p.rows + down) * cols;
            var across = right;
            for (var b = b0; b < k; b += stride) {
                if across < cols {
                    sum += x[(((start + across) * p.c + c) * k + a) * k + b];
                }
                across--;
            }
        }
        down--;
    }
    y[i] = sum;
}
#endif
