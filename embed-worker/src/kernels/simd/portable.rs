//! The lanes in plain Rust.

use super::{LANES, Simd};
use crate::kernels::float::{f16_to_f32, fused};

/// No more than the language promises.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Portable;

/// Applies `$op` lane by lane.
macro_rules! lanes {
    ($lane:ident => $op:expr) => {{
        let mut out = [0.0; LANES];
        for $lane in 0..LANES {
            out[$lane] = $op;
        }
        out
    }};
}

/// Applies `$op` word by word.
macro_rules! words {
    ($word:ident => $op:expr) => {{
        let mut out = [[0; 4]; LANES];
        for $word in 0..LANES {
            out[$word] = u32::to_le_bytes($op);
        }
        out
    }};
}

/// Folds 16 lanes to one: `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
macro_rules! fold {
    ($value:expr, $a:ident, $b:ident => $op:expr) => {{
        let mut lanes = $value;
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                let ($a, $b) = (lanes[lane], lanes[lane + width]);
                lanes[lane] = $op;
            }
            width /= 2;
        }
        lanes[0]
    }};
}

impl Simd for Portable {
    type F32 = [f32; LANES];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        *from
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
        *to = value;
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => a[i] + b[i])
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => a[i] - b[i])
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => a[i] * b[i])
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => a[i] / b[i])
    }

    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        lanes!(i => fused(a[i], b[i], c[i]))
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn exp2_rounded(self, value: Self::F32) -> Self::F32 {
        lanes!(i => f32::from_bits(value[i].to_bits().wrapping_shl(23).wrapping_add(0x3f80_0000)))
    }

    #[inline(always)]
    fn store_low_bytes(self, value: Self::F32, to: &mut [u8; LANES]) {
        for (to, value) in to.iter_mut().zip(value) {
            *to = value.to_bits() as u8;
        }
    }

    #[inline(always)]
    fn sum(self, value: Self::F32) -> f32 {
        fold!(value, a, b => a + b)
    }

    #[inline(always)]
    fn min_lane(self, value: Self::F32) -> f32 {
        fold!(value, a, b => if a < b { a } else { b })
    }

    #[inline(always)]
    fn max_lane(self, value: Self::F32) -> f32 {
        fold!(value, a, b => if a > b { a } else { b })
    }

    type Bits = [[u8; 4]; LANES];

    #[inline(always)]
    fn splat_bits(self, word: u32) -> Self::Bits {
        [word.to_le_bytes(); LANES]
    }

    #[inline(always)]
    fn load_bits(self, from: &[i8; 64]) -> Self::Bits {
        let mut out = [[0; 4]; LANES];
        for (out, byte) in out.as_flattened_mut().iter_mut().zip(from) {
            *out = byte.cast_unsigned();
        }
        out
    }

    #[inline(always)]
    fn store_bits(self, value: Self::Bits, to: &mut [i8; 64]) {
        for (to, byte) in to.iter_mut().zip(value.as_flattened()) {
            *to = byte.cast_signed();
        }
    }

    #[inline(always)]
    fn store_words(self, value: Self::Bits, to: &mut [i32; LANES]) {
        *to = value.map(i32::from_le_bytes);
    }

    #[inline(always)]
    fn and(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        words!(i => word(a[i]) & word(b[i]))
    }

    #[inline(always)]
    fn or(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        words!(i => word(a[i]) | word(b[i]))
    }

    #[inline(always)]
    fn shr<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        words!(i => word(a[i]) >> BY)
    }

    #[inline(always)]
    fn sar<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        words!(i => (word(a[i]).cast_signed() >> BY).cast_unsigned())
    }

    #[inline(always)]
    fn shl<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        words!(i => word(a[i]) << BY)
    }

    #[inline(always)]
    fn sub_bytes(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        let mut out = a;
        for (out, b) in out.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
            *out = out.wrapping_sub(*b);
        }
        out
    }

    #[inline(always)]
    fn sub_words(self, a: Self::Bits, b: Self::Bits) -> Self::Bits {
        words!(i => word(a[i]).wrapping_sub(word(b[i])))
    }

    #[inline(always)]
    fn lookup(self, table: &[i8; 16], index: Self::Bits) -> Self::Bits {
        index.map(|bytes| bytes.map(|byte| table[usize::from(byte)].cast_unsigned()))
    }

    #[inline(always)]
    fn spread<const QUAD: usize>(self, words: Self::Bits, value: u8) -> Self::Bits {
        let mut out = words;
        for row in 0..LANES {
            for byte in 0..4 {
                let bit = word(words[row]) >> (4 * QUAD + byte) & 1;
                out[row][byte] = if bit == 1 { value } else { 0 };
            }
        }
        out
    }

    #[inline(always)]
    fn add_bytes(self, sums: Self::Bits, bytes: Self::Bits) -> Self::Bits {
        let sum = |bytes: [u8; 4]| bytes.iter().map(|byte| i32::from(byte.cast_signed())).sum();
        let sum = |bytes| -> i32 { sum(bytes) };
        words!(i => word(sums[i]).wrapping_add(sum(bytes[i]).cast_unsigned()))
    }

    #[inline(always)]
    fn to_floats(self, words: Self::Bits) -> Self::F32 {
        lanes!(i => word(words[i]).cast_signed() as f32)
    }

    #[inline(always)]
    fn f16s(self, words: Self::Bits) -> Self::F32 {
        lanes!(i => f16_to_f32([words[i][0], words[i][1]]))
    }

    #[inline(always)]
    fn words(self, rows: [[u8; 4]; LANES]) -> Self::Bits {
        rows
    }

    #[inline(always)]
    fn columns4(self, rows: [&[u8; 16]; LANES]) -> [Self::Bits; 4] {
        columns(rows)
    }

    #[inline(always)]
    fn columns8(self, rows: [&[u8; 32]; LANES]) -> [Self::Bits; 8] {
        columns(rows)
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        f16_to_f32(bits.to_le_bytes())
    }

    #[inline(always)]
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
        for (row, values) in rows.iter().enumerate() {
            for (column, value) in columns.iter_mut().zip(values) {
                column[row] = *value;
            }
        }
    }
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// `N` bytes of each row as columns of four.
#[inline(always)]
fn columns<const N: usize, const C: usize>(rows: [&[u8; N]; LANES]) -> [[[u8; 4]; LANES]; C] {
    let mut columns = [[[0; 4]; LANES]; C];
    for (row, bytes) in rows.iter().enumerate() {
        for (column, quad) in columns.iter_mut().zip(bytes.as_chunks().0) {
            column[row] = *quad;
        }
    }
    columns
}
