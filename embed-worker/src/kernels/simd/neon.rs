//! The lanes as four registers of NEON.
//!
//! NEON belongs to every aarch64, so that the compiler has it switched on in all code; but it wants
//! the proof nevertheless.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::aarch64::*;

use super::{LANES, Simd};
use crate::kernels::isa::Neon;

/// `$function` of each of four registers.
macro_rules! each {
    ($function:expr, $($arg:expr),+) => {
        [
            $function($($arg[0]),+),
            $function($($arg[1]),+),
            $function($($arg[2]),+),
            $function($($arg[3]),+),
        ]
    };
}

/// Methods that are one function of each register.
macro_rules! methods {
    ($($name:ident$([$by:ident])?($($arg:ident: $from:ty),+) -> $to:ty = $function:expr;)+) => {
        $(
            #[inline(always)]
            fn $name$(<const $by: u32>)?(self, $($arg: [$from; 4]),+) -> [$to; 4] {
                #[inline]
                #[target_feature(enable = "neon")]
                fn four$(<const $by: u32>)?($($arg: [$from; 4]),+) -> [$to; 4] {
                    each!($function, $($arg),+)
                }
                // SAFETY: the token exists, so the processor has NEON.
                unsafe { four$(::<$by>)?($($arg),+) }
            }
        )+
    };
}

/// Functions that fold 16 lanes to one: `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
macro_rules! folds {
    ($($name:ident = $of_four:ident, $of_two:ident;)+) => {
        $(
            #[inline]
            #[target_feature(enable = "neon")]
            fn $name([a, b, c, d]: [float32x4_t; 4]) -> f32 {
                let four = $of_four($of_four(a, c), $of_four(b, d));
                let two = $of_two(vget_low_f32(four), vget_high_f32(four));
                vget_lane_f32::<0>($of_two(two, vdup_lane_f32::<1>(two)))
            }
        )+
    };
}

folds! {
    sum = vaddq_f32, vadd_f32;
    min_lane = min, min_of_two;
    max_lane = max, max_of_two;
}

/// Functions that do the same to each of 16 vectors: four of them side by side, once they are folded
/// to four lanes.
macro_rules! folds_of_16 {
    ($($name:ident = $of_four:ident;)+) => {
        $(
            #[inline]
            #[target_feature(enable = "neon")]
            fn $name(vectors: &[[float32x4_t; 4]; LANES]) -> [float32x4_t; 4] {
                let mut out = [vdupq_n_f32(0.0); 4];
                for (out, vectors) in out.iter_mut().zip(vectors.as_chunks::<4>().0) {
                    let mut fours = [vdupq_n_u32(0); 4];
                    for (four, [a, b, c, d]) in fours.iter_mut().zip(*vectors) {
                        *four = vreinterpretq_u32_f32($of_four($of_four(a, c), $of_four(b, d)));
                    }
                    let fours = turn(fours);
                    let [a, b, c, d] = each!(vreinterpretq_f32_u32, fours);
                    *out = $of_four($of_four(a, c), $of_four(b, d));
                }
                out
            }
        )+
    };
}

folds_of_16! {
    sums = vaddq_f32;
    max_lanes = max;
}

impl Simd for Neon {
    type F32 = [float32x4_t; 4];
    type Bits = [uint32x4_t; 4];

