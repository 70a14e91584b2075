// Finishes the control block where it lies: norm, finite or not, clip factor, bias corrections, counters.
// control[16] and hyper[12] in the orders of clip.rs and adamw.rs. Grid: one invocation. No reduction.

#import finite

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
    let norm = sqrt(norm2) * h[INV_SCALE];
    c[NORM] = norm;
    if !is_finite(norm2) || !is_finite(norm) {
        c[APPLY] = 0.0;
        c[SKIPPED] += 1.0;
        c[IN_A_ROW] += 1.0;
        return;
    }
    c[APPLY] = 1.0;
    c[IN_A_ROW] = 0.0;
    c[APPLIED] += 1.0;
    let ratio = h[CLIP] / (norm + 1e-6);
    c[FACTOR] = select(1.0, ratio, h[CLIP] > 0.0 && ratio < 1.0) * h[INV_SCALE];
    c[CORRECTION1] += (1.0 - c[CORRECTION1]) * h[BETA1_C];
    c[CORRECTION2] += (1.0 - c[CORRECTION2]) * h[BETA2_C];
}
