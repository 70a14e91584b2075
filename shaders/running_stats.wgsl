// mean ← (1−m)·mean + m·batch mean, variance ← (1−m)·variance + m·n/(n−1)·batch variance, where the batch's are finite.
// stats is [3, C] (mean, rstd, biased variance). Grid: one invocation per unit of channels.

#import grid
#import elem

struct Params {
    cols: u32, // units
    keep: f32,
    m: f32,
    mv: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> mean: array<E>;
@group(0) @binding(1) var<storage, read_write> variance: array<E>;
@group(0) @binding(2) var<storage, read> stats: array<E>;

@compute @workgroup_size(WG)
fn running_stats(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.cols {
        return;
    }
    let a = stats[i];
    let b = stats[2u * p.cols + i];
    let exponent = U(0x7f800000u);
    let finite = ((bitcast<U>(a) & exponent) != exponent) & ((bitcast<U>(b) & exponent) != exponent);
    mean[i] = select(mean[i], p.keep * mean[i] + p.m * a, finite);
    variance[i] = select(variance[i], p.keep * variance[i] + p.mv * b, finite);
}
