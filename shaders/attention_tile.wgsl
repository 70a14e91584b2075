// attention.wgsl and attention_grad.wgsl for GPUs at WebGPU's default limits (same results, same formulas).
//
// A workgroup holds WG rows of one head of one image, an invocation each: queries (forward, queries) or keys (keys).
// The other side goes by in tiles of KEYS rows, a multiple of eight, in workgroup memory, two arrays of KEYS · UNITS.
// queries also adds dS of its run of images to map[part, h, j, i], for attention_table.wgsl.
// Sums in f32, in the order of keys, queries, images: deterministic.

#import attend
#import attend_kept

#if TABLE
@group(0) @binding(TABLE_AT) var<storage, read> table: array<f32>;
// Table rows of the tile's tokens.
var<workgroup> tile_rows: array<u32, KEYS>;
#endif
var<workgroup> first: array<E, KEYS * UNITS>;
var<workgroup> second: array<E, KEYS * UNITS>;

fn inner(x: E, y: E) -> f32 {
#if VEC
    return dot(x, y);
#else
    return x * y;
#endif
}

// Image (or run of images) and head of a workgroup, the same for all its invocations, which the barriers need.
fn image_of(group: u32) -> u32 {
    return group / (p.tiles * p.some_heads);
}
fn head_of(group: u32) -> u32 {
    return p.first_head + group / p.tiles % p.some_heads;
}

#if !keys
@group(0) @binding(QKV_AT) var<storage, read> qkv: array<Qkv>;

// Loads keys and values from token `j0` on; repeats the last beyond the end.
fn load_keys(b: u32, h: u32, j0: u32, lane: u32) {
    workgroupBarrier();
    for (var e = lane; e < KEYS * UNITS; e += WG) {
        let j = min(j0 + e / UNITS, p.tokens - 1u);
        first[e] = unit(qkv[qkv_at(1u, b, j, h) + e % UNITS])[0];
        second[e] = unit(qkv[qkv_at(2u, b, j, h) + e % UNITS])[0];
    }
#if TABLE
    for (var t = lane; t < KEYS; t += WG) {
        tile_rows[t] = key_row(min(j0 + t, p.tokens - 1u));
    }
#endif
    workgroupBarrier();
}
#endif

#if forward
@group(0) @binding(0) var<storage, read_write> o: array<Out>;
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    let b = image_of(group);
    let h = head_of(group);
    let token = group % p.tiles * WG + lane;
    let i = min(token, p.tokens - 1u);
    let q_at = qkv_at(0u, b, i, h);
    var q: Row;
    var sum: Row;
#repeat u UNITS
    q[u] = unit(qkv[q_at + u])[0] * p.scale;
#end
#if TABLE
    let own = query_row(i);
#endif
    var top = -3.0e38;
    var weight = 0.0;
    for (var j0 = 0u; j0 < p.tokens; j0 += KEYS) {
        load_keys(b, h, j0, lane);
        for (var t0 = 0u; t0 < KEYS; t0 += 8u) {
            var scores: array<f32, 8>;
            var larger = top;
#repeat t 8
            scores[t] = 0.0;
#repeat u UNITS
            scores[t] += inner(q[u], first[(t0 + t) * UNITS + u]);
#end
#if TABLE
            scores[t] += table[pair_row(i, j0 + t0 + t, own, tile_rows[t0 + t]) * p.heads + h];
#endif
            scores[t] = select(-3.0e38, scores[t], j0 + t0 + t < p.tokens);
            larger = max(larger, scores[t]);
#end
            let fade = exp(top - larger);
            weight *= fade;
#repeat u UNITS
            sum[u] *= fade;
#end
#repeat t 8
            scores[t] = exp(scores[t] - larger);
            weight += scores[t];
#repeat u UNITS
            sum[u] += scores[t] * second[(t0 + t) * UNITS + u];
#end
#end
            top = larger;
        }
    }
    if token < p.tokens && b < p.batch {
        let o_at = token_at(b, i, h);
#repeat u UNITS
        o[o_at + u] = stored(Parts(sum[u] / weight));
#end
        lse[(b * p.heads + h) * p.tokens + i] = top + log(weight);
    }
}
#endif

#if queries
@group(0) @binding(0) var<storage, read_write> dqkv: array<Out>;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<Cotangent>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> o: array<Mixed>;
#if TABLE
@group(0) @binding(7) var<storage, read_write> map: array<f32>;
#endif

