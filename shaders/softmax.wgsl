// y[r, V] = softmax(x[r, V]).
// Grid: a row per invocation or workgroup (common/row.wgsl). Sums in f32, fixed order.

#import elem
#import row

struct Params {
    rows: u32,
    cols: u32, // words
}
@group(0) @binding(15) var<uniform> p: Params;
@group(0) @binding(0) var<storage, read_write> y: array<Word>;
@group(0) @binding(1) var<storage, read> x: array<Word>;

@compute @workgroup_size(WG)
fn forward(
    @builtin(global_invocation_id) gid: vec3<u32>,
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = row_index(gid, wid);
    let lane = lane_index(lid);
    if row >= p.rows {
        return;
    }
    let end = (row + 1u) * p.cols;
    var top = E(-3.4028234e38);
    for (var i = row * p.cols + lane; i < end; i += LANES) {
        let v = parts(x[i]);
#repeat k PARTS
        top = max(top, v[k]);
#end
    }
    let row_top = row_max(lane, largest(top));
    var sum = E(0.0);
    for (var i = row * p.cols + lane; i < end; i += LANES) {
        var v = parts(x[i]);
#repeat k PARTS
        v[k] = exp(v[k] - row_top);
        sum += v[k];
#end
        y[i] = word(v);
    }
    let inv = 1.0 / row_sum(lane, total(sum));
    for (var i = row * p.cols + lane; i < end; i += LANES) {
        var v = parts(y[i]);
#repeat k PARTS
        v[k] *= inv;
#end
        y[i] = word(v);
    }
}
