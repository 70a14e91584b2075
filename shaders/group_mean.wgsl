// means: means[k, c] += (Σ of the rows of k − n·means[k, c])/w with n rows and w = keep·weights[k] + n, where n > 0 and the sum is finite.
// weights: weights[k] ← w. Grid: one invocation per unit of the result, which walks the chain of rows (members.wgsl) in order.

#import grid
#import elem

struct Params {
    n: u32, // units of the result
    cols: u32, // units
    rows: u32,
    keep: f32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if means
@group(0) @binding(0) var<storage, read_write> y: array<E>;
@group(0) @binding(1) var<storage, read_write> weight: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<E>;
@group(0) @binding(3) var<storage, read> first: array<u32>;
@group(0) @binding(4) var<storage, read> next: array<u32>;

@compute @workgroup_size(WG)
fn means(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.n {
        return;
    }
    let k = i / p.cols;
    var sum = E(0.0);
    var count = 0.0;
    for (var r = first[k]; r < p.rows; r = next[r]) {
        sum += x[r * p.cols + i % p.cols];
        count += 1.0;
    }
    if count > 0.0 {
        let moved = y[i] + (sum - count * y[i]) / (p.keep * weight[k] + count);
        let finite = (bitcast<U>(sum) & U(0x7f800000u)) != U(0x7f800000u);
        y[i] = select(y[i], moved, finite);
    }
}
#endif

#if weights
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> first: array<u32>;
@group(0) @binding(2) var<storage, read> next: array<u32>;

@compute @workgroup_size(WG)
fn weights(@builtin(global_invocation_id) gid: vec3<u32>) {
    let k = item_index(gid, WG);
    if k >= p.n {
        return;
    }
    var count = 0.0;
    for (var r = first[k]; r < p.rows; r = next[r]) {
        count += 1.0;
    }
    y[k] = p.keep * y[k] + count;
}
#endif
