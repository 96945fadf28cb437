//! The lanes as one register of AVX-512.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;

use super::{LANES, Simd};
use crate::kernels::isa::{Avx2, Avx512Vnni};

/// Methods that are one instruction each.
macro_rules! instructions {
    ($($name:ident($($arg:ident),+) = $instruction:ident;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($arg: Self::F32),+) -> Self::F32 {
                // SAFETY: the token exists, so the processor has AVX-512.
                unsafe { $instruction($($arg),+) }
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
                // SAFETY: the token exists, so the processor has AVX-512.
                unsafe { $instruction($($arg),+) }
            }
        )+
    };
}

impl Simd for Avx512Vnni {
    type F32 = __m512;

    instructions! {
        add(a, b) = _mm512_add_ps;
        sub(a, b) = _mm512_sub_ps;
        mul(a, b) = _mm512_mul_ps;
        div(a, b) = _mm512_div_ps;
        fma(a, b, c) = _mm512_fmadd_ps;
        min(a, b) = _mm512_min_ps;
        max(a, b) = _mm512_max_ps;
        exp2_rounded(value) = exp2_rounded;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F32 {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F32 {
        // SAFETY: as above; the reference is valid for 16 floats, and no alignment is asked for.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: Self::F32, to: &mut [f32; LANES]) {
        // SAFETY: as above; the reference is valid for 16 floats, and no alignment is asked for.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn store_low_bytes(self, value: Self::F32, to: &mut [u8; LANES]) {
        // SAFETY: as above; the reference is valid for 16 bytes.
        unsafe { store_low_bytes(value, to) }
    }

    #[inline(always)]
    fn sum(self, value: Self::F32) -> f32 {
        // SAFETY: the token exists, so the processor has AVX-512.
        let (low, high) = unsafe { halves(value) };
        self.avx2().sum8(self.avx2().add8(low, high))
    }

    #[inline(always)]
    fn min_lane(self, value: Self::F32) -> f32 {
        // SAFETY: the token exists, so the processor has AVX-512.
        let (low, high) = unsafe { halves(value) };
        self.avx2().min_lane8(self.avx2().min8(low, high))
    }

    #[inline(always)]
    fn max_lane(self, value: Self::F32) -> f32 {
        // SAFETY: the token exists, so the processor has AVX-512.
        let (low, high) = unsafe { halves(value) };
        self.avx2().max_lane8(self.avx2().max8(low, high))
    }

    #[inline(always)]
    fn sums(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { fold_sums(vectors) }
    }

    #[inline(always)]
    fn max_lanes(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        // SAFETY: as above.
        unsafe { fold_max(vectors) }
    }

    type Bits = __m512i;

    #[inline(always)]
    fn splat_bits(self, word: u32) -> Self::Bits {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn load_bits(self, from: &[i8; 64]) -> Self::Bits {
        // SAFETY: as above; the reference is valid for 64 bytes, and no alignment is asked for.
        unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_bits(self, value: Self::Bits, to: &mut [i8; 64]) {
        // SAFETY: as above; the reference is valid for 64 bytes, and no alignment is asked for.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }

    #[inline(always)]
    fn store_words(self, value: Self::Bits, to: &mut [i32; LANES]) {
        // SAFETY: as above; the reference is valid for 64 bytes, and no alignment is asked for.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
    }

    bits! {
        and(a, b) = _mm512_and_si512;
        or(a, b) = _mm512_or_si512;
        sub_bytes(a, b) = _mm512_sub_epi8;
        sub_words(a, b) = _mm512_sub_epi32;
        add_bytes(sums, bytes) = add_bytes;
    }

    #[inline(always)]
    fn shr<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { _mm512_srli_epi32::<BY>(a) }
    }

    #[inline(always)]
    fn sar<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        unsafe { _mm512_srai_epi32::<BY>(a) }
    }

    #[inline(always)]
    fn shl<const BY: u32>(self, a: Self::Bits) -> Self::Bits {
        // SAFETY: as above.
        unsafe { _mm512_slli_epi32::<BY>(a) }
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
    fn to_floats(self, words: Self::Bits) -> Self::F32 {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(words) }
    }

    #[inline(always)]
    fn f16s(self, words: Self::Bits) -> Self::F32 {
        // SAFETY: as above.
        unsafe { f16s(words) }
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
        self.avx2().f16(bits)
    }

    #[inline(always)]
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
        self.avx2().interleave_floats(rows, columns);
    }
}

impl Avx512Vnni {
    /// The smaller set, which every processor with this one has.
    #[inline(always)]
    fn avx2(self) -> Avx2 {
        self.0
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn exp2_rounded(value: __m512) -> __m512 {
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(value));
    _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f80_0000)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_low_bytes(value: __m512, to: &mut [u8; LANES]) {
    let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(value));
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), bytes) }
}

/// Lanes 0 to 7 and 8 to 15.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn halves(value: __m512) -> (__m256, __m256) {
    (_mm512_castps512_ps256(value), _mm512_extractf32x8_ps::<1>(value))
}

