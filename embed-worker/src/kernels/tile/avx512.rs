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

use super::{Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::isa::Avx512Vnni;
use crate::kernels::panel::{BLOCKS, PANELS, PanelBlock, ROWS};
use crate::kernels::quantize::{Large, Small};

/// A register for each panel and token.
type Tile<R, const T: usize> = [[R; T]; PANELS];

/// See [`super::portable`], whose bits these are.
impl<const T: usize> Tiles<T> for Avx512Vnni {
    #[inline]
    fn small<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Small, T>, sums: &mut [Sums; T]) {
        // SAFETY: the token exists, so the processor has these features.
        unsafe { small::<F, T>(slice, rows, sums) }
    }

    #[inline]
    fn large<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Large, T>, sums: &mut [Sums; T]) {
        // SAFETY: the token exists, so the processor has these features.
        unsafe { large::<F, T>(slice, rows, sums) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn small<F: Format, const T: usize>(
    Slice { panels, blocks }: Slice<'_>,
    Rows { values, meta, ahead }: Rows<'_, Small, T>,
    sums: &mut [Sums; T],
) {
    let mut tile: Tile<__m512, T> = [[_mm512_setzero_ps(); T]; PANELS];
    for t in 0..T {
        for p in 0..PANELS {
            tile[p][t] = floats(&sums[t].0[p]);
        }
    }
    for index in 0..blocks.min(BLOCKS) {
        ahead.ask(index);
        let block = [&panels[0].blocks[index], &panels[1].blocks[index]];
        let mut q = [&values[0][index]; T];
        for t in 1..T {
            q[t] = &values[t][index];
        }
        let dots = dots::<T, 0, 8>(block, q, 0);
        let scales = [floats(&block[0].scales[0]), floats(&block[1].scales[0])];
        for t in 0..T {
            let d = _mm512_set1_ps(meta[t].d[index]);
            for p in 0..PANELS {
                let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[p][t]), scales[p]);
                tile[p][t] = _mm512_fmadd_ps(product, d, tile[p][t]);
            }
        }
        if F::MINIMUM {
            let minimums = [floats(&block[0].minimums[0]), floats(&block[1].minimums[0])];
            for t in 0..T {
                let of_x = _mm512_set1_ps(meta[t].sums[index]);
                for p in 0..PANELS {
                    tile[p][t] = _mm512_fmadd_ps(minimums[p], of_x, tile[p][t]);
                }
            }
        }
    }
    for pair in 0..blocks.min(BLOCKS).div_ceil(2) {
        let weights = [floats(&panels[0].sums[pair]), floats(&panels[1].sums[pair])];
        for t in 0..T {
            let m = _mm512_set1_ps(meta[t].m[pair]);
            for p in 0..PANELS {
                tile[p][t] = _mm512_fmadd_ps(weights[p], m, tile[p][t]);
            }
        }
    }
    for t in 0..T {
        for p in 0..PANELS {
            store(tile[p][t], &mut sums[t].0[p]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn large<F: Format, const T: usize>(
    Slice { panels, blocks }: Slice<'_>,
    Rows { values, meta, ahead }: Rows<'_, Large, T>,
    sums: &mut [Sums; T],
) {
    let mut tile: Tile<__m512, T> = [[_mm512_setzero_ps(); T]; PANELS];
    for index in 0..blocks.min(BLOCKS) {
        ahead.ask(index);
        let block = [&panels[0].blocks[index], &panels[1].blocks[index]];
        let mut q = [&values[0][index]; T];
        for t in 1..T {
            q[t] = &values[t][index];
        }
        for half in 0..if F::HALVES { 2 } else { 1 } {
            let dots = match (F::HALVES, half) {
                (false, _) => dots::<T, 0, 8>(block, q, 0),
                (true, 0) => dots::<T, 0, 4>(block, q, 0),
                (true, _) => dots::<T, 4, 8>(block, q, 1),
            };
            for p in 0..PANELS {
                let scales = floats(&block[p].scales[half]);
                for t in 0..T {
                    let dot = _mm512_cvtepi32_ps(dots[p][t]);
                    tile[p][t] = _mm512_fmadd_ps(dot, scales, tile[p][t]);
                }
            }
            if F::MINIMUM {
                let minimums = [floats(&block[0].minimums[half]), floats(&block[1].minimums[half])];
                for t in 0..T {
                    let of_x = if F::HALVES {
                        meta[t].halves[2 * index + half]
                    } else {
                        meta[t].blocks[index]
                    };
                    let of_x = _mm512_set1_ps(of_x);
                    for p in 0..PANELS {
                        tile[p][t] = _mm512_fmadd_ps(minimums[p], of_x, tile[p][t]);
                    }
                }
            }
        }
    }
    let weights = [floats(&panels[0].sums[0]), floats(&panels[1].sums[0])];
    for t in 0..T {
        let (d, m) = (_mm512_set1_ps(meta[t].d), _mm512_set1_ps(meta[t].m));
        for p in 0..PANELS {
            let sum = _mm512_fmadd_ps(tile[p][t], d, floats(&sums[t].0[p]));
            store(_mm512_fmadd_ps(weights[p], m, sum), &mut sums[t].0[p]);
        }
    }
}

/// The integer dots of quads `FROM..TO` of a block, from `starts[half]` on.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dots<const T: usize, const FROM: usize, const TO: usize>(
    blocks: [&PanelBlock; PANELS],
    q: [&[[u8; 4]; 8]; T],
    half: usize,
) -> Tile<__m512i, T> {
    let mut dots = [[integers(&blocks[0].starts[half]); T], [integers(&blocks[1].starts[half]); T]];
    for column in FROM..TO {
        let weights = [bytes(&blocks[0].quads[column]), bytes(&blocks[1].quads[column])];
        for t in 0..T {
            let q = _mm512_set1_epi32(i32::from_le_bytes(q[t][column]));
            for p in 0..PANELS {
                dots[p][t] = _mm512_dpbusd_epi32(dots[p][t], q, weights[p]);
            }
        }
    }
    dots
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

#[inline]
#[target_feature(enable = "avx512f")]
fn store(value: __m512, to: &mut [f32; ROWS]) {
    // SAFETY: the reference is valid for 16 floats, and no alignment is asked for.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
}
