//! The colour map of heat maps: dark blue to pale yellow, lightness rising evenly, legible to colour-blind eyes and in
//! black and white.

/// Anchors at equal distances, in sRGB.
const ANCHORS: [[f32; 3]; 7] = [
    [20.0, 24.0, 60.0],
    [38.0, 62.0, 122.0],
    [34.0, 108.0, 148.0],
    [46.0, 152.0, 150.0],
    [104.0, 192.0, 130.0],
    [186.0, 222.0, 116.0],
    [250.0, 246.0, 180.0],
];

/// The colour of a value; values outside of 0..1 are cut, NaN is grey.
pub fn heat(value: f32) -> [u8; 3] {
    if value.is_nan() {
        return [128; 3];
    }
    let last = ANCHORS.len() - 1;
    let at = value.clamp(0.0, 1.0) * last as f32;
    let low = (at as usize).min(last - 1);
    let part = at - low as f32;
    std::array::from_fn(|c| (ANCHORS[low][c] * (1.0 - part) + ANCHORS[low + 1][c] * part).round() as u8)
}

/// A mix of two colours; `part` 0 gives the first, 1 the second.
pub fn mix(a: [u8; 3], b: [u8; 3], part: f32) -> [u8; 3] {
    std::array::from_fn(|c| (f32::from(a[c]) * (1.0 - part) + f32::from(b[c]) * part).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_rises() {
        let luma = |[r, g, b]: [u8; 3]| 0.2126 * f32::from(r) + 0.7152 * f32::from(g) + 0.0722 * f32::from(b);
        let values: Vec<f32> = (0..=100).map(|i| luma(heat(i as f32 / 100.0))).collect();
        assert!(values.windows(2).all(|w| w[1] > w[0]), "{values:?}");
        assert_eq!((heat(-1.0), heat(9.0)), (heat(0.0), heat(1.0)));
        assert_eq!(heat(f32::NAN), [128; 3]);
    }
}
