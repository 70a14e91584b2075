//! Colours as red, green and blue in 0..1.

/// Red, green, blue.
pub type Rgb = [f32; 3];

/// From hue (a full turn is 1), saturation and value.
pub fn hsv(hue: f32, saturation: f32, value: f32) -> Rgb {
    [0.0, 2.0, 4.0].map(|offset| {
        let place = (hue * 6.0 - offset).rem_euclid(6.0);
        let distance = place.min(6.0 - place); // sixths of a turn from this primary
        let pure = (2.0 - distance).clamp(0.0, 1.0);
        value * (1.0 - saturation * (1.0 - pure))
    })
}

/// `a` at 0, `b` at 1.
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * t)
}

/// Brighter or darker; what goes over 1 turns towards white.
pub fn lit(colour: Rgb, light: f32) -> Rgb {
    let over = (light - 1.0).max(0.0);
    colour.map(|v| v * light.min(1.0) + (1.0 - v) * over.min(1.0))
}

/// 0 below `low`, 1 above `high`, smooth in between.
pub fn smooth(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primaries() {
        assert_eq!(hsv(0.0, 1.0, 1.0), [1.0, 0.0, 0.0]);
        assert_eq!(hsv(0.5, 1.0, 1.0), [0.0, 1.0, 1.0]);
        assert_eq!(hsv(0.3, 0.0, 0.7), [0.7, 0.7, 0.7]);
    }
}