/// Folds 16 vectors to one lane each: as many vectors side by side as lanes have been folded.
macro_rules! folds {
    ($($name:ident, $op:ident;)+) => {
        $(
            #[inline]
            #[target_feature(enable = "avx512f")]
            fn $name(vectors: &[__m512; LANES]) -> __m512 {
                let mut eight = [_mm512_setzero_ps(); 8];
                for i in 0..8 {
                    // Vectors i and i + 8: lanes 0 to 7 of the fold are those of the first.
                    let (a, b) = (vectors[i], vectors[i + 8]);
                    let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                    let high = _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b);
                    eight[i] = $op(low, high);
                }
                let mut four = [_mm512_setzero_ps(); 4];
                for i in 0..4 {
                    // Four lanes of vectors i, i + 8, i + 4, i + 12.
                    let (a, b) = (eight[i], eight[i + 4]);
                    let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                    let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                    four[i] = $op(low, high);
                }
                let mut two = [_mm512_setzero_ps(); 2];
                for i in 0..2 {
                    let (a, b) = (four[i], four[i + 2]);
                    let low = _mm512_shuffle_ps::<0b01_00_01_00>(a, b);
                    let high = _mm512_shuffle_ps::<0b11_10_11_10>(a, b);
                    two[i] = $op(low, high);
                }
                let low = _mm512_shuffle_ps::<0b10_00_10_00>(two[0], two[1]);
                let high = _mm512_shuffle_ps::<0b11_01_11_01>(two[0], two[1]);
                // Lanes of 128 bits hold 0 2 1 3, then the same plus 8, plus 4, plus 12.
                let order =
                    _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
                _mm512_permutexvar_ps(order, $op(low, high))
            }
        )+
    };
}

folds! {
    fold_sums, _mm512_add_ps;
    fold_max, _mm512_max_ps;
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_bytes(sums: __m512i, bytes: __m512i) -> __m512i {
    _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), bytes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn lookup(table: &[i8; 16], index: __m512i) -> __m512i {
    // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
    let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
    _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), index)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn spread<const QUAD: usize>(words: __m512i, value: u8) -> __m512i {
    // The byte that holds the quad's bits, four times in each word.
    let byte = (QUAD / 2) as i32 * 0x0101_0101;
    let places = _mm_add_epi32(
        _mm_set1_epi32(byte),
        _mm_set_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0),
    );
    let bits = _mm512_set1_epi32(if QUAD.is_multiple_of(2) {
        0x0804_0201
    } else {
        0x8040_2010_u32 as i32
    });
    let bytes = _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(places));
    let set = _mm512_test_epi8_mask(bytes, bits);
    _mm512_maskz_mov_epi8(set, _mm512_set1_epi8(value.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn f16s(words: __m512i) -> __m512 {
    _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words))
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn words(rows: [[u8; 4]; LANES]) -> __m512i {
    let mut fours = [_mm_setzero_si128(); 4];
    for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
        let [a, b, c, d] = rows.map(i32::from_le_bytes);
        *four = _mm_set_epi32(d, c, b, a);
    }
    join(fours)
}

/// Four registers of 128 bits as one.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn join([a, b, c, d]: [__m128i; 4]) -> __m512i {
    let (low, high) = (_mm256_set_m128i(b, a), _mm256_set_m128i(d, c));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn columns4(rows: [&[u8; 16]; LANES]) -> [__m512i; 4] {
    // Rows that are four apart side by side, so that what is turned within 128 bits lies in order.
    let mut from = [_mm512_setzero_si512(); 4];
    for (row, from) in from.iter_mut().enumerate() {
        let mut fours = [_mm_setzero_si128(); 4];
        for (index, four) in fours.iter_mut().enumerate() {
            // SAFETY: the reference is valid for 16 bytes, and no alignment is asked for.
            *four = unsafe { _mm_loadu_si128(rows[4 * index + row].as_ptr().cast()) };
        }
        *from = join(fours);
    }
    turn(from)
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn columns8(rows: [&[u8; 32]; LANES]) -> [__m512i; 8] {
    let mut turned = [[_mm512_setzero_si512(); 4]; 2];
    for (half, turned) in turned.iter_mut().enumerate() {
        let mut from = [_mm512_setzero_si512(); 4];
        for (row, from) in from.iter_mut().enumerate() {
            let [low, high] = [rows[8 * half + row], rows[8 * half + 4 + row]];
            // SAFETY: the reference is valid for 32 bytes, and no alignment is asked for.
            let low = unsafe { _mm256_loadu_si256(low.as_ptr().cast()) };
            // SAFETY: as above.
            let high = unsafe { _mm256_loadu_si256(high.as_ptr().cast()) };
            *from = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
        }
        *turned = turn(from);
    }
    let mut columns = [_mm512_setzero_si512(); 8];
    for column in 0..4 {
        let (a, b) = (turned[0][column], turned[1][column]);
        columns[column] = _mm512_shuffle_i64x2::<0b10_00_10_00>(a, b);
        columns[4 + column] = _mm512_shuffle_i64x2::<0b11_01_11_01>(a, b);
    }
    columns
}

/// Transposes 4 rows of 4 words within each 128 bits.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(low, low2),
        _mm512_unpackhi_epi64(low, low2),
        _mm512_unpacklo_epi64(high, high2),
        _mm512_unpackhi_epi64(high, high2),
    ]
}
