// The largest element of a row and its number; the lowest number wins ties. Needs `elem` and `row`.

const LOWEST: f32 = -3.4028234e38;
const NOWHERE: u32 = 0xffffffffu;

struct Best {
    value: f32,
    at: u32,
}

// `b`, or the element of `v` (whose first element has number `first`) that is larger.
fn better(b: Best, v: E, first: u32) -> Best {
#if VEC
    return better_one(better_one(better_one(better_one(b, v.x, first), v.y, first + 1u), v.z, first + 2u), v.w, first + 3u);
#else
    return better_one(b, v, first);
#endif
}
fn better_one(b: Best, x: f32, at: u32) -> Best {
    let up = x > b.value;
    return Best(select(b.value, x, up), select(b.at, at, up));
}

#if TREE
var<workgroup> bests: array<Best, WG>;

fn row_best(lane: u32, mine: Best) -> Best {
    bests[lane] = mine;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let a = bests[lane];
            let b = bests[lane + half];
            if b.value > a.value || (b.value == a.value && b.at < a.at) {
                bests[lane] = b;
            }
        }
        workgroupBarrier();
    }
    let result = bests[0];
    workgroupBarrier();
    return result;
}
#else
fn row_best(lane: u32, mine: Best) -> Best {
    return mine;
}
#endif