    methods! {
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32;
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32;
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32;
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32;
        fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = fma;
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = min;
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = max;
        exp2_rounded(value: float32x4_t) -> float32x4_t = exp2_rounded;
        and(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vandq_u32;
        or(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vorrq_u32;
        shr[BY](a: uint32x4_t) -> uint32x4_t = shr::<BY>;
        sar[BY](a: uint32x4_t) -> uint32x4_t = sar::<BY>;
        shl[BY](a: uint32x4_t) -> uint32x4_t = shl::<BY>;
        sub_bytes(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = sub_bytes;
        sub_words(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = vsubq_u32;
        add_bytes(sums: uint32x4_t, bytes: uint32x4_t) -> uint32x4_t = add_bytes;
        to_floats(words: uint32x4_t) -> float32x4_t = to_floats;
        f16s(words: uint32x4_t) -> float32x4_t = f16s;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: the token exists, so the processor has NEON.
        [unsafe { vdupq_n_f32(value) }; 4]
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        // SAFETY: as above.
        unsafe { load(from) }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
        // SAFETY: as above.
        unsafe { store(value, to) }
    }

    #[inline(always)]
    fn store_low_bytes(self, value: Self::F32, to: &mut [u8; LANES]) {
        // SAFETY: as above.
        unsafe { store_low_bytes(value, to) }
    }

    #[inline(always)]
    fn sum(self, value: Self::F32) -> f32 {
        // SAFETY: as above.
        unsafe { sum(value) }
    }

    #[inline(always)]
    fn min_lane(self, value: Self::F32) -> f32 {
        // SAFETY: as above.
        unsafe { min_lane(value) }
    }

    #[inline(always)]
    fn max_lane(self, value: Self::F32) -> f32 {
        // SAFETY: as above.
        unsafe { max_lane(value) }
    }

    #[inline(always)]
    fn sums(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        // SAFETY: as above.
        unsafe { sums(vectors) }
    }

    #[inline(always)]
    fn max_lanes(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        // SAFETY: as above.
        unsafe { max_lanes(vectors) }
    }

    #[inline(always)]
    fn splat_bits(self, word: u32) -> Self::Bits {
        // SAFETY: as above.
        [unsafe { vdupq_n_u32(word) }; 4]
    }

    #[inline(always)]
    fn load_bits(self, from: &[i8; 64]) -> Self::Bits {
        // SAFETY: as above.
        unsafe { load_bits(from) }
    }

    #[inline(always)]
    fn store_bits(self, value: Self::Bits, to: &mut [i8; 64]) {
        // SAFETY: as above.
        unsafe { store_bits(value, to) }
    }

    #[inline(always)]
    fn store_words(self, value: Self::Bits, to: &mut [i32; LANES]) {
        // SAFETY: as above.
        unsafe { store_words(value, to) }
    }

    #[inline(always)]
    fn lookup(self, table: &[i8; 16], index: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        unsafe { lookup(table, index) }
    }

    #[inline(always)]
    fn spread<const QUAD: usize>(self, words: Self::Bits, value: u8) -> Self::Bits {
        // SAFETY: as above.
        unsafe { spread::<QUAD>(words, value) }
    }

    #[inline(always)]
    fn words(self, rows: [[u8; 4]; LANES]) -> Self::Bits {
        // SAFETY: as above.
        unsafe { words(rows) }
    }

    #[inline(always)]
    fn columns4(self, rows: [&[u8; 16]; LANES]) -> [Self::Bits; 4] {
        // SAFETY: as above.
        unsafe { columns4(rows) }
    }

    #[inline(always)]
    fn columns8(self, rows: [&[u8; 32]; LANES]) -> [Self::Bits; 8] {
        // SAFETY: as above.
        unsafe { columns8(rows) }
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        // SAFETY: as above.
        unsafe { f16(bits) }
    }

    #[inline(always)]
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
        // SAFETY: as above.
        unsafe { interleave_floats(rows, columns) }
    }
}

/// Four registers from memory.
#[inline]
#[target_feature(enable = "neon")]
fn load(from: &[f32; LANES]) -> [float32x4_t; 4] {
    let (from, _) = from.as_chunks::<4>();
    [load_floats(&from[0]), load_floats(&from[1]), load_floats(&from[2]), load_floats(&from[3])]
}

#[inline]
#[target_feature(enable = "neon")]
fn load_floats(from: &[f32; 4]) -> float32x4_t {
    // SAFETY: the reference is valid for 4 floats, and no alignment is asked for.
    unsafe { vld1q_f32(from.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(value: [float32x4_t; 4], to: &mut [f32; LANES]) {
    for (value, to) in value.into_iter().zip(to.as_chunks_mut().0) {
        store_floats(value, to);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_floats(value: float32x4_t, to: &mut [f32; 4]) {
    // SAFETY: the reference is valid for 4 floats, and no alignment is asked for.
    unsafe { vst1q_f32(to.as_mut_ptr(), value) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_low_bytes(value: [float32x4_t; 4], to: &mut [u8; LANES]) {
    // Every other half word, then every other byte.
    let [a, b, c, d] = each!(vreinterpretq_u16_f32, value);
    let (low, high) = (vuzp1q_u16(a, b), vuzp1q_u16(c, d));
    let bytes = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    unsafe { vst1q_u8(to.as_mut_ptr(), bytes) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bits(from: &[i8; 64]) -> [uint32x4_t; 4] {
    let (from, _) = from.as_chunks::<16>();
    [load_signed(&from[0]), load_signed(&from[1]), load_signed(&from[2]), load_signed(&from[3])]
}

#[inline]
#[target_feature(enable = "neon")]
fn load_signed(from: &[i8; 16]) -> uint32x4_t {
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    vreinterpretq_u32_s8(unsafe { vld1q_s8(from.as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn load_bytes(from: &[u8; 16]) -> uint32x4_t {
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    vreinterpretq_u32_u8(unsafe { vld1q_u8(from.as_ptr()) })
}

#[inline]
#[target_feature(enable = "neon")]
fn store_bits(value: [uint32x4_t; 4], to: &mut [i8; 64]) {
    for (value, to) in value.into_iter().zip(to.as_chunks_mut::<16>().0) {
        let bytes = vreinterpretq_s8_u32(value);
        // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
        unsafe { vst1q_s8(to.as_mut_ptr(), bytes) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn store_words(value: [uint32x4_t; 4], to: &mut [i32; LANES]) {
    for (value, to) in value.into_iter().zip(to.as_chunks_mut::<4>().0) {
        let words = vreinterpretq_s32_u32(value);
        // SAFETY: the reference is valid for 4 words, and no alignment is asked for.
        unsafe { vst1q_s32(to.as_mut_ptr(), words) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    vfmaq_f32(c, a, b)
}

/// Not `vminq_f32`, which gives NaN where either is NaN.
#[inline]
#[target_feature(enable = "neon")]
fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn min_of_two(a: float32x2_t, b: float32x2_t) -> float32x2_t {
    vbsl_f32(vclt_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn max_of_two(a: float32x2_t, b: float32x2_t) -> float32x2_t {
    vbsl_f32(vcgt_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn exp2_rounded(value: float32x4_t) -> float32x4_t {
    let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(value));
    vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(0x3f80_0000)))
}

/// A shift to the left by a negative number is one to the right.
#[inline]
#[target_feature(enable = "neon")]
fn shr<const BY: u32>(a: uint32x4_t) -> uint32x4_t {
    vshlq_u32(a, vdupq_n_s32(-BY.cast_signed()))
}

#[inline]
#[target_feature(enable = "neon")]
fn sar<const BY: u32>(a: uint32x4_t) -> uint32x4_t {
    let shifted = vshlq_s32(vreinterpretq_s32_u32(a), vdupq_n_s32(-BY.cast_signed()));
    vreinterpretq_u32_s32(shifted)
}

#[inline]
#[target_feature(enable = "neon")]
fn shl<const BY: u32>(a: uint32x4_t) -> uint32x4_t {
    vshlq_u32(a, vdupq_n_s32(BY.cast_signed()))
}

#[inline]
#[target_feature(enable = "neon")]
fn sub_bytes(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
    vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn add_bytes(sums: uint32x4_t, bytes: uint32x4_t) -> uint32x4_t {
    let pairs = vpaddlq_s8(vreinterpretq_s8_u32(bytes));
    vreinterpretq_u32_s32(vpadalq_s16(vreinterpretq_s32_u32(sums), pairs))
}

#[inline]
#[target_feature(enable = "neon")]
fn to_floats(words: uint32x4_t) -> float32x4_t {
    vcvtq_f32_s32(vreinterpretq_s32_u32(words))
}

#[inline]
#[target_feature(enable = "neon")]
fn f16s(words: uint32x4_t) -> float32x4_t {
    vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(words)))
}

#[inline]
#[target_feature(enable = "neon")]
fn f16(bits: u16) -> f32 {
    vgetq_lane_f32::<0>(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))))
}

#[inline]
#[target_feature(enable = "neon")]
fn lookup(table: &[i8; 16], index: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    let table = vreinterpretq_u8_u32(load_signed(table));
    let mut out = index;
    for out in &mut out {
        *out = vreinterpretq_u32_u8(vqtbl1q_u8(table, vreinterpretq_u8_u32(*out)));
    }
    out
}

#[inline]
#[target_feature(enable = "neon")]
fn spread<const QUAD: usize>(words: [uint32x4_t; 4], value: u8) -> [uint32x4_t; 4] {
    // The byte that holds the quad's bits, four times in each word.
    let starts = load_bytes(&[0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]);
    let places = vorrq_u8(vreinterpretq_u8_u32(starts), vdupq_n_u8((QUAD / 2) as u8));
    let bits = vdupq_n_u32(if QUAD.is_multiple_of(2) { 0x0804_0201 } else { 0x8040_2010 });
    let mut out = words;
    for out in &mut out {
        let bytes = vqtbl1q_u8(vreinterpretq_u8_u32(*out), places);
        let set = vtstq_u8(bytes, vreinterpretq_u8_u32(bits));
        *out = vreinterpretq_u32_u8(vandq_u8(set, vdupq_n_u8(value)));
    }
    out
}

#[inline]
#[target_feature(enable = "neon")]
fn words(rows: [[u8; 4]; LANES]) -> [uint32x4_t; 4] {
    let mut out = [vdupq_n_u32(0); 4];
    for (out, rows) in out.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = rows.map(u32::from_le_bytes);
        let words = vsetq_lane_u32::<1>(b, vdupq_n_u32(a));
        *out = vsetq_lane_u32::<3>(d, vsetq_lane_u32::<2>(c, words));
    }
    out
}

/// 16 rows of 16 bytes, turned to columns.
#[inline]
#[target_feature(enable = "neon")]
fn columns4(rows: [&[u8; 16]; LANES]) -> [[uint32x4_t; 4]; 4] {
    let mut columns = [[vdupq_n_u32(0); 4]; 4];
    for (four, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
        let turned = turn(each!(load_bytes, rows));
        for column in 0..4 {
            columns[column][four] = turned[column];
        }
    }
    columns
}

/// 16 rows of 32 bytes, turned to columns.
#[inline]
#[target_feature(enable = "neon")]
fn columns8(rows: [&[u8; 32]; LANES]) -> [[uint32x4_t; 4]; 8] {
    let (mut low, mut high) = ([&[0; 16]; LANES], [&[0; 16]; LANES]);
    for row in 0..LANES {
        let (halves, _) = rows[row].as_chunks();
        (low[row], high[row]) = (&halves[0], &halves[1]);
    }
    let [a, b, c, d] = columns4(low);
    let [e, f, g, h] = columns4(high);
    [a, b, c, d, e, f, g, h]
}

#[inline]
#[target_feature(enable = "neon")]
fn interleave_floats(rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
    for (four, rows) in rows.as_chunks::<4>().0.iter().enumerate() {
        for half in 0..2 {
            let mut from = [vdupq_n_u32(0); 4];
            for row in 0..4 {
                let (halves, _) = rows[row].as_chunks();
                from[row] = vreinterpretq_u32_f32(load_floats(&halves[half]));
            }
            let turned = turn(from);
            for column in 0..4 {
                let (to, _) = columns[4 * half + column].as_chunks_mut();
                store_floats(vreinterpretq_f32_u32(turned[column]), &mut to[four]);
            }
        }
    }
}

/// Transposes 4 rows of 4 words.
#[inline]
#[target_feature(enable = "neon")]
fn turn([a, b, c, d]: [uint32x4_t; 4]) -> [uint32x4_t; 4] {
    // Columns 0 and 2 of two rows side by side, and columns 1 and 3.
    let (even, odd) = (doubles(vtrn1q_u32(a, b)), doubles(vtrn2q_u32(a, b)));
    let (even2, odd2) = (doubles(vtrn1q_u32(c, d)), doubles(vtrn2q_u32(c, d)));
    [
        vreinterpretq_u32_u64(vtrn1q_u64(even, even2)),
        vreinterpretq_u32_u64(vtrn1q_u64(odd, odd2)),
        vreinterpretq_u32_u64(vtrn2q_u64(even, even2)),
        vreinterpretq_u32_u64(vtrn2q_u64(odd, odd2)),
    ]
}

#[inline]
#[target_feature(enable = "neon")]
fn doubles(words: uint32x4_t) -> uint64x2_t {
    vreinterpretq_u64_u32(words)
}
