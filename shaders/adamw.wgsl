// AdamW where the page lies (formula in src/ops/adamw.rs); returns at once if the step is to be skipped.
// param, m, v, grad [n]; control[16] and hyper[12] in the orders of clip.rs and adamw.rs; per 64 elements
// groups = (learning-rate scale, decayed). Grid: one invocation per RUN words. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words
}

@group(0) @binding(0) var<storage, read_write> param: array<Word>;
@group(0) @binding(1) var<storage, read_write> m: array<Word>;
@group(0) @binding(2) var<storage, read_write> v: array<Word>;
@group(0) @binding(3) var<storage, read> grad: array<Word>;
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
    let group = groups[first * WIDTH * PARTS / 64u];
    let lr = h0.x * group.x;
    let keep = 1.0 - lr * h0.y * group.y;
    let step = lr / correction.x;
    let root = 1.0 / sqrt(correction.y);
    let last = min(first + RUN, p.n);
    for (var i = first; i < last; i++) {
        var m1 = parts(m[i]);
        var v1 = parts(v[i]);
        var w = parts(param[i]);
        let d = parts(grad[i]);
#repeat k PARTS
        {
            let g = d[k] * gate.z;
            m1[k] = h0.z * m1[k] + h0.w * g;
            v1[k] = h1.x * v1[k] + h1.y * g * g;
            w[k] = w[k] * keep - step * m1[k] / (sqrt(v1[k]) * root + h1.z);
        }
#end
        m[i] = word(m1);
        v[i] = word(v1);
        param[i] = word(w);
    }
}
