// AdamW where the page lies (formula in src/ops/adamw.rs); returns at once if the step is to be skipped.
// param, m, v, grad [n]; control[16] and hyper[12] in the orders of clip.rs and adamw.rs; per 64 elements
// groups = (learning-rate scale, decayed). Grid: one invocation per RUN units. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // units
}

@group(0) @binding(0) var<storage, read_write> param: array<E>;
@group(0) @binding(1) var<storage, read_write> m: array<E>;
@group(0) @binding(2) var<storage, read_write> v: array<E>;
@group(0) @binding(3) var<storage, read> grad: array<E>;
@group(0) @binding(4) var<storage, read> control: array<vec4<f32>, 4>;
@group(0) @binding(5) var<storage, read> hyper: array<vec4<f32>, 3>;
@group(0) @binding(6) var<storage, read> groups: array<vec2<f32>>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn adamw(@builtin(global_invocation_id) gid: vec3<u32>) {
    let first = item_index(gid, WG) * RUN;
    let gate = control[0]; // norm², norm, factor, apply
    if first >= p.n || gate.w == 0.0 {
        return;
    }
    let correction = control[1].xy;
    let h0 = hyper[0]; // lr, weight decay, β₁, 1 − β₁
    let h1 = hyper[1]; // β₂, 1 − β₂, eps, clip
    // A run never crosses a group: it is at most 64 elements, aligned to its length.
    let group = groups[first * WIDTH / 64u];
    let lr = h0.x * group.x;
    let keep = 1.0 - lr * h0.y * group.y;
    let step = lr / correction.x;
    let root = 1.0 / sqrt(correction.y);
    for (var i = first; i < min(first + RUN, p.n); i++) {
        let g = grad[i] * gate.z;
        let m1 = h0.z * m[i] + h0.w * g;
        let v1 = h1.x * v[i] + h1.y * g * g;
        m[i] = m1;
        v[i] = v1;
        param[i] = param[i] * keep - step * m1 / (sqrt(v1) * root + h1.z);
    }
}
