// attention.wgsl and attention_grad.wgsl for software adapters with subgroups of eight (same results, same formulas).
//
// A workgroup is one subgroup. Its lanes hold eight queries (forward, queries) or eight keys (keys); the other side goes
// by in blocks of eight rows, one loaded by each lane and broadcast: loads are what is dear there, arithmetic is not.
// queries also adds dS of all images of its run to map[h, i, j], which attention_table.wgsl turns into the table's
// gradient; the map has `stride` rows and columns a head, a multiple of eight, so that nothing is cut off at its edges.
// Sums in f32, in the order of keys, queries, images: deterministic.

#import words
#import attend

// A number for each of eight rows.
struct Eight {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn inner(x: E, y: E) -> f32 {
#if VEC
    return dot(x, y);
#else
    return x * y;
#endif
}

// The lane's x against the y of every lane.
fn dots(s: Eight, x: E, y: E) -> Eight {
    let a = vec4(inner(x, subgroupBroadcast(y, 0u)), inner(x, subgroupBroadcast(y, 1u)), inner(x, subgroupBroadcast(y, 2u)), inner(x, subgroupBroadcast(y, 3u)));
    let b = vec4(inner(x, subgroupBroadcast(y, 4u)), inner(x, subgroupBroadcast(y, 5u)), inner(x, subgroupBroadcast(y, 6u)), inner(x, subgroupBroadcast(y, 7u)));
    return Eight(s.a + a, s.b + b);
}

// Σ w_t · (y of lane t).
fn mix8(w: Eight, y: E) -> E {
    var sum = w.a.x * subgroupBroadcast(y, 0u);
    sum += w.a.y * subgroupBroadcast(y, 1u);
    sum += w.a.z * subgroupBroadcast(y, 2u);
    sum += w.a.w * subgroupBroadcast(y, 3u);
    sum += w.b.x * subgroupBroadcast(y, 4u);
    sum += w.b.y * subgroupBroadcast(y, 5u);
    sum += w.b.z * subgroupBroadcast(y, 6u);
    sum += w.b.w * subgroupBroadcast(y, 7u);
    return sum;
}

// The x of every lane.
fn all_lanes(x: f32) -> Eight {
    return Eight(
        vec4(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u)),
        vec4(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u)),
    );
}

// `s` where the row exists, else `other`; `first` is the row of the first number.
fn existing(s: Eight, first: u32, other: f32) -> Eight {
    let at = vec4(first, first + 1u, first + 2u, first + 3u);
    return Eight(select(vec4(other), s.a, at < vec4(p.tokens)), select(vec4(other), s.b, at + 4u < vec4(p.tokens)));
}

#if TABLE
@group(0) @binding(TABLE_AT) var<storage, read> table: array<f32>;

fn entry(row: u32, h: u32) -> f32 {
    return table[row * p.heads + h];
}
// Bias of the lane's query i against the keys from j0 on; `own` is the query_row, `other` the lane's key_row.
fn key_biases(i: u32, own: u32, j0: u32, other: u32, h: u32) -> Eight {
    let a = vec4(subgroupBroadcast(other, 0u), subgroupBroadcast(other, 1u), subgroupBroadcast(other, 2u), subgroupBroadcast(other, 3u));
    let b = vec4(subgroupBroadcast(other, 4u), subgroupBroadcast(other, 5u), subgroupBroadcast(other, 6u), subgroupBroadcast(other, 7u));
    let class_query = vec4(i == 0u);
    var rows_a = select(vec4(own) - a, vec4(outside()), class_query);
    let rows_b = select(vec4(own) - b, vec4(outside()), class_query);
    if j0 == 0u {
        rows_a.x = outside() + select(1u, 2u, i == 0u);
    }
    return Eight(
        vec4(entry(rows_a.x, h), entry(rows_a.y, h), entry(rows_a.z, h), entry(rows_a.w, h)),
        vec4(entry(rows_b.x, h), entry(rows_b.y, h), entry(rows_b.z, h), entry(rows_b.w, h)),
    );
}
// Bias of the queries from i0 on against the lane's key j; `own` is the key_row, `other` the lane's query_row.
fn query_biases(j: u32, own: u32, i0: u32, other: u32, h: u32) -> Eight {
    let a = vec4(subgroupBroadcast(other, 0u), subgroupBroadcast(other, 1u), subgroupBroadcast(other, 2u), subgroupBroadcast(other, 3u));
    let b = vec4(subgroupBroadcast(other, 4u), subgroupBroadcast(other, 5u), subgroupBroadcast(other, 6u), subgroupBroadcast(other, 7u));
    let class_key = vec4(j == 0u);
    var rows_a = select(a - vec4(own), vec4(outside() + 1u), class_key);
    let rows_b = select(b - vec4(own), vec4(outside() + 1u), class_key);
    if i0 == 0u {
        rows_a.x = outside() + select(0u, 2u, j == 0u);
    }
    return Eight(
        vec4(entry(rows_a.x, h), entry(rows_a.y, h), entry(rows_a.z, h), entry(rows_a.w, h)),
        vec4(entry(rows_b.x, h), entry(rows_b.y, h), entry(rows_b.z, h), entry(rows_b.w, h)),
    );
}
#endif

