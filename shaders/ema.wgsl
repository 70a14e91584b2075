// ema[n] = d·ema[n] + (1 − d)·param[n] where it lies; returns at once if the step is skipped.
// control[16] and hyper[12] in the orders of clip.rs and adamw.rs. Grid: one invocation per RUN words. No reduction.

#import grid
#import elem

struct Params {
    n: u32, // words
}

@group(0) @binding(0) var<storage, read_write> ema_page: array<Word>;
@group(0) @binding(1) var<storage, read> param: array<Word>;
@group(0) @binding(2) var<storage, read> control: array<vec4<f32>, 4>;
@group(0) @binding(3) var<storage, read> hyper: array<vec4<f32>, 3>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn ema(@builtin(global_invocation_id) gid: vec3<u32>) {
    let first = item_index(gid, WG) * RUN;
    if first >= p.n || control[0].w == 0.0 {
        return;
    }
    let decay = hyper[2].yz; // d, 1 − d
    let last = min(first + RUN, p.n);
    for (var i = first; i < last; i++) {
        var v = parts(ema_page[i]);
        let w = parts(param[i]);
#repeat k PARTS
        v[k] = decay.x * v[k] + decay.y * w[k];
#end
        ema_page[i] = word(v);
    }
}
