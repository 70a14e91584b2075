// o_i = Σ_j softmax_j(scale·q_i·k_j + bias) v_j per head, and lse[b, h, i], the log-sum-exp of each row of scores.
// qkv[B, N, 3D], o[B, N, D], table[R, H]; grid: one invocation per (b, h, i), keys in order with a running maximum.
// map[b, h, i, j] = exp(score − lse): the probabilities themselves, for looking at them; one invocation per element.
// Everything in f32; no sums across invocations: deterministic.

#import attend

#if forward
@group(0) @binding(0) var<storage, read_write> o: array<E>;
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
@group(0) @binding(2) var<storage, read> qkv: array<E>;
#if TABLE
@group(0) @binding(3) var<storage, read> table: array<f32>;
#endif

@compute @workgroup_size(WG)
fn forward(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    if item >= p.batch * p.heads * p.tokens {
        return;
    }
    let i = item % p.tokens;
    let h = item / p.tokens % p.heads;
    let b = item / (p.tokens * p.heads);
    var q: Row;
    var sum: Row;
    let q_at = qkv_at(0u, b, i, h);
#repeat u UNITS
    q[u] = qkv[q_at + u] * p.scale;
#end
#if TABLE
    let own = query_row(i);
    var key = patch_row(0u);
#endif
    var largest_score = -3.4e38;
    var weight = 0.0;
    for (var j = 0u; j < p.tokens; j += 1u) {
        let k_at = qkv_at(1u, b, j, h);
        let v_at = qkv_at(2u, b, j, h);
        var dot_units = E(0.0);
#repeat u UNITS
        dot_units += q[u] * qkv[k_at + u];
#end
        var score = total(dot_units);
#if TABLE
        score += table[pair_row(i, j, own, key.row) * p.heads + h];
        key = next_row(key, j);
#endif
        let larger = max(largest_score, score);
        let fade = exp(largest_score - larger);
        let w = exp(score - larger);
        largest_score = larger;
        weight = weight * fade + w;
#repeat u UNITS
        sum[u] = sum[u] * fade + w * qkv[v_at + u];
#end
    }
    let o_at = token_at(b, i, h);
#repeat u UNITS
    o[o_at + u] = sum[u] / weight;
#end
    lse[item] = largest_score + log(weight);
}
#endif

#if map
@group(0) @binding(0) var<storage, read_write> probability: array<f32>;
@group(0) @binding(1) var<storage, read> qkv: array<E>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
#if TABLE
@group(0) @binding(3) var<storage, read> table: array<f32>;
#endif

@compute @workgroup_size(WG)
fn map(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    if item >= p.batch * p.heads * p.tokens * p.tokens {
        return;
    }
    let j = item % p.tokens;
    let row = item / p.tokens;
    let i = row % p.tokens;
    let h = row / p.tokens % p.heads;
    let b = row / (p.tokens * p.heads);
    let q_at = qkv_at(0u, b, i, h);
    let k_at = qkv_at(1u, b, j, h);
    var dot_units = E(0.0);
#repeat u UNITS
    dot_units += qkv[q_at + u] * qkv[k_at + u];
#end
    var score = total(dot_units) * p.scale;
#if TABLE
    score += table[pair_row(i, j, query_row(i), key_row(j)) * p.heads + h];
#endif
    probability[item] = exp(score - lse[row]);
}
#endif