#if VEC
#import half
alias Full = Quad;
fn of_full(x: Full) -> E {
    return quad(x);
}
#else
alias Full = f32;
fn of_full(x: Full) -> E {
    return x;
}
#endif
// What is kept in half precision: QKV_HALF, O_HALF, DO_HALF (the cotangent), OUT_HALF (the result).
#if QKV_HALF
alias Qkv = Half;
fn unit(v: Qkv) -> E {
    return widen(v);
}
#else
alias Qkv = Full;
fn unit(v: Qkv) -> E {
    return of_full(v);
}
#endif
#if O_HALF
alias Mixed = Half;
fn mixed(v: Mixed) -> E {
    return widen(v);
}
#else
alias Mixed = Full;
fn mixed(v: Mixed) -> E {
    return of_full(v);
}
#endif
#if DO_HALF
alias Cotangent = Half;
fn cotangent_of(v: Cotangent) -> E {
    return widen(v);
}
#else
alias Cotangent = Full;
fn cotangent_of(v: Cotangent) -> E {
    return of_full(v);
}
#endif
#if OUT_HALF
alias Out = Half;
fn stored(v: E) -> Out {
    return narrow(v);
}
#else
alias Out = E;
fn stored(v: E) -> Out {
    return v;
}
#endif

#if forward
@group(0) @binding(0) var<storage, read_write> o: array<Out>;
@group(0) @binding(1) var<storage, read_write> lse: array<f32>;
@group(0) @binding(2) var<storage, read> qkv: array<Qkv>;

@compute @workgroup_size(8)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    if group >= p.batch * p.heads * p.tiles {
        return;
    }
    let h = group / p.tiles % p.heads;
    let b = group / (p.tiles * p.heads);
    let row = group % p.tiles * 8u + lane;
    let i = min(row, p.tokens - 1u);
    let q_at = qkv_at(0u, b, i, h);
    var q: Row;
    var sum: Row;
    for (var u = 0u; u < UNITS; u += 1u) {
        q[u] = unit(qkv[q_at + u]) * p.scale;
    }
#if TABLE
    let own = query_row(i);
#endif
    var top = -3.0e38;
    var weight = 0.0;
    for (var j0 = 0u; j0 < p.tokens; j0 += 8u) {
        let j = min(j0 + lane, p.tokens - 1u);
        let k_at = qkv_at(1u, b, j, h);
        let v_at = qkv_at(2u, b, j, h);
        var s = Eight();
        for (var u = 0u; u < UNITS; u += 1u) {
            s = dots(s, q[u], unit(qkv[k_at + u]));
        }
#if TABLE
        let bias = key_biases(i, own, j0, key_row(j), h);
        s = Eight(s.a + bias.a, s.b + bias.b);
#endif
        s = existing(s, j0, -3.0e38);
        let highest = max(s.a, s.b);
        let larger = max(max(top, max(highest.x, highest.y)), max(highest.z, highest.w));
        let fade = exp(top - larger);
        let w = Eight(exp(s.a - larger), exp(s.b - larger));
        let w_sum = w.a + w.b;
        weight = weight * fade + ((w_sum.x + w_sum.y) + (w_sum.z + w_sum.w));
        for (var u = 0u; u < UNITS; u += 1u) {
            sum[u] = sum[u] * fade + mix8(w, unit(qkv[v_at + u]));
        }
        top = larger;
    }
    if row < p.tokens {
        let o_at = token_at(b, i, h);
        for (var u = 0u; u < UNITS; u += 1u) {
            o[o_at + u] = stored(sum[u] / weight);
        }
        lse[(b * p.heads + h) * p.tokens + i] = top + log(weight);
    }
}
#endif

#if queries
@group(0) @binding(0) var<storage, read_write> dqkv: array<Out>;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<Cotangent>;
@group(0) @binding(3) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> o: array<Mixed>;
#if TABLE
@group(0) @binding(7) var<storage, read_write> map: array<Quad>;

fn keep(at: u32, first: bool, ds: Eight) {
    if first {
        map[at] = packed(ds.a);
        map[at + 1u] = packed(ds.b);
    } else {
        map[at] = packed(quad(map[at]) + ds.a);
        map[at + 1u] = packed(quad(map[at + 1u]) + ds.b);
    }
}
#endif

