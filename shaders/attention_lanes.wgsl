// attention.wgsl and attention_grad.wgsl for software adapters with subgroups of eight (same results, same formulas).
//
// A workgroup is one subgroup. Its lanes hold R queries each (forward, queries) or R keys (keys), eight rows apart; the
// other side goes by in blocks of eight rows, one loaded by each lane and broadcast: loads are what is dear there.
// queries also adds dS of all images of its run to map[h, i, j], which attention_table.wgsl turns into the table's
// gradient; the map has `stride` rows and columns a head, a multiple of eight, so that only rows are cut off.
// Sums in f32, in the order of keys, queries, images: deterministic.

#import words
#import attend
#import eight

#if TABLE
#if TABLE_UNITS
@group(0) @binding(TABLE_AT) var<uniform> table: array<vec4<f32>, TABLE_UNITS>;

fn entry(row: u32, h: u32) -> f32 {
    let at = row * p.heads + h;
    return table[at >> 2u][at & 3u];
}
#else
@group(0) @binding(TABLE_AT) var<storage, read> table: array<f32>;

fn entry(row: u32, h: u32) -> f32 {
    return table[row * p.heads + h];
}
#endif
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

#import attend_kept
#import attend_rows

#if forward
@group(0) @binding(0) var<storage, read_write> result: array<Out>;
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
    let row = group % p.tiles * (8u * R) + lane;
    var i: array<u32, R>;
    var q: Rows;
    var sum: Rows;
    var top: array<f32, R>;
    var weight: array<f32, R>;
#if TABLE
    var own: array<u32, R>;
#endif
#repeat r R
    i[r] = min(row + 8u * r, p.tokens - 1u);
    top[r] = -3.0e38;
#if TABLE
    own[r] = query_row(i[r]);
#endif
    {
        let own_q = qkv_row(qkv_at(0u, b, i[r], h));
#repeat u UNITS
        q[r * UNITS + u] = own_q[u] * p.scale;
#end
    }
#end
    for (var j0 = 0u; j0 < p.tokens; j0 += 8u) {
        let j = min(j0 + lane, p.tokens - 1u);
        let k = qkv_row(qkv_at(1u, b, j, h));
        var w: array<Eight, R>;
        var fade: array<f32, R>;
#repeat u UNITS
        {
            let ks = spread(k[u]);
#repeat r R
            w[r] = dots(w[r], q[r * UNITS + u], ks);
#end
        }
#end
#if TABLE
        let other = key_row(j);
#endif
#repeat r R
        {
            var s = w[r];
#if TABLE
            let bias = key_biases(i[r], own[r], j0, other, h);
            s = Eight(s.a + bias.a, s.b + bias.b);
#endif
            s = existing(s, j0, -3.0e38);
            let highest = max(s.a, s.b);
            let larger = max(max(top[r], max(highest.x, highest.y)), max(highest.z, highest.w));
            w[r] = Eight(exp(s.a - larger), exp(s.b - larger));
            fade[r] = exp(top[r] - larger);
            let w_sum = w[r].a + w[r].b;
            weight[r] = weight[r] * fade[r] + ((w_sum.x + w_sum.y) + (w_sum.z + w_sum.w));
            top[r] = larger;
        }
#end
        let v = qkv_row(qkv_at(2u, b, j, h));
#repeat u UNITS
        {
            let vs = spread(v[u]);
#repeat r R
            sum[r * UNITS + u] = sum[r * UNITS + u] * fade[r] + mix8(w[r], vs);
#end
        }
#end
    }
#repeat r R
    if row + 8u * r < p.tokens {
        put_row(token_at(b, i[r], h), &sum, r, 1.0 / weight[r]);
        lse[(b * p.heads + h) * p.tokens + i[r]] = top[r] + log(weight[r]);
    }
#end
}
#endif

#if queries
@group(0) @binding(0) var<storage, read_write> result: array<Out>;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read> cotangent: array<Cotangent>;
@group(0) @binding(3) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read> o: array<Mixed>;
#if TABLE
#if OCT
@group(0) @binding(7) var<storage, read_write> map: array<Oct>;

fn keep(at: u32, first: bool, ds: Eight) {
    if first {
        map[at / 2u] = join(ds.a, ds.b);
    } else {
        let kept = map[at / 2u];
        map[at / 2u] = join(lower(kept) + ds.a, upper(kept) + ds.b);
    }
}
#else
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
    let row = group % p.tiles * (8u * R) + lane;
    var i: array<u32, R>;
#if TABLE
    var own: array<u32, R>;
#endif
#repeat r R
    i[r] = min(row + 8u * r, p.tokens - 1u);
#if TABLE
    own[r] = query_row(i[r]);
