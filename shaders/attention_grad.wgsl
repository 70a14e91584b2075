// Backward pass of attention.wgsl. With P = exp(S − lse), dP = dO·Vᵀ, δ = Σ dO⊙O per row: dS = P⊙(dP − δ).
// queries: dq_i = scale·Σ_j dS_ij k_j, and δ.  keys: dk_j = scale·Σ_i dS_ij q_i, dv_j = Σ_i P_ij dO_i.
// The gradient of the bias table: attention_table.wgsl.
// Grid: one invocation per (b, h, token). Sums in f32, in order: deterministic.

#import attend

#if queries
@group(0) @binding(0) var<storage, read_write> dqkv: array<E>;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<E>;
@group(0) @binding(3) var<storage, read> qkv: array<E>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> o: array<E>;
#if TABLE
@group(0) @binding(6) var<storage, read> table: array<f32>;
#endif

@compute @workgroup_size(WG)
fn queries(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    if item >= p.batch * p.heads * p.tokens {
        return;
    }
    let i = item % p.tokens;
    let h = item / p.tokens % p.heads;
    let b = item / (p.tokens * p.heads);
    var q: Row;
    var d_o: Row;
    var dq: Row;
    var overlap = E(0.0);
    let q_at = qkv_at(0u, b, i, h);
    let o_at = token_at(b, i, h);
#repeat u UNITS
    q[u] = qkv[q_at + u] * p.scale;
    d_o[u] = cotangent[o_at + u];
    overlap += d_o[u] * o[o_at + u];
#end
    let own_delta = total(overlap);
    let own_lse = lse[item];
#if TABLE
    let own = query_row(i);
    var key = patch_row(0u);
#endif
    for (var j = 0u; j < p.tokens; j += 1u) {
        let k_at = qkv_at(1u, b, j, h);
        let v_at = qkv_at(2u, b, j, h);
        var k: Row;
        var s = E(0.0);
        var dp = E(0.0);
#repeat u UNITS
        k[u] = qkv[k_at + u];
        s += q[u] * k[u];
        dp += d_o[u] * qkv[v_at + u];
#end
        var score = total(s);
#if TABLE
        score += table[pair_row(i, j, own, key.row) * p.heads + h];
        key = next_row(key, j);
#endif
        let ds = exp(score - own_lse) * (total(dp) - own_delta) * p.scale;
#repeat u UNITS
        dq[u] += ds * k[u];
#end
    }
#repeat u UNITS
    dqkv[q_at + u] = dq[u];
#end
    delta[item] = own_delta;
}
#endif

#if keys
@group(0) @binding(0) var<storage, read_write> dqkv: array<E>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<E>;
@group(0) @binding(3) var<storage, read> qkv: array<E>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
#if TABLE
@group(0) @binding(5) var<storage, read> table: array<f32>;
#endif

@compute @workgroup_size(WG)
fn keys(@builtin(global_invocation_id) gid: vec3<u32>) {
    let item = item_index(gid, WG);
    if item >= p.batch * p.heads * p.tokens {
        return;
    }
    let j = item % p.tokens;
    let h = item / p.tokens % p.heads;
    let b = item / (p.tokens * p.heads);
    var k: Row;
    var v: Row;
    var dk: Row;
    var dv: Row;
    let k_at = qkv_at(1u, b, j, h);
    let v_at = qkv_at(2u, b, j, h);
#repeat u UNITS
    k[u] = qkv[k_at + u] * p.scale;
    v[u] = qkv[v_at + u];
#end
    let rows = (b * p.heads + h) * p.tokens;
#if TABLE
    let own = key_row(j);
    let shift = query_shift();
    var query = patch_row(0u);
#endif
    for (var i = 0u; i < p.tokens; i += 1u) {
        let q_at = qkv_at(0u, b, i, h);
        let o_at = token_at(b, i, h);
        var q: Row;
        var d_o: Row;
        var s = E(0.0);
        var dp = E(0.0);
#repeat u UNITS
        q[u] = qkv[q_at + u];
        d_o[u] = cotangent[o_at + u];
        s += q[u] * k[u];
        dp += d_o[u] * v[u];
#end
        var score = total(s);
#if TABLE
        score += table[pair_row(i, j, query.row + shift, own) * p.heads + h];
        query = next_row(query, i);
#endif
        let w = exp(score - lse[rows + i]);
        let ds = w * (total(dp) - delta[rows + i]) * p.scale;
#repeat u UNITS
        dk[u] += ds * q[u];
        dv[u] += w * d_o[u];
#end
    }
#repeat u UNITS
    dqkv[k_at + u] = dk[u];
    dqkv[v_at + u] = dv[u];
#end
}
#endif
