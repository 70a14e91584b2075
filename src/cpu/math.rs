//! Elementary functions in f32 that compilers can vectorise (no calls, no branches).

/// e^x for f32, relative error about 1e-7; flushes to 0 below −87.3 and saturates above 88.7.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5·2^23: adding it rounds to an integer
    let x = x.clamp(-87.336_54, 88.722_83);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // r = x − n·ln 2 in two parts, |r| ≤ 0.35
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5.000_000_1e-1;
    let y = p * r * r + r + 1.0;
    // The exponent in two halves: n reaches 128, whose power of two alone does not exist in f32.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    y * f32::from_bits(((half + 127) << 23) as u32) * f32::from_bits(((n - half + 127) << 23) as u32)
}

/// erf for f32, absolute error about 1e-7: odd rational function of degree 13 over 8 on |x| < 4.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let s = x * x;
    let p = -2.726_142_3e-10_f32;
    let p = p * s + 2.770_681_4e-8;
    let p = p * s + -2.101_024e-6;
    let p = p * s + -5.692_506_4e-5;
    let p = p * s + -7.349_906e-4;
    let p = p * s + -2.954_6e-3;
    let p = p * s + -1.609_603_3e-2;
    let q = -1.456_607_2e-5_f32;
    let q = q * s + -2.133_740_6e-4;
    let q = q * s + -1.682_827e-3;
    let q = q * s + -7.373_329e-3;
    let q = q * s + -1.426_474e-2;
    x * p / q
}

#[cfg(test)]
mod tests {
    #[test]
    fn close_to_f64() {
        for i in -9000..9000 {
            let x = i as f32 * 0.01;
            let (got, want) = (f64::from(super::exp(x)), f64::from(x).exp());
            if (-87.0..88.0).contains(&x) {
                assert!((got / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
            let (got, want) = (f64::from(super::erf(x * 0.1)), libm::erf(f64::from(x * 0.1)));
            assert!((got - want).abs() < 3e-7, "erf({}) = {got}, not {want}", x * 0.1);
        }
    }
}
