// Elementary functions of units of elements, more accurate near their zeros than WGSL promises of its own.
// Needs `elem`. erf is the rational function of src/cpu/math.rs: odd, degree 13 over 8, on |x| < 4, error about 1e-7.

fn erf(value: E) -> E {
    let x = clamp(value, E(-4.0), E(4.0));
    let s = x * x;
    var n = E(-2.7261423e-10);
    n = n * s + E(2.7706814e-8);
    n = n * s + E(-2.101024e-6);
    n = n * s + E(-5.6925064e-5);
    n = n * s + E(-7.349906e-4);
    n = n * s + E(-2.9546e-3);
    n = n * s + E(-1.6096033e-2);
    var d = E(-1.4566072e-5);
    d = d * s + E(-2.1337406e-4);
    d = d * s + E(-1.682827e-3);
    d = d * s + E(-7.373329e-3);
    d = d * s + E(-1.426474e-2);
    return x * n / d;
}

// Normal distribution function Φ and density φ.
fn phi(x: E) -> E {
    return 0.5 * (1.0 + erf(x * 0.70710678));
}
fn density(x: E) -> E {
    return 0.3989423 * exp(-0.5 * x * x);
}
fn gelu(x: E) -> E {
    return x * phi(x);
}
fn gelu_slope(x: E) -> E {
    return phi(x) + x * density(x);
}

// ln x of normal positive numbers: x = m·2^k with m in [√½, √2), ln m = 2·artanh((m−1)/(m+1)); relative error about 1e-7.
fn ln(x: E) -> E {
    let bits = bitcast<U>(x);
    let k = bitcast<I>(bits - U(0x3f3504f3u)) >> U(23u);
    let m = bitcast<E>(bits - (bitcast<U>(k) << U(23u)));
    let s = (m - 1.0) / (m + 1.0);
    let z = s * s;
    let series = 1.0 + z * (0.33333333 + z * (0.2 + z * (0.14285714 + z * 0.11111111)));
    return E(k) * 0.69314718 + 2.0 * s * series;
}
