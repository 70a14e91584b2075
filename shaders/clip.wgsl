// Finishes the control block where it lies: norm, finite or not, clip factor, bias corrections, counters.
// SCALED: the loss scale halves after a skipped step and doubles after `calm` good ones. loss_scale: that of the next step.
// control[16] and hyper[12] in the orders of clip.rs and adamw.rs. Grid: one invocation. No reduction.

#import finite

const SCALE = 9;
const CALM = 10;

#if loss_scale
struct Params {
    first: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> scale: array<f32>;
@group(0) @binding(1) var<storage, read> control: array<f32, 16>;

@compute @workgroup_size(1)
fn loss_scale() {
    scale[0] = select(p.first, control[SCALE], control[SCALE] > 0.0);
}
#else
#if SCALED
struct Params {
    first: f32,
    largest: f32,
    calm: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
#endif
@group(0) @binding(0) var<storage, read_write> c: array<f32, 16>;
@group(0) @binding(1) var<storage, read> h: array<f32, 12>;

const NORM2 = 0;
const NORM = 1;
const FACTOR = 2;
const APPLY = 3;
const CORRECTION1 = 4;
const CORRECTION2 = 5;
const APPLIED = 6;
const SKIPPED = 7;
const IN_A_ROW = 8;

const BETA1_C = 3;
const BETA2_C = 5;
const CLIP = 7;
const INV_SCALE = 8;

@compute @workgroup_size(1)
fn clip() {
    let norm2 = c[NORM2];
#if SCALED
    let scale = select(p.first, c[SCALE], c[SCALE] > 0.0);
    let inverse = h[INV_SCALE] * (1.0 / scale);
    c[SCALE] = scale;
#else
    let inverse = h[INV_SCALE];
#endif
    let norm = sqrt(norm2) * inverse;
    c[NORM] = norm;
    if !is_finite(norm2) || !is_finite(norm) {
        c[APPLY] = 0.0;
        c[SKIPPED] += 1.0;
        c[IN_A_ROW] += 1.0;
#if SCALED
        c[SCALE] = max(scale * 0.5, 1.0);
        c[CALM] = 0.0;
#endif
        return;
    }
    c[APPLY] = 1.0;
    c[IN_A_ROW] = 0.0;
    c[APPLIED] += 1.0;
    let ratio = h[CLIP] / (norm + 1e-6);
    c[FACTOR] = select(1.0, ratio, h[CLIP] > 0.0 && ratio < 1.0) * inverse;
#if SCALED
    c[CALM] += 1.0;
    if c[CALM] >= p.calm {
        c[SCALE] = min(scale * 2.0, p.largest);
        c[CALM] = 0.0;
    }
#endif
    c[CORRECTION1] += (1.0 - c[CORRECTION1]) * h[BETA1_C];
    c[CORRECTION2] += (1.0 - c[CORRECTION2]) * h[BETA2_C];
}
#endif
