//! AVX-512 with VNNI: 16 rows of weights in one register, a quad of columns an instruction.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to each 32-bit lane without
//! saturating. The activations are the unsigned side, with an offset of 128; the accumulator starts
//! at -128 times the weights' sum, so that the offset is gone at the end.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::Rows;
use crate::kernels::block::Format;
use crate::kernels::isa::Avx512Vnni;
use crate::kernels::panel::{PanelBlock, ROWS};

/// See [`super::portable::tile`], whose bits these are.
#[inline]
pub(in crate::kernels) fn tile<F: Format, const T: usize>(
    _: Avx512Vnni,
    panel: &[PanelBlock],
    _: PhantomData<F>,
    rows: &Rows<'_, T>,
) -> [[f32; ROWS]; T] {
    // SAFETY: the token exists, so the processor has these features.
    unsafe { run::<F, T>(panel, rows) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn run<F: Format, const T: usize>(panel: &[PanelBlock], rows: &Rows<'_, T>) -> [[f32; ROWS]; T] {
    let mut sums = [_mm512_setzero_ps(); T];
    for (index, block) in panel.iter().enumerate() {
        let mut low = [integers(&block.starts[0]); T];
        for column in 0..if F::HALVES { 4 } else { 8 } {
            let weights = bytes(&block.quads[column]);
            for t in 0..T {
                low[t] = _mm512_dpbusd_epi32(low[t], quad(rows.q[t][index][column]), weights);
            }
        }
        let scales = floats(&block.scales[0]);
        let mut dots = [_mm512_setzero_ps(); T];
        for t in 0..T {
            dots[t] = _mm512_mul_ps(_mm512_cvtepi32_ps(low[t]), scales);
        }
        if F::HALVES {
            let mut high = [integers(&block.starts[1]); T];
            for column in 4..8 {
                let weights = bytes(&block.quads[column]);
                for t in 0..T {
                    high[t] = _mm512_dpbusd_epi32(high[t], quad(rows.q[t][index][column]), weights);
                }
            }
            let scales = floats(&block.scales[1]);
            for t in 0..T {
                dots[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[t]), scales, dots[t]);
            }
        }
        for t in 0..T {
            let d = _mm512_set1_ps(rows.meta[t][index].d);
            sums[t] = _mm512_fmadd_ps(dots[t], d, sums[t]);
        }
        if F::MINIMUM {
            let minimums = floats(&block.minimums[0]);
            for t in 0..T {
                let meta = &rows.meta[t][index];
                let sum = _mm512_set1_ps(if F::HALVES { meta.half_sums[0] } else { meta.sum });
                sums[t] = _mm512_fmadd_ps(minimums, sum, sums[t]);
            }
        }
        if F::MINIMUM && F::HALVES {
            let minimums = floats(&block.minimums[1]);
            for t in 0..T {
                let sum = _mm512_set1_ps(rows.meta[t][index].half_sums[1]);
                sums[t] = _mm512_fmadd_ps(minimums, sum, sums[t]);
            }
        }
        let weights = floats(&block.sums);
        for t in 0..T {
            let m = _mm512_set1_ps(rows.meta[t][index].m);
            sums[t] = _mm512_fmadd_ps(weights, m, sums[t]);
        }
    }
    let mut out = [[0.0; ROWS]; T];
    for t in 0..T {
        // SAFETY: the array is valid for 16 floats, and no alignment is asked for.
        unsafe { _mm512_storeu_ps(out[t].as_mut_ptr(), sums[t]) };
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
