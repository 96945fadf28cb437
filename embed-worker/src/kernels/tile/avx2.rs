//! AVX2: 8 rows of weights in one register, two registers a panel.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs with *saturation* at 16 bits. The
//! weights' magnitudes are the unsigned side, and their signs move over to the activations: |w| is at
//! most 128 and |q| at most 127, so a pair is at most 32,512, below 32,767 even for a hostile -128.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::{Rows, Tile};
use crate::kernels::block::Format;
use crate::kernels::isa::Avx2;
use crate::kernels::panel::{PanelBlock, ROWS};

/// See [`super::portable::tile`], whose bits these are.
#[inline]
pub(super) fn tile<F: Format, const P: usize, const T: usize>(
    _: Avx2,
    panels: [&[PanelBlock]; P],
    _: PhantomData<F>,
    rows: &Rows<'_, T>,
) -> Tile<P, T> {
    let mut out = [[[0.0; ROWS]; T]; P];
    for (out, panel) in out.iter_mut().zip(panels) {
        // SAFETY: the token exists, so the processor has these features.
        *out = unsafe { run::<F, T>(panel, rows) };
    }
    out
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<F: Format, const T: usize>(panel: &[PanelBlock], rows: &Rows<'_, T>) -> [[f32; ROWS]; T] {
    let mut out = [[0.0; ROWS]; T];
    for half_panel in 0..2 {
        let mut sums = [_mm256_setzero_ps(); T];
        for (index, block) in panel.iter().enumerate() {
            let low = dots(block, half_panel, rows, index, 0, if F::HALVES { 4 } else { 8 });
            let scales = floats(&block.scales[0], half_panel);
            let mut dot = [_mm256_setzero_ps(); T];
            for t in 0..T {
                dot[t] = _mm256_mul_ps(_mm256_cvtepi32_ps(low[t]), scales);
            }
            if F::HALVES {
                let high = dots(block, half_panel, rows, index, 4, 8);
                let scales = floats(&block.scales[1], half_panel);
                for t in 0..T {
                    dot[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high[t]), scales, dot[t]);
                }
            }
            let minimums = [0, 1].map(|half| floats(&block.minimums[half], half_panel));
            let weights = floats(&block.sums, half_panel);
            for t in 0..T {
                let meta = &rows.meta[t][index];
                let mut sum = _mm256_fmadd_ps(dot[t], _mm256_set1_ps(meta.d), sums[t]);
                if F::MINIMUM && F::HALVES {
                    sum = _mm256_fmadd_ps(minimums[0], _mm256_set1_ps(meta.half_sums[0]), sum);
                    sum = _mm256_fmadd_ps(minimums[1], _mm256_set1_ps(meta.half_sums[1]), sum);
                } else if F::MINIMUM {
                    sum = _mm256_fmadd_ps(minimums[0], _mm256_set1_ps(meta.sum), sum);
                }
                sums[t] = _mm256_fmadd_ps(weights, _mm256_set1_ps(meta.m), sum);
            }
        }
        for t in 0..T {
            let to = &mut out[t][8 * half_panel..][..8];
            // SAFETY: the slice holds 8 floats, and no alignment is asked for.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr(), sums[t]) };
        }
    }
    out
}

/// The integer dots of quads `from..to` of block `index`.
#[inline]
#[target_feature(enable = "avx2")]
fn dots<const T: usize>(
    block: &PanelBlock,
    half_panel: usize,
    rows: &Rows<'_, T>,
    index: usize,
    from: usize,
    to: usize,
) -> [__m256i; T] {
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); T];
    for column in from..to {
        let weights = bytes(&block.quads[column], half_panel);
        let magnitudes = _mm256_abs_epi8(weights);
        for t in 0..T {
            let q = _mm256_set1_epi32(i32::from_le_bytes(rows.q[t][index][column]));
            let pairs = _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(q, weights));
            dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(pairs, ones));
        }
    }
    dots
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(quad: &[i8; 64], half_panel: usize) -> __m256i {
    let half = &quad[32 * half_panel..][..32];
    // SAFETY: the slice holds 32 bytes, and no alignment is asked for.
    unsafe { _mm256_loadu_si256(half.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn floats(values: &[f32; ROWS], half_panel: usize) -> __m256 {
    let half = &values[8 * half_panel..][..8];
    // SAFETY: the slice holds 8 floats, and no alignment is asked for.
    unsafe { _mm256_loadu_ps(half.as_ptr()) }
}
