// Where the pixels of a bilinear resizing from `m` to `n` pixels of a side lie, corners not aligned.

struct Taps {
    low: u32,
    high: u32,
    upper: f32, // weight of the higher neighbour
}

// Neighbours of output pixel d.
fn taps(d: u32, m: u32, n: u32) -> Taps {
    let at = (2u * d + 1u) * m - min((2u * d + 1u) * m, n);
    let low = at / (2u * n);
    return Taps(low, min(low + 1u, m - 1u), f32(at % (2u * n)) / f32(2u * n));
}

// Output pixels (first, end) with a tap at input pixel i.
fn touching(i: u32, m: u32, n: u32) -> vec2<u32> {
    let low = n * (2u * max(i, 1u) - 1u);
    let high = n * (2u * i + 3u);
    let first = (low - min(low, m) + 2u * m - 1u) / (2u * m);
    let end = (high - min(high, m) + 2u * m - 1u) / (2u * m);
    return vec2<u32>(select(first, 0u, i < 2u), min(end, n));
}

// Weight of an output pixel at input pixel i.
fn weight_at(t: Taps, i: u32) -> f32 {
    return select(0.0, 1.0 - t.upper, t.low == i) + select(0.0, t.upper, t.high == i);
}
