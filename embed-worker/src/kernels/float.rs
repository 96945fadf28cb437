//! The two small float formats of GGUF, as exact f32.

/// The value of an IEEE binary16 in little-endian bytes. Exact: every f16 is an f32.
#[inline(always)]
pub(super) fn f16_to_f32(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    // Shifting the exponent and fraction into place leaves the value 2^112 too small (the biases
    // are 15 and 127); the multiplication is exact and turns f16's subnormals into normal numbers.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    // Exponent 31 means infinity or NaN and must become exponent 255, which scaling does not do.
    let special = if magnitude >= 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(sign | special | scaled.to_bits())
}

/// The value of a bfloat16 in little-endian bytes: the upper half of an f32.
#[inline(always)]
pub(super) fn bf16_to_f32(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, in f64.
    fn defined(bits: u16) -> f64 {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let exponent = i32::from((bits >> 10) & 31);
        let fraction = f64::from(bits & 1023);
        sign * match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
        }
    }

    #[test]
    fn every_f16_is_exact() {
        for bits in 0..=u16::MAX {
            let found = f64::from(f16_to_f32(bits.to_le_bytes()));
            let wanted = defined(bits);
            let same = found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan());
            assert!(same, "{bits:#06x}: {found} is not {wanted}");
        }
    }

    #[test]
    fn bf16_is_the_upper_half() {
        assert_eq!(bf16_to_f32([0x80, 0x3f]), 1.0);
        assert!(bf16_to_f32([0xc0, 0x7f]).is_nan());
    }
}