@compute @workgroup_size(WG)
fn queries(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    let run = image_of(group);
    let h = head_of(group);
    let token = group % p.tiles * WG + lane;
    let i = min(token, p.tokens - 1u);
#if TABLE
    let own = query_row(i);
    let map_at = (run * p.some_heads + h - p.first_head) * p.stride * p.stride + token;
#endif
    let first_image = run * p.images;
    for (var b = first_image; b < min(first_image + p.images, p.batch); b += 1u) {
        let q_at = qkv_at(0u, b, i, h);
        let o_at = token_at(b, i, h);
        var q: Row;
        var d_o: Row;
        var dq: Row;
        var overlap = 0.0;
#repeat u UNITS
        q[u] = unit(qkv[q_at + u])[0] * p.scale;
        d_o[u] = cotangent_of(cotangent[o_at + u])[0];
        dq[u] = E(0.0);
        overlap += inner(d_o[u], mixed(o[o_at + u])[0]);
#end
        let row = (b * p.heads + h) * p.tokens + i;
        let own_lse = lse[row];
        for (var j0 = 0u; j0 < p.tokens; j0 += KEYS) {
            load_keys(b, h, j0, lane);
            for (var t = 0u; t < min(KEYS, p.tokens - j0); t += 1u) {
                var score = 0.0;
                var dp = 0.0;
#repeat u UNITS
                score += inner(q[u], first[t * UNITS + u]);
                dp += inner(d_o[u], second[t * UNITS + u]);
#end
#if TABLE
                score += table[pair_row(i, j0 + t, own, tile_rows[t]) * p.heads + h];
#endif
                let ds = exp(score - own_lse) * (dp - overlap);
#if TABLE
                let cell = map_at + (j0 + t) * p.stride;
                if token < p.stride {
                    if b == first_image {
                        map[cell] = ds;
                    } else {
                        map[cell] += ds;
                    }
                }
#endif
#repeat u UNITS
                dq[u] += ds * first[t * UNITS + u];
#end
            }
        }
        if token < p.tokens {
#repeat u UNITS
            dqkv[q_at + u] = stored(Parts(dq[u] * p.scale));
#end
            delta[row] = overlap;
        }
    }
}
#endif

#if keys
@group(0) @binding(0) var<storage, read_write> dqkv: array<Out>;
@group(0) @binding(1) var<storage, read> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<Cotangent>;
@group(0) @binding(3) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
var<workgroup> tile_lse: array<f32, KEYS>;
var<workgroup> tile_delta: array<f32, KEYS>;

// Loads queries and the cotangents of their results from token `i0` on.
fn load_queries(b: u32, h: u32, i0: u32, lane: u32) {
    workgroupBarrier();
    for (var e = lane; e < KEYS * UNITS; e += WG) {
        let i = min(i0 + e / UNITS, p.tokens - 1u);
        first[e] = unit(qkv[qkv_at(0u, b, i, h) + e % UNITS])[0];
        second[e] = cotangent_of(cotangent[token_at(b, i, h) + e % UNITS])[0];
    }
    for (var t = lane; t < KEYS; t += WG) {
        let i = min(i0 + t, p.tokens - 1u);
        let row = (b * p.heads + h) * p.tokens + i;
        tile_lse[t] = lse[row];
        tile_delta[t] = delta[row];
#if TABLE
        tile_rows[t] = query_row(i);
#endif
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn keys(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    let b = image_of(group);
    let h = head_of(group);
    let token = group % p.tiles * WG + lane;
    let j = min(token, p.tokens - 1u);
    let k_at = qkv_at(1u, b, j, h);
    let v_at = qkv_at(2u, b, j, h);
    var k: Row;
    var v: Row;
    var dk: Row;
    var dv: Row;
#repeat u UNITS
    k[u] = unit(qkv[k_at + u])[0] * p.scale;
    v[u] = unit(qkv[v_at + u])[0];
#end
#if TABLE
    let own = key_row(j);
#endif
    for (var i0 = 0u; i0 < p.tokens; i0 += KEYS) {
        load_queries(b, h, i0, lane);
        for (var t = 0u; t < min(KEYS, p.tokens - i0); t += 1u) {
            var score = 0.0;
            var dp = 0.0;
#repeat u UNITS
            score += inner(k[u], first[t * UNITS + u]);
            dp += inner(v[u], second[t * UNITS + u]);
#end
#if TABLE
            score += table[pair_row(i0 + t, j, tile_rows[t], own) * p.heads + h];
#endif
            let w = exp(score - tile_lse[t]);
            let ds = w * (dp - tile_delta[t]);
#repeat u UNITS
            dk[u] += ds * first[t * UNITS + u];
            dv[u] += w * second[t * UNITS + u];
#end
        }
    }
    if token < p.tokens && b < p.batch {
#repeat u UNITS
        dqkv[k_at + u] = stored(Parts(dk[u] * p.scale));
        dqkv[v_at + u] = stored(Parts(dv[u]));
#end
    }
}
#endif
