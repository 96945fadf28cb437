//! The lanes as two registers of AVX2.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;

use super::{LANES, Simd};
use crate::kernels::isa::Avx2;

/// Methods that are one instruction for each half.
macro_rules! instructions {
    ($($name:ident($($arg:ident),+) = $instruction:ident;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::F32),+) -> Self::F32 {
                // SAFETY: the token exists, so the processor has AVX2 and FMA.
                let low = unsafe { $instruction($($arg.0),+) };
                // SAFETY: as above.
                let high = unsafe { $instruction($($arg.1),+) };
                (low, high)
            }
        )+
    };
}

/// The same on bits.
macro_rules! bits {
    ($($name:ident($($arg:ident),+) = $instruction:ident;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::Bits),+) -> Self::Bits {
                // SAFETY: the token exists, so the processor has AVX2.
                let low = unsafe { $instruction($($arg.0),+) };
                // SAFETY: as above.
                let high = unsafe { $instruction($($arg.1),+) };
                (low, high)
            }
        )+
    };
}

/// Methods on one half, for the folds.
macro_rules! halves {
    ($($name:ident($a:ident, $b:ident) = $instruction:ident;)+) => {
        $(
            #[inline(always)]
            pub(super) fn $name(self, $a: __m256, $b: __m256) -> __m256 {
                // SAFETY: the token exists, so the processor has AVX2.
                unsafe { $instruction($a, $b) }
            }
        )+
    };
}

