// Tests of non-finite numbers by their bits; comparing a NaN with itself is not reliable in WGSL.

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
