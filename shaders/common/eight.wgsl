// Eight rows, one loaded by each lane of a subgroup and broadcast to all, against the rows that a lane holds. Units `E` as in
// elem.wgsl; `existing` needs the constants of attend.wgsl.

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

// The y of every lane.
struct All {
    y0: E,
    y1: E,
    y2: E,
    y3: E,
    y4: E,
    y5: E,
    y6: E,
    y7: E,
}
fn spread(y: E) -> All {
    return All(
        subgroupBroadcast(y, 0u), subgroupBroadcast(y, 1u), subgroupBroadcast(y, 2u), subgroupBroadcast(y, 3u),
        subgroupBroadcast(y, 4u), subgroupBroadcast(y, 5u), subgroupBroadcast(y, 6u), subgroupBroadcast(y, 7u),
    );
}

// The lane's x against the y of every lane.
fn dots(s: Eight, x: E, y: All) -> Eight {
    let a = vec4(inner(x, y.y0), inner(x, y.y1), inner(x, y.y2), inner(x, y.y3));
    let b = vec4(inner(x, y.y4), inner(x, y.y5), inner(x, y.y6), inner(x, y.y7));
    return Eight(s.a + a, s.b + b);
}

// Σ w_t · (y of lane t).
fn mix8(w: Eight, y: All) -> E {
    var sum = w.a.x * y.y0;
    sum += w.a.y * y.y1;
    sum += w.a.z * y.y2;
    sum += w.a.w * y.y3;
    sum += w.b.x * y.y4;
    sum += w.b.y * y.y5;
    sum += w.b.z * y.y6;
    sum += w.b.w * y.y7;
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
