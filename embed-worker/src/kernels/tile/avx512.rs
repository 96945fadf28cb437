//! AVX-512 with VNNI: 16 rows of weights in one register, a quad of columns an instruction.
//!
//! Two panels at once, so that an activation which is broadcast from memory serves two dots: the
//! load units would else be as busy as the multipliers.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to each 32-bit lane without
//! saturating. The activations are the unsigned side, with an offset of 128; the accumulator starts
//! at -128 times the weights' sum, so that the offset is gone at the end.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Rows, Tile};
use crate::kernels::block::Format;
use crate::kernels::isa::Avx512Vnni;
use crate::kernels::panel::{PanelBlock, ROWS};

/// See [`super::portable::tile`], whose bits these are.
#[inline]
pub(super) fn tile<F: Format, const P: usize, const T: usize>(
    _: Avx512Vnni,
    panels: [&[PanelBlock]; P],
    _: PhantomData<F>,
    rows: &Rows<'_, T>,
) -> Tile<P, T> {
    // SAFETY: the token exists, so the processor has these features.
    unsafe { run::<F, P, T>(panels, rows) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn run<F: Format, const P: usize, const T: usize>(
    panels: [&[PanelBlock]; P],
    rows: &Rows<'_, T>,
) -> Tile<P, T> {
    let blocks = panels[0].len();
    let mut cut = panels;
    for p in 0..P {
        cut[p] = &panels[p][..blocks];
    }
    let mut sums = [[_mm512_setzero_ps(); T]; P];
    for index in 0..blocks {
        let mut products = [[_mm512_setzero_ps(); T]; P];
        for half in 0..if F::HALVES { 2 } else { 1 } {
            let quads = if F::HALVES { 4 * half..4 * half + 4 } else { 0..8 };
            let mut dots = [[_mm512_setzero_si512(); T]; P];
            for p in 0..P {
                dots[p] = [integers(&cut[p][index].starts[half]); T];
            }
            for column in quads {
                let mut weights = [_mm512_setzero_si512(); P];
                for p in 0..P {
                    weights[p] = bytes(&cut[p][index].quads[column]);
                }
                for t in 0..T {
                    let q = quad(rows.q[t][index][column]);
                    for p in 0..P {
                        dots[p][t] = _mm512_dpbusd_epi32(dots[p][t], q, weights[p]);
                    }
                }
            }
            for p in 0..P {
                let scales = floats(&cut[p][index].scales[half]);
                for t in 0..T {
                    let dot = _mm512_cvtepi32_ps(dots[p][t]);
                    products[p][t] = if half == 0 {
                        _mm512_mul_ps(dot, scales)
                    } else {
                        _mm512_fmadd_ps(dot, scales, products[p][t])
                    };
                }
            }
        }
        for t in 0..T {
            let meta = &rows.meta[t][index];
            let (d, m) = (_mm512_set1_ps(meta.d), _mm512_set1_ps(meta.m));
            for p in 0..P {
                let block = &cut[p][index];
                let mut sum = _mm512_fmadd_ps(products[p][t], d, sums[p][t]);
                if F::MINIMUM && F::HALVES {
                    for half in 0..2 {
                        let of_x = _mm512_set1_ps(meta.half_sums[half]);
                        sum = _mm512_fmadd_ps(floats(&block.minimums[half]), of_x, sum);
                    }
                } else if F::MINIMUM {
                    let of_x = _mm512_set1_ps(meta.sum);
                    sum = _mm512_fmadd_ps(floats(&block.minimums[0]), of_x, sum);
                }
                sums[p][t] = _mm512_fmadd_ps(floats(&block.sums), m, sum);
            }
        }
    }
    let mut out = [[[0.0; ROWS]; T]; P];
    for p in 0..P {
        for t in 0..T {
            // SAFETY: the array is valid for 16 floats, and no alignment is asked for.
            unsafe { _mm512_storeu_ps(out[p][t].as_mut_ptr(), sums[p][t]) };
        }
    }
    out
}

/// Four activations in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn quad(q: [u8; 4]) -> __m512i {
    _mm512_set1_epi32(i32::from_le_bytes(q))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(bytes: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn integers(values: &[i32; ROWS]) -> __m512i {
    // SAFETY: the reference is valid for 16 numbers, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats(values: &[f32; ROWS]) -> __m512 {
    // SAFETY: the reference is valid for 16 floats, and no alignment is asked for.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
