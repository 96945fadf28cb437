//! The lanes as one register of AVX-512.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;

use super::avx2::transpose;
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
    fn f16(self, bits: u16) -> f32 {
        self.avx2().f16(bits)
    }

    #[inline(always)]
    fn interleave(self, rows: &[[i8; 32]; LANES], columns: &mut [[i8; 64]; 8]) {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { interleave(rows, columns) }
    }

    #[inline(always)]
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]) {
        // SAFETY: the token exists, so the processor has AVX-512.
        unsafe { interleave(rows, columns) }
    }

    #[inline(always)]
    fn quad_sums(self, quads: &[[i8; 64]]) -> [i32; LANES] {
        // SAFETY: the token exists, so the processor has VNNI.
        unsafe { quad_sums(quads) }
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

/// Transposes 16 rows of 8 quads of bytes: `A` is 32 bytes, `B` is 64.
///
/// Rows that were just stored are loaded as they were stored, and columns stored as they are loaded
/// next: a processor hands on what is not in the cache yet only if the sizes are the same.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn interleave<A, B>(rows: &[A; LANES], columns: &mut [B; 8]) {
    const { assert!(size_of::<A>() == 32 && size_of::<B>() == 64) };
    let zero = _mm256_setzero_si256();
    let mut halves = [[zero; 8]; 2];
    for (half, from) in halves.iter_mut().enumerate() {
        for (row, from) in from.iter_mut().enumerate() {
            let bytes = &raw const rows[8 * half + row];
            // SAFETY: `A` has 32 bytes, and no alignment is asked for.
            *from = unsafe { _mm256_loadu_si256(bytes.cast()) };
        }
        *from = transpose(*from);
    }
    for (column, to) in columns.iter_mut().enumerate() {
        let low = _mm512_castsi256_si512(halves[0][column]);
        let value = _mm512_inserti64x4::<1>(low, halves[1][column]);
        // SAFETY: `B` has 64 bytes, and no alignment is asked for.
        unsafe { _mm512_storeu_si512((&raw mut *to).cast(), value) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn quad_sums(quads: &[[i8; 64]]) -> [i32; LANES] {
    let mut sums = _mm512_setzero_si512();
    for quad in quads {
        // SAFETY: the reference is valid for 64 bytes, and no alignment is asked for.
        let quad = unsafe { _mm512_loadu_si512(quad.as_ptr().cast()) };
        sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), quad);
    }
    let mut out = [0; LANES];
    // SAFETY: the array is valid for 16 numbers, and no alignment is asked for.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sums) };
    out
}
