//! AVX-512 with VNNI: 16 rows of weights in one register, a quad of columns an instruction.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes and adds four products to each 32-bit lane without
//! saturating. The weights are the unsigned side, bias and all; the accumulator starts at
//! `-bias * sum(q)`, so that the bias is gone at the end. 32 products of at most 255 * 127 stay far
//! below 2^31.

use std::arch::x86_64::*;

use super::block::Form;
use super::memory::{load_f512, load_i512, store_f512};
use super::panel::{PanelBlock, ROWS};
use super::quantize::Meta;

/// See [`super::portable::tile`], whose bits these are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
pub(super) fn tile<const T: usize, const HALVES: bool, const MINIMUM: bool>(
    form: Form,
    panel: &[PanelBlock],
    q: [&[i8]; T],
    meta: [&[Meta]; T],
) -> [[f32; ROWS]; T] {
    let blocks = panel.len();
    let q = q.map(|q| &q.as_chunks::<4>().0.as_chunks::<8>().0[..blocks]);
    let meta = meta.map(|meta| &meta[..blocks]);
    let mut sums = [_mm512_setzero_ps(); T];
    for (index, block) in panel.iter().enumerate() {
        let mut low: [__m512i; T] = std::array::from_fn(|t| {
            let [low, high] = meta[t][index].q_sums;
            _mm512_set1_epi32(-form.bias * if HALVES { low } else { low + high })
        });
        let mut high: [__m512i; T] = std::array::from_fn(|t| {
            _mm512_set1_epi32(if HALVES { -form.bias * meta[t][index].q_sums[1] } else { 0 })
        });
        for (column, quad) in block.quads.iter().enumerate() {
            let weights = load_i512(quad);
            let dots = if HALVES && column >= 4 { &mut high } else { &mut low };
            for t in 0..T {
                let q = _mm512_set1_epi32(i32::from_le_bytes(
                    q[t][index][column].map(i8::cast_unsigned),
                ));
                dots[t] = _mm512_dpbusd_epi32(dots[t], weights, q);
            }
        }
        let scales = [load_f512(&block.scales[0]), load_f512(&block.scales[1])];
        let minimums = [load_f512(&block.minimums[0]), load_f512(&block.minimums[1])];
        let weight_sums = load_f512(&block.sums);
        for t in 0..T {
            let meta = &meta[t][index];
            let mut dot = _mm512_mul_ps(_mm512_cvtepi32_ps(low[t]), scales[0]);
            if HALVES {
                dot = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[t]), scales[1], dot);
            }
            let mut sum = _mm512_fmadd_ps(dot, _mm512_set1_ps(meta.d), sums[t]);
            if MINIMUM && HALVES {
                sum = _mm512_fmadd_ps(minimums[0], _mm512_set1_ps(meta.half_sums[0]), sum);
                sum = _mm512_fmadd_ps(minimums[1], _mm512_set1_ps(meta.half_sums[1]), sum);
            } else if MINIMUM {
                sum = _mm512_fmadd_ps(minimums[0], _mm512_set1_ps(meta.sum), sum);
            }
            sums[t] = _mm512_fmadd_ps(weight_sums, _mm512_set1_ps(meta.m), sum);
        }
    }
    sums.map(|sum| store_f512(sum))
}