#endif
#end
    for (var b = first; b < min(first + p.images, p.batch); b += 1u) {
        var q: Rows;
        var d_o: Rows;
        var dq: Rows;
        var overlap: array<f32, R>;
        var own_lse: array<f32, R>;
#repeat r R
        {
            let own_q = qkv_row(qkv_at(0u, b, i[r], h));
            let own_d = cotangent_row(token_at(b, i[r], h));
            let own_o = mixed_row(token_at(b, i[r], h));
            overlap[r] = 0.0;
            own_lse[r] = lse[(b * p.heads + h) * p.tokens + i[r]];
#repeat u UNITS
            q[r * UNITS + u] = own_q[u] * p.scale;
            d_o[r * UNITS + u] = own_d[u];
            dq[r * UNITS + u] = E(0.0);
            overlap[r] += inner(own_d[u], own_o[u]);
#end
        }
#end
        for (var j0 = 0u; j0 < p.tokens; j0 += 8u) {
            let j = min(j0 + lane, p.tokens - 1u);
            let k = qkv_row(qkv_at(1u, b, j, h));
            let v = qkv_row(qkv_at(2u, b, j, h));
            var s: array<Eight, R>;
            var ds: array<Eight, R>;
#repeat r R
            s[r] = Eight();
            ds[r] = Eight();
#end
#repeat u UNITS
            {
                let ks = spread(k[u]);
                let vs = spread(v[u]);
#repeat r R
                s[r] = dots(s[r], q[r * UNITS + u], ks);
                ds[r] = dots(ds[r], d_o[r * UNITS + u], vs);
#end
            }
#end
#if TABLE
            let other = key_row(j);
#endif
#repeat r R
            {
#if TABLE
                let bias = key_biases(i[r], own[r], j0, other, h);
                s[r] = Eight(s[r].a + bias.a, s[r].b + bias.b);
#endif
                let w = existing(Eight(exp(s[r].a - own_lse[r]), exp(s[r].b - own_lse[r])), j0, 0.0);
                ds[r] = Eight(w.a * (ds[r].a - overlap[r]), w.b * (ds[r].b - overlap[r]));
#if TABLE
                if row + 8u * r < p.stride {
                    keep(((own_head * p.stride + row + 8u * r) * p.stride + j0) / 4u, b == first, ds[r]);
                }
#endif
            }
#end
#repeat u UNITS
            {
                let ks = spread(k[u]);
#repeat r R
                dq[r * UNITS + u] += mix8(ds[r], ks);
#end
            }
#end
        }
#repeat r R
        if row + 8u * r < p.tokens {
            put_row(qkv_at(0u, b, i[r], h), &dq, r, p.scale);
            delta[(b * p.heads + h) * p.tokens + i[r]] = overlap[r];
        }
#end
    }
}
#endif

#if keys
@group(0) @binding(0) var<storage, read_write> result: array<Out>;
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
    let row = group % p.tiles * (8u * R) + lane;
    var j: array<u32, R>;
    var k: Rows;
    var v: Rows;
    var dk: Rows;
    var dv: Rows;
#if TABLE
    var own: array<u32, R>;
#endif
#repeat r R
    j[r] = min(row + 8u * r, p.tokens - 1u);
#if TABLE
    own[r] = key_row(j[r]);
#endif
    {
        let own_k = qkv_row(qkv_at(1u, b, j[r], h));
        let own_v = qkv_row(qkv_at(2u, b, j[r], h));
#repeat u UNITS
        k[r * UNITS + u] = own_k[u] * p.scale;
        v[r * UNITS + u] = own_v[u];
#end
    }
#end
    let rows = (b * p.heads + h) * p.tokens;
    for (var i0 = 0u; i0 < p.tokens; i0 += 8u) {
        let i = min(i0 + lane, p.tokens - 1u);
        let q = qkv_row(qkv_at(0u, b, i, h));
        let d_o = cotangent_row(token_at(b, i, h));
        var w: array<Eight, R>;
        var ds: array<Eight, R>;
#repeat u UNITS
        {
            let qs = spread(q[u]);
            let ds_o = spread(d_o[u]);
#repeat r R
            w[r] = dots(w[r], k[r * UNITS + u], qs);
            ds[r] = dots(ds[r], v[r * UNITS + u], ds_o);
#end
        }
#end
        let l = all_lanes(lse[rows + i]);
        let d = all_lanes(delta[rows + i]);
#if TABLE
        let other = query_row(i);
#endif
#repeat r R
        {
            var s = w[r];
#if TABLE
            let bias = query_biases(j[r], own[r], i0, other, h);
            s = Eight(s.a + bias.a, s.b + bias.b);
#endif
            w[r] = existing(Eight(exp(s.a - l.a), exp(s.b - l.b)), i0, 0.0);
            ds[r] = Eight(w[r].a * (ds[r].a - d.a), w[r].b * (ds[r].b - d.b));
        }
#end
#repeat u UNITS
        {
            let qs = spread(q[u]);
            let ds_o = spread(d_o[u]);
#repeat r R
            dk[r * UNITS + u] += mix8(ds[r], qs);
            dv[r * UNITS + u] += mix8(w[r], ds_o);
#end
        }
#end
    }
#repeat r R
    if row + 8u * r < p.tokens {
        put_row(qkv_at(1u, b, j[r], h), &dk, r, p.scale);
        put_row(qkv_at(2u, b, j[r], h), &dv, r, 1.0);
    }
#end
}
#endif