@compute @workgroup_size(8)
fn queries(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    if group >= (p.batch + p.images - 1u) / p.images * p.some_heads * p.tiles {
        return;
    }
    let own_head = group / p.tiles % p.some_heads;
    let h = p.first_head + own_head;
    let first = group / (p.tiles * p.some_heads) * p.images;
    let row = group % p.tiles * 8u + lane;
    let i = min(row, p.tokens - 1u);
#if TABLE
    let own = query_row(i);
    let map_at = (own_head * p.stride + row) * p.stride / 4u;
#endif
    for (var b = first; b < min(first + p.images, p.batch); b += 1u) {
        let q_at = qkv_at(0u, b, i, h);
        let o_at = token_at(b, i, h);
        var q: Row;
        var d_o: Row;
        var dq: Row;
        var overlap = 0.0;
        for (var u = 0u; u < UNITS; u += 1u) {
            q[u] = unit(qkv[q_at + u]) * p.scale;
            d_o[u] = cotangent_of(cotangent[o_at + u]);
            dq[u] = E(0.0);
            overlap += inner(d_o[u], mixed(o[o_at + u]));
        }
        let at = (b * p.heads + h) * p.tokens + i;
        let own_lse = lse[at];
        for (var j0 = 0u; j0 < p.tokens; j0 += 8u) {
            let j = min(j0 + lane, p.tokens - 1u);
            let k_at = qkv_at(1u, b, j, h);
            let v_at = qkv_at(2u, b, j, h);
            var k: Row;
            var s = Eight();
            var dp = Eight();
            for (var u = 0u; u < UNITS; u += 1u) {
                k[u] = unit(qkv[k_at + u]);
                s = dots(s, q[u], k[u]);
                dp = dots(dp, d_o[u], unit(qkv[v_at + u]));
            }
#if TABLE
            let bias = key_biases(i, own, j0, key_row(j), h);
            s = Eight(s.a + bias.a, s.b + bias.b);
#endif
            let w = existing(Eight(exp(s.a - own_lse), exp(s.b - own_lse)), j0, 0.0);
            let ds = Eight(w.a * (dp.a - overlap), w.b * (dp.b - overlap));
#if TABLE
            keep(map_at + j0 / 4u, b == first, ds);
#endif
            for (var u = 0u; u < UNITS; u += 1u) {
                dq[u] += mix8(ds, k[u]);
            }
        }
        if row < p.tokens {
            for (var u = 0u; u < UNITS; u += 1u) {
                dqkv[q_at + u] = stored(dq[u] * p.scale);
            }
            delta[at] = overlap;
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

@compute @workgroup_size(8)
fn keys(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = group_index(wid);
    if group >= p.batch * p.heads * p.tiles {
        return;
    }
    let h = group / p.tiles % p.heads;
    let b = group / (p.tiles * p.heads);
    let row = group % p.tiles * 8u + lane;
    let j = min(row, p.tokens - 1u);
    let k_at = qkv_at(1u, b, j, h);
    let v_at = qkv_at(2u, b, j, h);
    var k: Row;
    var v: Row;
    var dk: Row;
    var dv: Row;
    for (var u = 0u; u < UNITS; u += 1u) {
        k[u] = unit(qkv[k_at + u]) * p.scale;
        v[u] = unit(qkv[v_at + u]);
    }
#if TABLE
    let own = key_row(j);
#endif
    let rows = (b * p.heads + h) * p.tokens;
    for (var i0 = 0u; i0 < p.tokens; i0 += 8u) {
        let i = min(i0 + lane, p.tokens - 1u);
        let q_at = qkv_at(0u, b, i, h);
        let o_at = token_at(b, i, h);
        var q: Row;
        var d_o: Row;
        var s = Eight();
        var dp = Eight();
        for (var u = 0u; u < UNITS; u += 1u) {
            q[u] = unit(qkv[q_at + u]);
            d_o[u] = cotangent_of(cotangent[o_at + u]);
            s = dots(s, k[u], q[u]);
            dp = dots(dp, v[u], d_o[u]);
        }
#if TABLE
        let bias = query_biases(j, own, i0, query_row(i), h);
        s = Eight(s.a + bias.a, s.b + bias.b);
#endif
        let l = all_lanes(lse[rows + i]);
        let d = all_lanes(delta[rows + i]);
        let w = existing(Eight(exp(s.a - l.a), exp(s.b - l.b)), i0, 0.0);
        let ds = Eight(w.a * (dp.a - d.a), w.b * (dp.b - d.b));
        for (var u = 0u; u < UNITS; u += 1u) {
            dk[u] += mix8(ds, q[u]);
            dv[u] += mix8(w, d_o[u]);
        }
    }
    if row < p.tokens {
        for (var u = 0u; u < UNITS; u += 1u) {
            dqkv[k_at + u] = stored(dk[u] * p.scale);
            dqkv[v_at + u] = stored(dv[u]);
        }
    }
}
#endif
