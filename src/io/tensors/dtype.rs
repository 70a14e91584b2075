//! Element types of the container and their conversion from and to little-endian bytes.

use super::TensorData;

/// Element types that are read; writing uses those that [`TensorData`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
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

    /// Bytes per element in the file.
    pub(super) fn width(self) -> usize {
        match self {
            Dtype::U8 | Dtype::Bool => 1,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F64 | Dtype::I64 => 8,
        }
    }

    /// Elements from their bytes; a rest shorter than one element is ignored, as lengths are checked before.
    pub(super) fn decode(self, bytes: &[u8]) -> TensorData {
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

/// Appends the elements as little-endian bytes.
pub(super) fn encode_into(data: &TensorData, out: &mut Vec<u8>) {
    match data {
        TensorData::F32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        TensorData::F64(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        TensorData::I32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        TensorData::I64(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        TensorData::U32(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        TensorData::U8(v) => out.extend_from_slice(v),
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
}
