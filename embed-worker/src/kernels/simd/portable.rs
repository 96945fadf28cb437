//! The lanes in plain Rust.

use super::{LANES, Simd};
use crate::kernels::float::f16_to_f32;

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
        lanes!(i => a[i].mul_add(b[i], c[i]))
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

    #[inline(always)]
    fn interleave(self, rows: &[[i8; 32]; LANES], columns: &mut [[i8; 64]; 8]) {
        for (column, quad) in columns.iter_mut().enumerate() {
            for (row, values) in rows.iter().enumerate() {
                quad[4 * row..][..4].copy_from_slice(&values[4 * column..][..4]);
            }
        }
    }

    #[inline(always)]
    fn quad_sums(self, quads: &[[i8; 64]]) -> [i32; LANES] {
        let mut sums = [0; LANES];
        for quad in quads {
            for (row, sum) in sums.iter_mut().enumerate() {
                for value in &quad[4 * row..][..4] {
                    *sum += i32::from(*value);
                }
            }
        }
        sums
    }
}
