// norm2: partial[b] = Σ x² over block b of x[n].  accumulate: control[0] = (FIRST ? 0 : control[0]) + Σ partial.
// Grid: a row per block; one workgroup for the sum of partials. f32, fixed order (common/row.wgsl).

#import elem
#import row

#if norm2
struct Params {
    n: u32, // words
    block: u32, // words
}
@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<Word>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn norm2(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    let first = row * p.block;
    if first >= p.n {
        return;
    }
    let last = min(first + p.block, p.n);
    var sum = E(0.0);
    for (var i = first + lane; i < last; i += LANES) {
        let v = parts(x[i]);
#repeat k PARTS
        sum += v[k] * v[k];
#end
    }
    let all = row_sum(lane, total(sum));
    if lane == 0u {
        partial[row] = all;
    }
}
#else
struct Params {
    n: u32,
}
@group(0) @binding(0) var<storage, read_write> control: array<f32, 16>;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(WG)
fn accumulate(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < p.n; i += WG) {
        sum += partial[i];
    }
    let all = row_sum(lane, sum);
    if lane == 0u {
#if FIRST
        control[0] = all;
#else
        control[0] += all;
#endif
    }
}
#endif
