//! The two small float formats of GGUF, as exact f32, and a multiplication and addition that is rounded
//! once wherever it runs.

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

/// `a * b + c`, rounded once: the one operation of the law for which plain code asks the system's
/// library. MinGW's rounds it more than once, and vectors would not be those of other systems.
#[inline(always)]
pub(super) fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(all(windows, target_env = "gnu")) { fused_in_f64(a, b, c) } else { a.mul_add(b, c) }
}

/// The same by what every library does right. The product is exact in an f64; the sum is rounded to odd,
/// which is to say that its last bit tells whether something was lost, and so the second rounding, to
/// f32, finds what it needs.
#[inline(always)]
fn fused_in_f64(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let of_c = sum - product;
    let lost = (product - (sum - of_c)) + (c - of_c);
    let bits = sum.to_bits();
    if !sum.is_finite() || lost == 0.0 || bits & 1 == 1 {
        return sum as f32;
    }
    // The neighbour on the side of what was lost: away from zero, or towards it.
    let odd = if (lost > 0.0) == (sum > 0.0) { bits + 1 } else { bits - 1 };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Near each other in size, so that the sum loses something.
        #[test]
        fn a_sum_in_f64_is_rounded_once(
            a in -4.0_f32..4.0, b in -4.0_f32..4.0, c in -16.0_f32..16.0, shift in 0_i32..60
        ) {
            let c = c * 2.0_f32.powi(-shift);
            prop_assert_eq!(fused_in_f64(a, b, c).to_bits(), exactly(a, b, c).to_bits());
        }

        #[test]
        fn so_it_is_for_all_bits(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            let [a, b, c] = [a, b, c].map(f32::from_bits);
            let (found, wanted) = (fused_in_f64(a, b, c), exactly(a, b, c));
            prop_assert!(found.to_bits() == wanted.to_bits() || found.is_nan() && wanted.is_nan());
        }
    }

    /// By the system's library where that is right, as glibc's is; elsewhere the function itself, which
    /// then only has to come back.
    fn exactly(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(target_os = "linux") { a.mul_add(b, c) } else { fused_in_f64(a, b, c) }
    }

    #[test]
    fn what_two_roundings_get_wrong_is_right() {
        // 2^-24 (1 - 2^-30) is a little less than half of what the last place of the sum is worth; an f64
        // does not hold so little beside 1, and what it holds is just half.
        let (a, b) = (2.0_f32.powi(-24) * (1.0 + 2.0_f32.powi(-15)), 1.0 - 2.0_f32.powi(-15));
        let c = 1.0 + 2.0_f32.powi(-23);
        assert_eq!((fused_in_f64(a, b, c), fused(a, b, c)), (c, c));
        assert_ne!((f64::from(a) * f64::from(b) + f64::from(c)) as f32, c, "two roundings");
        // (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24, of which an f32 keeps no 2^-24.
        let x = 1.0 + 2.0_f32.powi(-12);
        assert_eq!(fused(x, x, -(1.0 + 2.0_f32.powi(-11))), 2.0_f32.powi(-24));
        assert_eq!(fused(f32::INFINITY, 1.0, 1.0), f32::INFINITY);
        assert!(fused(f32::INFINITY, 0.0, 1.0).is_nan());
        assert_eq!(fused(f32::MAX, 2.0, 0.0), f32::INFINITY);
    }

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
