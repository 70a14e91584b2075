//! Element types of the container and their conversion from and to little-endian bytes.

use super::{Precision, TensorData};

/// Element types that are read; writing uses those that [`TensorData`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    U32,
    U8,
    Bool,
}

/// The names accepted in a header, for messages.
pub(super) const NAMES: &str = "one of F32, F16, BF16, F64, I64, I32, U32, U8, BOOL";

impl Dtype {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "F32" => Dtype::F32,
            "F16" => Dtype::F16,
            "BF16" => Dtype::Bf16,
            "F64" => Dtype::F64,
            "I64" => Dtype::I64,
            "I32" => Dtype::I32,
            "U32" => Dtype::U32,
            "U8" => Dtype::U8,
            "BOOL" => Dtype::Bool,
            _ => return None,
        })
    }

    /// What the type says about the file's floating-point elements.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Dtype::F16 => Precision::F16,
            Dtype::Bf16 => Precision::Bf16,
            Dtype::F32 | Dtype::F64 => Precision::F32,
            _ => Precision::Unset,
        }
    }

    /// Bytes per element in the file.
    pub(crate) fn width(self) -> usize {
        match self {
            Dtype::U8 | Dtype::Bool => 1,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F64 | Dtype::I64 => 8,
        }
    }

    /// Elements from their bytes; a rest shorter than one element is ignored, as lengths are checked before.
    pub(crate) fn decode(self, bytes: &[u8]) -> TensorData {
        match self {
            Dtype::F32 => TensorData::F32(map_chunks(bytes, f32::from_le_bytes)),
            Dtype::F16 => TensorData::F32(map_chunks(bytes, |b| f16_to_f32(u16::from_le_bytes(b)))),
            // BF16 is the upper half of an F32
            Dtype::Bf16 => {
                TensorData::F32(map_chunks(bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)))
            }
            Dtype::F64 => TensorData::F64(map_chunks(bytes, f64::from_le_bytes)),
            Dtype::I64 => TensorData::I64(map_chunks(bytes, i64::from_le_bytes)),
            Dtype::I32 => TensorData::I32(map_chunks(bytes, i32::from_le_bytes)),
            Dtype::U32 => TensorData::U32(map_chunks(bytes, u32::from_le_bytes)),
            Dtype::U8 | Dtype::Bool => TensorData::U8(bytes.to_vec()),
        }
    }
}

fn map_chunks<const W: usize, T>(bytes: &[u8], f: impl Fn([u8; W]) -> T) -> Vec<T> {
    bytes.as_chunks::<W>().0.iter().map(|chunk| f(*chunk)).collect()
}

/// IEEE half to single, exact for every bit pattern (subnormals, infinities and NaN payloads included).
fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let exponent = u32::from(half >> 10) & 0x1f;
    let fraction = u32::from(half) & 0x3ff;
    match exponent {
        // zero and subnormals: fraction · 2^-24, which a single holds exactly
        0 => {
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(magnitude.to_bits() | sign)
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        // exponent bias 15 becomes 127
        e => f32::from_bits(sign | ((e + 112) << 23) | (fraction << 13)),
    }
}

/// Single to IEEE half, to the nearest, ties to even; exact for every value that came from a half.
fn f32_to_f16(x: f32) -> u16 {
    let bits = x.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude >= 0x7f80_0000 {
        // infinity, or NaN with the upper bits of its payload
        let fraction = (magnitude >> 13) as u16 & 0x3ff;
        let quiet = u16::from(magnitude > 0x7f80_0000 && fraction == 0) << 9;
        return sign | 0x7c00 | fraction | quiet;
    }
    let rounded = |value: u32, shift: u32| {
        let (kept, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
        kept + u32::from(rest > half || rest == half && kept & 1 == 1)
    };
    let exponent = (magnitude >> 23) as i32 - 127;
    let half = match exponent {
        16.. => 0x7c00,
        // a carry out of the fraction raises the exponent, up to infinity
        -14..=15 => rounded(magnitude - (112 << 23), 13),
        // subnormal: the fraction with its leading one, in steps of 2^-24
        -25..=-15 => rounded((magnitude & 0x7f_ffff) | 0x80_0000, (-1 - exponent) as u32),
        _ => 0,
    };
    sign | half as u16
}

/// Single to its upper half, to the nearest, ties to even.
fn f32_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Name of the element type under which the elements are written at a precision.
pub(super) fn stored_name(data: &TensorData, precision: Precision) -> &'static str {
    match (data, precision) {
        (TensorData::F32(_), Precision::F16) => "F16",
        (TensorData::F32(_), Precision::Bf16) => "BF16",
        _ => data.dtype_name(),
    }
}

/// Bytes per element as written at a precision.
pub(crate) fn stored_width(data: &TensorData, precision: Precision) -> usize {
    match (data, precision) {
        (TensorData::F32(_), Precision::F16 | Precision::Bf16) => 2,
        _ => data.width(),
    }
}

/// Appends the elements as little-endian bytes; F32 in the given precision.
pub(crate) fn encode_into(data: &TensorData, precision: Precision, out: &mut Vec<u8>) {
    match (data, precision) {
        (TensorData::F32(v), Precision::F16) => {
            v.iter().for_each(|&x| out.extend_from_slice(&f32_to_f16(x).to_le_bytes()));
        }
        (TensorData::F32(v), Precision::Bf16) => {
            v.iter().for_each(|&x| out.extend_from_slice(&f32_to_bf16(x).to_le_bytes()));
        }
        (TensorData::F32(v), _) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (TensorData::F64(v), _) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (TensorData::I32(v), _) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (TensorData::I64(v), _) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (TensorData::U32(v), _) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        (TensorData::U8(v), _) => out.extend_from_slice(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_exactly() {
        let cases = [
            (0x0000u16, 0.0f32),
            (0x0001, 2f32.powi(-24)),
            (0x03ff, 1023.0 * 2f32.powi(-24)),
            (0x0400, 2f32.powi(-14)),
            (0x3c00, 1.0),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (bits, value) in cases {
            assert_eq!(f16_to_f32(bits), value, "{bits:#06x}");
        }
        assert_eq!(f16_to_f32(0x8000).to_bits(), 0x8000_0000);
        assert!(f16_to_f32(0x7e01).is_nan());
    }

    #[test]
    fn narrowing_undoes_widening_and_rounds_to_even() {
        for bits in 0..=u16::MAX {
            let wide = f16_to_f32(bits);
            if !wide.is_nan() {
                assert_eq!(f32_to_f16(wide), bits, "{bits:#06x}");
                // the middle between two neighbours goes to the even one
                if bits & 0x7fff < 0x7bff {
                    let middle = (f64::from(wide) + f64::from(f16_to_f32(bits + 1))) / 2.0;
                    assert_eq!(f32_to_f16(middle as f32), bits + (bits & 1), "{bits:#06x}");
                }
            }
            let upper = f32::from_bits(u32::from(bits) << 16);
            assert!(upper.is_nan() || f32_to_bf16(upper) == bits, "{bits:#06x}");
        }
        assert_eq!(f32_to_f16(65520.0), 0x7c00);
        assert_eq!(f32_to_f16(f32::MAX), 0x7c00);
        assert!(f16_to_f32(f32_to_f16(f32::NAN)).is_nan());
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(f32_to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
    }
}
