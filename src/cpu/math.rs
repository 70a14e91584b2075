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

/// erf for f32, absolute error below 1e-7: `x + x·p(x²)` on |x| ≤ 1 and `1 − exp(−h(|x|))` beyond, both polynomials
/// fitted by weighted least squares; it is ±1 from 3.9 on, where f32 has no number between erf and 1.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let (a, s) = (x.abs().min(4.0), x * x);
    let p = 7.889_562_4e-5_f32;
    let p = p * s + -8.020_984e-4;
    let p = p * s + 5.189_553e-3;
    let p = p * s + -2.685_445_5e-2;
    let p = p * s + 1.128_36e-1;
    let p = p * s + -3.761_262_6e-1;
    let p = p * s + 1.283_791_1e-1;
    let h = -1.855_787e-4_f32;
    let h = h * a + 2.939_652_2e-3;
    let h = h * a + -2.180_549_3e-2;
    let h = h * a + 1.030_377_2e-1;
    let h = h * a + 6.382_252_6e-1;
    let h = h * a + 1.127_040_3;
    let h = h * a + 3.536_625_8e-4;
    let beyond = (1.0 - exp(-h)).copysign(x);
    if a <= 1.0 { x + x * p } else { beyond }
}

/// Natural logarithm for f32, relative error about 1e-7; −∞ at 0 and NaN below, as in the standard library.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    const TWO_23: f32 = 8_388_608.0;
    // Subnormal numbers are lifted into the normal range first.
    let small = x < f32::MIN_POSITIVE;
    let lifted = if small { x * TWO_23 } else { x };
    // x = 2^e·m with m between √½ and √2
    let bits = lifted.to_bits().wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let e = ((bits as i32) >> 23) as f32 - if small { 23.0 } else { 0.0 };
    let m = f32::from_bits((bits & 0x007f_ffff).wrapping_add(std::f32::consts::FRAC_1_SQRT_2.to_bits()));
    let f = m - 1.0;
    let p = 7.037_683_6e-2_f32;
    let p = p * f + -1.151_461e-1;
    let p = p * f + 1.167_699_9e-1;
    let p = p * f + -1.242_014_1e-1;
    let p = p * f + 1.424_932_3e-1;
    let p = p * f + -1.666_805_8e-1;
    let p = p * f + 2.000_071_4e-1;
    let p = p * f + -2.499_999_4e-1;
    let p = p * f + 3.333_333e-1;
    let z = f * f;
    let y = p * f * z + e * -2.121_944_4e-4 - 0.5 * z;
    let y = f + y + e * 0.693_359_4;
    let y = if x < f32::INFINITY { y } else { x };
    let y = if x > 0.0 { y } else { f32::NAN };
    if x == 0.0 { f32::NEG_INFINITY } else { y }
}

#[cfg(test)]
mod tests {
    #[test]
    fn logarithm() {
        let mut worst = 0.0f64;
        let wide = (0..40_000).map(|i| f32::from_bits(1 + i * 53_000));
        let near_one = (0..20_000).map(|i| 0.99 + i as f32 * 1e-6);
        for x in wide.chain(near_one).chain([f32::MIN_POSITIVE, f32::MAX, 1.0, 5e-8, 1.0 - 6e-8]) {
            let (got, want) = (f64::from(super::ln(x)), f64::from(x).ln());
            let unit = f64::from((want as f32).abs().max(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON);
            worst = worst.max((got - want).abs() / unit);
        }
        assert!(worst < 1.5, "{worst} units in the last place");
        assert_eq!(super::ln(0.0), f32::NEG_INFINITY);
        assert_eq!(super::ln(f32::INFINITY), f32::INFINITY);
        assert!(
            super::ln(-1.0).is_nan() && super::ln(f32::NAN).is_nan() && super::ln(f32::NEG_INFINITY).is_nan()
        );
    }

    #[test]
    fn close_to_f64() {
        for i in -9000..9000 {
            let x = i as f32 * 0.01;
            let (got, want) = (f64::from(super::exp(x)), f64::from(x).exp());
            if (-87.0..88.0).contains(&x) {
                assert!((got / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, not {want}");
            }
            let (got, want) = (f64::from(super::erf(x * 0.1)), libm::erf(f64::from(x * 0.1)));
            assert!((got - want).abs() < 1e-7, "erf({}) = {got}, not {want}", x * 0.1);
        }
    }
}
