// layer_norm.wgsl for rows that a subgroup holds (common/lanes.wgsl): every number is read once, gamma and beta once for
// the rows of a workgroup. grad: grad_input (plus onto if ONTO), and the partial sums of grad_params over the rows of a workgroup.
// Grid: a workgroup per block of rows. Sums in f32, fixed order. Y_HALF, DY_HALF: kept in half precision.

#import grid
#import elem
#import lanes

struct Params {
    rows: u32,
    block: u32, // rows
    inv_d: f32,
    eps: f32,
}
@group(0) @binding(15) var<uniform> p: Params;

#if forward
#import stored
@group(0) @binding(0) var<storage, read_write> y: array<Y>;
@group(0) @binding(1) var<storage, read_write> stats: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> x: array<Word>;
@group(0) @binding(3) var<storage, read> gamma: array<Word>;
@group(0) @binding(4) var<storage, read> beta: array<Word>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    // Read once: this kind of adapter gathers a constant lane by lane wherever it is read.
    let inv_d = p.inv_d;
    let eps = p.eps;
    let first = group_index(wid) * p.block;
    let end = min(first + p.block, p.rows);
    var g: Row;
    var b: Row;
#repeat k WORDS
    g[k] = parts(gamma[lane + LANES * k]);
    b[k] = parts(beta[lane + LANES * k]);
#end
    for (var row = first; row < end; row++) {
        let at = row * (LANES * WORDS) + lane;
        var v: Row;
        var sum = E(0.0);
#repeat k WORDS
        v[k] = parts(x[at + LANES * k]);
#repeat j PARTS
        sum += v[k][j];
#end
#end
        let mean = lanes_sum(total(sum)) * inv_d;
        var squares = E(0.0);
#repeat k WORDS
#repeat j PARTS
        v[k][j] -= mean;
        squares += v[k][j] * v[k][j];
#end
#end
        let rstd = 1.0 / sqrt(lanes_sum(total(squares)) * inv_d + eps);
#repeat k WORDS
#repeat j PARTS
        v[k][j] = v[k][j] * rstd * g[k][j] + b[k][j];
#end
        y[at + LANES * k] = stored(v[k]);
#end
        if lane == 0u {
            stats[row] = vec2<f32>(mean, rstd);
        }
    }
}
#endif

#if grad
#if DY_HALF
#import half
alias DY = Halves;
fn cotangent(v: DY) -> Parts {
    return half_parts(v);
}
#else
alias DY = Word;
fn cotangent(v: DY) -> Parts {
    return parts(v);
}
#endif
@group(0) @binding(0) var<storage, read_write> dx: array<Word>;
@group(0) @binding(1) var<storage, read_write> dgamma: array<Word>;
@group(0) @binding(2) var<storage, read_write> dbeta: array<Word>;
@group(0) @binding(3) var<storage, read> dy: array<DY>;
@group(0) @binding(4) var<storage, read> x: array<Word>;
@group(0) @binding(5) var<storage, read> gamma: array<Word>;
@group(0) @binding(6) var<storage, read> stats: array<vec2<f32>>;
#if ONTO
@group(0) @binding(7) var<storage, read> onto: array<Word>;
#endif

@compute @workgroup_size(WG)
fn grad(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let inv_d = p.inv_d;
    let group = group_index(wid);
    let first = group * p.block;
    let end = min(first + p.block, p.rows);
    var g: Row;
    var dg: Row;
    var db: Row;
#repeat k WORDS
    g[k] = parts(gamma[lane + LANES * k]);
#end
    for (var row = first; row < end; row++) {
        let at = row * (LANES * WORDS) + lane;
        let s = stats[row];
        var normal: Row;
        var h: Row;
        var h_sum = E(0.0);
        var hx_sum = E(0.0);
#repeat k WORDS
        normal[k] = parts(x[at + LANES * k]);
        h[k] = cotangent(dy[at + LANES * k]);
#repeat j PARTS
        normal[k][j] = (normal[k][j] - s.x) * s.y;
        dg[k][j] += h[k][j] * normal[k][j];
        db[k][j] += h[k][j];
        h[k][j] *= g[k][j];
        h_sum += h[k][j];
        hx_sum += h[k][j] * normal[k][j];
#end
#end
        let h_mean = lanes_sum(total(h_sum)) * inv_d;
        let hx_mean = lanes_sum(total(hx_sum)) * inv_d;
#repeat k WORDS
#repeat j PARTS
        h[k][j] = s.y * (h[k][j] - h_mean - normal[k][j] * hx_mean);
#end
#if ONTO
        normal[k] = parts(onto[at + LANES * k]);
#repeat j PARTS
        h[k][j] += normal[k][j];
#end
#endif
        dx[at + LANES * k] = word(h[k]);
#end
    }
    let part = group * (LANES * WORDS) + lane;
#repeat k WORDS
    dgamma[part + LANES * k] = word(dg[k]);
    dbeta[part + LANES * k] = word(db[k]);
#end
}
#endif
