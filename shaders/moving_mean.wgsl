// mean[k] ← keep·mean[k] + share·Σ_r x[r, k], where the sum is finite; share = (1 − keep)/rows.
// Grid: one invocation per unit of columns; rows are summed in order.

#import grid
#import elem

struct Params {
    cols: u32, // units
    rows: u32,
    keep: f32,
    share: f32,
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> mean: array<E>;
@group(0) @binding(1) var<storage, read> x: array<E>;

@compute @workgroup_size(WG)
fn moving_mean(@builtin(global_invocation_id) gid: vec3<u32>) {
    let i = item_index(gid, WG);
    if i >= p.cols {
        return;
    }
    var sum = E(0.0);
    for (var r = 0u; r < p.rows; r++) {
        sum += x[r * p.cols + i];
    }
    let finite = (bitcast<U>(sum) & U(0x7f800000u)) != U(0x7f800000u);
    mean[i] = select(mean[i], p.keep * mean[i] + p.share * sum, finite);
}