/// Folds 8 lanes to one: `i` with `i + 4`, then `i + 2`, `i + 1`.
macro_rules! folds {
    ($($name:ident, $whole:ident, $last:ident;)+) => {
        $(
            #[inline]
            #[target_feature(enable = "avx2")]
            fn $name(value: __m256) -> f32 {
                let (low, high) = (_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
                let four = $whole(low, high);
                let two = $whole(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32($last(two, _mm_movehdup_ps(two)))
            }
        )+
    };
}

folds! {
    fold_add, _mm_add_ps, _mm_add_ss;
    fold_min, _mm_min_ps, _mm_min_ss;
    fold_max, _mm_max_ps, _mm_max_ss;
}

impl Avx2 {
    halves! {
        add8(a, b) = _mm256_add_ps;
        min8(a, b) = _mm256_min_ps;
        max8(a, b) = _mm256_max_ps;
    }

    #[inline(always)]
    pub(super) fn sum8(self, value: __m256) -> f32 {
        // SAFETY: the token exists, so the processor has AVX2.
        unsafe { fold_add(value) }
    }

    #[inline(always)]
    pub(super) fn min_lane8(self, value: __m256) -> f32 {
        // SAFETY: as above.
        unsafe { fold_min(value) }
    }

    #[inline(always)]
    pub(super) fn max_lane8(self, value: __m256) -> f32 {
        // SAFETY: as above.
        unsafe { fold_max(value) }
    }
}

impl Simd for Avx2 {
    type F32 = (__m256, __m256);

    instructions! {
        add(a, b) = _mm256_add_ps;
        sub(a, b) = _mm256_sub_ps;
        mul(a, b) = _mm256_mul_ps;
        div(a, b) = _mm256_div_ps;
        fma(a, b, c) = _mm256_fmadd_ps;
        min(a, b) = _mm256_min_ps;
        max(a, b) = _mm256_max_ps;
        exp2_rounded(value) = exp2_rounded;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: the token exists, so the processor has AVX2.
        let half = unsafe { _mm256_set1_ps(value) };
        (half, half)
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        let (low, high) = from.split_at(LANES / 2);
        // SAFETY: as above; the slice holds 8 floats, and no alignment is asked for.
        let low = unsafe { _mm256_loadu_ps(low.as_ptr()) };
        // SAFETY: as above.
        let high = unsafe { _mm256_loadu_ps(high.as_ptr()) };
        (low, high)
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
        let (low, high) = to.split_at_mut(LANES / 2);
        // SAFETY: as above; the slice holds 8 floats, and no alignment is asked for.
        unsafe { _mm256_storeu_ps(low.as_mut_ptr(), value.0) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(high.as_mut_ptr(), value.1) };
    }

    #[inline(always)]
    fn store_low_bytes(self, value: Self::F32, to: &mut [u8; LANES]) {
        // SAFETY: the token exists, so the processor has AVX2.
        unsafe { store_low_bytes(value.0, value.1, to) }
    }

    #[inline(always)]
    fn sum(self, value: Self::F32) -> f32 {
        self.sum8(self.add8(value.0, value.1))
    }

    #[inline(always)]
    fn min_lane(self, value: Self::F32) -> f32 {
        self.min_lane8(self.min8(value.0, value.1))
    }

    #[inline(always)]
    fn max_lane(self, value: Self::F32) -> f32 {
        self.max_lane8(self.max8(value.0, value.1))
    }

    type Bits = (__m256i, __m256i);

    #[inline(always)]
    fn splat_bits(self, word: u32) -> Self::Bits {
        // SAFETY: the token exists, so the processor has AVX2.
        let half = unsafe { _mm256_set1_epi32(word.cast_signed()) };
        (half, half)
    }

    #[inline(always)]
    fn load_bits(self, from: &[i8; 64]) -> Self::Bits {
        let (low, high) = from.split_at(32);
        // SAFETY: as above; the slice holds 32 bytes, and no alignment is asked for.
        let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
        // SAFETY: as above.
        let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
        (low, high)
    }

    #[inline(always)]
    fn store_bits(self, value: Self::Bits, to: &mut [i8; 64]) {
        let (low, high) = to.split_at_mut(32);
        // SAFETY: as above; the slice holds 32 bytes, and no alignment is asked for.
        unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), value.0) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(high.as_mut_ptr().cast(), value.1) };
    }

    #[inline(always)]
    fn store_words(self, value: Self::Bits, to: &mut [i32; LANES]) {
        let (low, high) = to.split_at_mut(LANES / 2);
        // SAFETY: as above; the slice holds 8 words, and no alignment is asked for.
        unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), value.0) };
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(high.as_mut_ptr().cast(), value.1) };
    }

    bits! {
        and(a, b) = _mm256_and_si256;
        or(a, b) = _mm256_or_si256;
        sub_bytes(a, b) = _mm256_sub_epi8;
        sub_words(a, b) = _mm256_sub_epi32;
        add_bytes(sums, bytes) = add_bytes;
    }

    #[inline(always)]
    fn shr<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: the token exists, so the processor has AVX2.
        let low = unsafe { shr::<BY>(a.0) };
        // SAFETY: as above.
        let high = unsafe { shr::<BY>(a.1) };
        (low, high)
    }

    #[inline(always)]
    fn sar<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        let low = unsafe { sar::<BY>(a.0) };
        // SAFETY: as above.
        let high = unsafe { sar::<BY>(a.1) };
        (low, high)
    }

    #[inline(always)]
    fn shl<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        let low = unsafe { shl::<BY>(a.0) };
        // SAFETY: as above.
        let high = unsafe { shl::<BY>(a.1) };
        (low, high)
    }

    #[inline(always)]
    fn lookup(self, table: &[i8; 16], index: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        let low = unsafe { lookup(table, index.0) };
        // SAFETY: as above.
        let high = unsafe { lookup(table, index.1) };
        (low, high)
    }

    #[inline(always)]
    fn spread<const QUAD: usize>(self, words: Self::Bits, value: u8) -> Self::Bits {
        // SAFETY: as above.
        let low = unsafe { spread::<QUAD>(words.0, value) };
        // SAFETY: as above.
        let high = unsafe { spread::<QUAD>(words.1, value) };
        (low, high)
    }

    #[inline(always)]
    fn to_floats(self, words: Self::Bits) -> Self::F32 {
        // SAFETY: as above.
        let low = unsafe { _mm256_cvtepi32_ps(words.0) };
        // SAFETY: as above.
        let high = unsafe { _mm256_cvtepi32_ps(words.1) };
        (low, high)
    }

    #[inline(always)]
    fn f16s(self, words: Self::Bits) -> Self::F32 {
        // SAFETY: the token exists, so the processor has F16C.
        let low = unsafe { f16s(words.0) };
        // SAFETY: as above.
        let high = unsafe { f16s(words.1) };
        (low, high)
    }

    #[inline(always)]
    fn words(self, rows: [[u8; 4]; LANES]) -> Self::Bits {
        let (low, high) = rows.split_at(LANES / 2);
        // SAFETY: the token exists, so the processor has AVX2.
        let low = unsafe { words(low) };
        // SAFETY: as above.
        let high = unsafe { words(high) };
        (low, high)
    }

    #[inline(always)]
    fn columns4(self, rows: [&[u8; 16]; LANES]) -> [Self::Bits; 4] {
        let (low, high) = rows.split_at(LANES / 2);
        // SAFETY: as above.
        let low = unsafe { columns4(low) };
        // SAFETY: as above.
        let high = unsafe { columns4(high) };
        let mut columns = [(ZERO, ZERO); 4];
        for column in 0..4 {
            columns[column] = (low[column], high[column]);
        }
        columns
    }

    #[inline(always)]
    fn columns8(self, rows: [&[u8; 32]; LANES]) -> [Self::Bits; 8] {
        let (low, high) = rows.split_at(LANES / 2);
        // SAFETY: as above.
        let low = unsafe { columns8(low) };
        // SAFETY: as above.
        let high = unsafe { columns8(high) };
        let mut columns = [(ZERO, ZERO); 8];
        for column in 0..8 {
            columns[column] = (low[column], high[column]);
        }
        columns
    }

    #[inline(always)]
    fn f16(self, bits: u16) -> f32 {
        // SAFETY: the token exists, so the processor has F16C.
        unsafe { f16(bits) }
    }

    #[inline(always)]
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
        for half in 0..2 {
            let mut from = [ZERO; 8];
            for (from, row) in from.iter_mut().zip(&rows[8 * half..]) {
                // SAFETY: the token exists, so the processor has AVX2; the reference is valid for 32
                // bytes, and no alignment is asked for.
                *from = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
            }
            // SAFETY: as above.
            let quads = unsafe { transpose(from) };
            for (column, quad) in columns.iter_mut().zip(quads) {
                let to = &mut column[8 * half..][..8];
                // SAFETY: as above; the slice holds 8 floats, and no alignment is asked for.
                unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), quad) }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn exp2_rounded(value: __m256) -> __m256 {
    let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(value));
    _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(0x3f80_0000)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn store_low_bytes(low: __m256, high: __m256, to: &mut [u8; LANES]) {
    let mask = _mm256_set1_epi32(0xff);
    let low = _mm256_and_si256(_mm256_castps_si256(low), mask);
    let high = _mm256_and_si256(_mm256_castps_si256(high), mask);
    // Packing works in halves of 128 bits: 0-3 8-11 | 4-7 12-15, then in quads the right way round.
    let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(low, high));
    let bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn f16(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// A register of zeros, before it is loaded.
// SAFETY: all bits zero are a value of every integer vector.
const ZERO: __m256i = unsafe { std::mem::zeroed() };

/// Transposes 8 rows of 8 quads of bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    // Pairs of rows, then pairs of pairs, within halves of 128 bits; then halves change places.
    let mut pairs = [ZERO; 8];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = [ZERO; 8];
    for i in 0..2 {
        for j in 0..2 {
            let (a, b) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
            fours[4 * i + 2 * j] = _mm256_unpacklo_epi64(a, b);
            fours[4 * i + 2 * j + 1] = _mm256_unpackhi_epi64(a, b);
        }
    }
    let mut columns = [ZERO; 8];
    for column in 0..4 {
        let (a, b) = (fours[column], fours[4 + column]);
        columns[column] = _mm256_permute2x128_si256::<0x20>(a, b);
        columns[4 + column] = _mm256_permute2x128_si256::<0x31>(a, b);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx2")]
fn shr<const BY: u32>(a: __m256i) -> __m256i {
    _mm256_srl_epi32(a, _mm_cvtsi32_si128(BY.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sar<const BY: u32>(a: __m256i) -> __m256i {
    _mm256_sra_epi32(a, _mm_cvtsi32_si128(BY.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2")]
fn shl<const BY: u32>(a: __m256i) -> __m256i {
    _mm256_sll_epi32(a, _mm_cvtsi32_si128(BY.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_bytes(sums: __m256i, bytes: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), bytes);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn lookup(table: &[i8; 16], index: __m256i) -> __m256i {
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index)
}

#[inline]
#[target_feature(enable = "avx2")]
fn spread<const QUAD: usize>(words: __m256i, value: u8) -> __m256i {
    // The byte that holds the quad's bits, four times in each word.
    let byte = (QUAD / 2) as i32 * 0x0101_0101;
    let places = _mm_add_epi32(
        _mm_set1_epi32(byte),
        _mm_set_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0),
    );
    let bits = _mm256_set1_epi32(if QUAD.is_multiple_of(2) {
        0x0804_0201
    } else {
        0x8040_2010_u32 as i32
    });
    let bytes = _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(places));
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
    _mm256_and_si256(set, _mm256_set1_epi8(value.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn f16s(words: __m256i) -> __m256 {
    // What is above a half is cut off first, because packing saturates.
    let halves = _mm256_and_si256(words, _mm256_set1_epi32(0xffff));
    let packed = _mm256_packus_epi32(halves, halves);
    let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(packed);
    _mm256_cvtph_ps(_mm256_castsi256_si128(packed))
}

#[inline]
#[target_feature(enable = "avx2")]
fn words(rows: &[[u8; 4]]) -> __m256i {
    let word = |row: usize| i32::from_le_bytes(rows[row]);
    _mm256_set_epi32(word(7), word(6), word(5), word(4), word(3), word(2), word(1), word(0))
}

/// 8 rows of 16 bytes, turned to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn columns4(rows: &[&[u8; 16]]) -> [__m256i; 4] {
    let mut from = [ZERO; 4];
    for (row, from) in from.iter_mut().enumerate() {
        // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
        let low = unsafe { _mm_loadu_si128(rows[row].as_ptr().cast()) };
        // SAFETY: as above.
        let high = unsafe { _mm_loadu_si128(rows[4 + row].as_ptr().cast()) };
        *from = _mm256_set_m128i(high, low);
    }
    let [a, b, c, d] = from;
    let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let (low2, high2) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
    [
        _mm256_unpacklo_epi64(low, low2),
        _mm256_unpackhi_epi64(low, low2),
        _mm256_unpacklo_epi64(high, high2),
        _mm256_unpackhi_epi64(high, high2),
    ]
}

/// 8 rows of 32 bytes, turned to columns.
#[inline]
#[target_feature(enable = "avx2")]
fn columns8(rows: &[&[u8; 32]]) -> [__m256i; 8] {
    let mut from = [ZERO; 8];
    for (from, row) in from.iter_mut().zip(rows) {
        // SAFETY: the reference is valid for 32 bytes, and no alignment is asked for.
        *from = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
    }
    transpose(from)
}
