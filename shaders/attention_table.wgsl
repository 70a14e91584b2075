// Gradient of the relative position bias table, in two dispatches per group of heads (see attention_grad.wgsl).
// pairs: map[h, i, j] = Σ_b dS[b, h, i, j].  table: dtable[r, h] = Σ of the map over the pairs (i, j) of row r.
// Grid: one invocation per (h, i, j); one per (r, h). Sums in f32 over images, then over pairs, in order.

#import attend

#if pairs
@group(0) @binding(0) var<storage, read_write> sums: array<f32>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<E>;
@group(0) @binding(3) var<storage, read> qkv: array<E>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> table: array<f32>;

@compute @workgroup_size(WG)
fn pairs(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    if item >= p.some_heads * p.tokens * p.tokens {
        return;
    }
    let j = item % p.tokens;
    let i = item / p.tokens % p.tokens;
    let h = p.first_head + item / (p.tokens * p.tokens);
    let bias = table[pair_row(i, j, query_row(i), key_row(j)) * p.heads + h];
    var sum = 0.0;
    for (var b = 0u; b < p.batch; b += 1u) {
        let q_at = qkv_at(0u, b, i, h);
        let k_at = qkv_at(1u, b, j, h);
        let v_at = qkv_at(2u, b, j, h);
        let o_at = token_at(b, i, h);
        var s = E(0.0);
        var dp = E(0.0);
#repeat u UNITS
        s += qkv[q_at + u] * qkv[k_at + u];
        dp += cotangent[o_at + u] * qkv[v_at + u];
#end
        let row = (b * p.heads + h) * p.tokens + i;
        sum += exp(total(s) * p.scale + bias - lse[row]) * (total(dp) - delta[row]);
    }
    sums[item] = sum;
}
#endif

#if table
@group(0) @binding(0) var<storage, read_write> dtable: array<f32>;
@group(0) @binding(1) var<storage, read> sums: array<f32>;

// One pair of all parts of the map; BY_KEY: kept as map[part, h, j, i].
fn pair(h: u32, i: u32, j: u32) -> f32 {
#if BY_KEY
    let at = (h * p.stride + j) * p.stride + i;
#else
    let at = (h * p.stride + i) * p.stride + j;
#endif
    var sum = 0.0;
    for (var part = 0u; part < p.parts; part += 1u) {
        sum += sums[part * p.some_heads * p.stride * p.stride + at];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn table(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    let patches = (2u * p.gh - 1u) * (2u * p.gw - 1u);
    if item >= (patches + 3u) * p.some_heads {
        return;
    }
    let r = item / p.some_heads;
    let h = item % p.some_heads;
    var sum = 0.0;
    if r < patches {
        // Offsets of the query's row and column against the key's, shifted by the grid.
        let dr = r / (2u * p.gw - 1u);
        let dc = r % (2u * p.gw - 1u);
        let shift_r = p.gh - 1u;
        let shift_c = p.gw - 1u;
        for (var jr = max(shift_r, dr) - dr; jr < min(p.gh, p.gh + shift_r - dr); jr += 1u) {
            for (var jc = max(shift_c, dc) - dc; jc < min(p.gw, p.gw + shift_c - dc); jc += 1u) {
                let i = (jr + dr - shift_r) * p.gw + jc + dc - shift_c;
                sum += pair(h, i + 1u, jr * p.gw + jc + 1u);
            }
        }
    } else if r == patches + 2u {
        sum = pair(h, 0u, 0u);
    } else {
        for (var t = 1u; t < p.tokens; t += 1u) {
            sum += select(pair(h, t, 0u), pair(h, 0u, t), r == patches);
        }
    }
    dtable[r * p.heads + p.first_head + h] = sum;
}
#endif
