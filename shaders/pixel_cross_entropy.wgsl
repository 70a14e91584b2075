// The loss of a label map [B, H, W] under logits [B, h, w, C] resized bilinearly (common/bilinear.wgsl).
// rows: stats[pixel] = (log-sum-exp, nll, 1 if the largest logit is the label), the last two 0 where ignored.
// sums: partial (nll, correct, counted) over runs of pixels.  finish: loss, accuracy, counted.
// grad: dlogits = factor·Σ weight·(softmax − one-hot) over the counted pixels that a coarse one touches.
// Grid: rows: a row per pixel (common/row.wgsl); grad: one invocation per unit of dlogits. f32, fixed order.

#import elem
#import row
#import best
#import bilinear

#if rows
struct Params {
    pixels: u32,
    c: u32, // units
    classes: u32,
    from_h: u32,
    from_w: u32,
    to_h: u32,
    to_w: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> stats: array<f32>; // [pixels, 3]
@group(0) @binding(1) var<storage, read> logits: array<E>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
#endif

#if grad
struct Params {
    n: u32, // units of dlogits
    c: u32, // units
    classes: u32,
    from_h: u32,
    from_w: u32,
    to_h: u32,
    to_w: u32,
    inv_all: f32, // 1/pixels if the sum is divided by all, else 0
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> dlogits: array<E>;
@group(0) @binding(1) var<storage, read> dloss: f32;
@group(0) @binding(2) var<storage, read> logits: array<E>;
@group(0) @binding(3) var<storage, read> labels: array<u32>;
@group(0) @binding(4) var<storage, read> counted: f32;
@group(0) @binding(5) var<storage, read> stats: array<f32>;
#endif

#if rows
// Four neighbours of a label pixel: their first units, and the weights of the higher ones.
struct Corners {
    top: vec2<u32>,
    bottom: vec2<u32>,
    v: f32,
    h: f32,
}
fn corners(pixel: u32) -> Corners {
    let line = pixel / p.to_w;
    let v = taps(line % p.to_h, p.from_h, p.to_h);
    let h = taps(pixel % p.to_w, p.from_w, p.to_w);
    let image = line / p.to_h * p.from_h;
    let across = vec2<u32>(h.low, h.high);
    return Corners(
        ((image + v.low) * p.from_w + across) * p.c,
        ((image + v.high) * p.from_w + across) * p.c,
        v.upper,
        h.upper,
    );
}
fn logit(k: Corners, i: u32) -> E {
    let upper = (1.0 - k.h) * logits[k.top.x + i] + k.h * logits[k.top.y + i];
    let lower = (1.0 - k.h) * logits[k.bottom.x + i] + k.h * logits[k.bottom.y + i];
    return (1.0 - k.v) * upper + k.v * lower;
}

@compute @workgroup_size(WG)
fn rows(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let pixel = row_index(gid, wid);
    let lane = lane_index(lid);
    if pixel >= p.pixels {
        return;
    }
    let k = corners(pixel);
    var best = Best(LOWEST, NOWHERE);
    for (var i = lane; i < p.c; i += LANES) {
        best = better(best, logit(k, i), i * WIDTH);
    }
    best = row_best(lane, best);
    var sum = E(0.0);
    for (var i = lane; i < p.c; i += LANES) {
        sum += exp(logit(k, i) - best.value);
    }
    let lse = best.value + log(row_sum(lane, total(sum)));
    if lane == 0u {
        let label = labels[pixel];
        stats[3u * pixel] = lse;
        if label < p.classes {
            stats[3u * pixel + 1u] = lse - element(logit(k, label / WIDTH), label % WIDTH);
            stats[3u * pixel + 2u] = select(0.0, 1.0, best.at == label);
        } else {
            stats[3u * pixel + 1u] = 0.0;
            stats[3u * pixel + 2u] = 0.0;
        }
    }
}
#endif

#if sums
struct Params {
    pixels: u32,
    classes: u32,
    part: u32, // pixels
    parts: u32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> stats: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;

@compute @workgroup_size(WG)
fn sums(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.parts {
        return;
    }
    var sum = vec4<f32>(0.0);
    for (var m = i * p.part; m < min((i + 1u) * p.part, p.pixels); m++) {
        let counts = select(0.0, 1.0, labels[m] < p.classes);
        sum += vec4<f32>(stats[3u * m + 1u], stats[3u * m + 2u], counts, 0.0);
    }
    partial[i] = sum;
}
#endif

#if finish
struct Params {
    parts: u32,
    inv_all: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> loss: array<f32>;
@group(0) @binding(1) var<storage, read_write> accuracy: array<f32>;
@group(0) @binding(2) var<storage, read_write> counted: array<f32>;
@group(0) @binding(3) var<storage, read> partial: array<vec4<f32>>;

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var sum = vec4<f32>(0.0);
    for (var m = lane; m < p.parts; m += WG) {
        sum += partial[m];
    }
    let nll = row_sum(lane, sum.x);
    let correct = row_sum(lane, sum.y);
    let count = row_sum(lane, sum.z);
    if lane == 0u {
        let inv = 1.0 / max(count, 1.0);
        loss[0] = nll * select(inv, p.inv_all, p.inv_all > 0.0);
        accuracy[0] = correct * inv;
        counted[0] = count;
    }
}
#endif

#if grad
@compute @workgroup_size(WG)
fn grad(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let line = i / (p.c * p.from_w);
    let row = line % p.from_h;
    let col = i / p.c % p.from_w;
    let c = i % p.c;
    let image = line / p.from_h;
    let down = touching(row, p.from_h, p.to_h);
    let across = touching(col, p.from_w, p.to_w);
    let factor = dloss * select(select(1.0 / counted, p.inv_all, p.inv_all > 0.0), 0.0, counted == 0.0);
    var sum = E(0.0);
    for (var r = down.x; r < down.y; r++) {
        let v = taps(r, p.from_h, p.to_h);
        let top = (image * p.from_h + v.low) * p.from_w;
        let bottom = (image * p.from_h + v.high) * p.from_w;
        for (var k = across.x; k < across.y; k++) {
            let pixel = (image * p.to_h + r) * p.to_w + k;
            let label = labels[pixel];
            if label >= p.classes {
                continue;
            }
            let h = taps(k, p.from_w, p.to_w);
            let upper = (1.0 - h.upper) * logits[(top + h.low) * p.c + c] + h.upper * logits[(top + h.high) * p.c + c];
            let lower = (1.0 - h.upper) * logits[(bottom + h.low) * p.c + c] + h.upper * logits[(bottom + h.high) * p.c + c];
            let logit = (1.0 - v.upper) * upper + v.upper * lower;
            let w = factor * weight_at(v, row) * weight_at(h, col);
            sum += w * (exp(logit - stats[3u * pixel]) - indicator(c * WIDTH, label));
        }
    }
    dlogits[i] = sum;
}
#endif
