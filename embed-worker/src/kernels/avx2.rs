//! AVX2: 8 rows of weights in one register, two registers a panel.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs with *saturation* at 16 bits.
//! Values with a small bias stay unsigned: at most 63 * 127 * 2 = 16,002.
//! Values of the full byte are signed (the panel was flipped), and their sign moves over to the
//! activation: |w| is at most 128 and |q| at most 127, so a pair is at most 32,512, below 32,767
//! even for a hostile -128.

use std::arch::x86_64::*;

use super::block::Form;
use super::memory::{load_f256, load_i256, store_f256};
use super::panel::{PanelBlock, ROWS};
use super::quantize::Meta;

/// See [`super::portable::tile`], whose bits these are. `SIGNED` says that the panel was flipped, so
/// that there is no bias left to take off.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn tile<const T: usize, const HALVES: bool, const MINIMUM: bool, const SIGNED: bool>(
    form: Form,
    panel: &[PanelBlock],
    q: [&[i8]; T],
    meta: [&[Meta]; T],
) -> [[f32; ROWS]; T] {
    let blocks = panel.len();
    let q = q.map(|q| &q.as_chunks::<4>().0.as_chunks::<8>().0[..blocks]);
    let meta = meta.map(|meta| &meta[..blocks]);
    let bias = if SIGNED { 0 } else { form.bias };
    let ones = _mm256_set1_epi16(1);
    let mut out = [[0.0; ROWS]; T];
    for half_panel in 0..2 {
        let mut sums = [_mm256_setzero_ps(); T];
        for (index, block) in panel.iter().enumerate() {
            let mut low: [__m256i; T] = std::array::from_fn(|t| {
                let [low, high] = meta[t][index].q_sums;
                _mm256_set1_epi32(-bias * if HALVES { low } else { low + high })
            });
            let mut high: [__m256i; T] = std::array::from_fn(|t| {
                _mm256_set1_epi32(if HALVES { -bias * meta[t][index].q_sums[1] } else { 0 })
            });
            for (column, quad) in block.quads.iter().enumerate() {
                let weights = load_i256(&quad.as_chunks().0[half_panel]);
                let magnitude = if SIGNED { _mm256_abs_epi8(weights) } else { weights };
                let dots = if HALVES && column >= 4 { &mut high } else { &mut low };
                for t in 0..T {
                    let q = i32::from_le_bytes(q[t][index][column].map(i8::cast_unsigned));
                    let q = _mm256_set1_epi32(q);
                    let q = if SIGNED { _mm256_sign_epi8(q, weights) } else { q };
                    let pairs = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, q), ones);
                    dots[t] = _mm256_add_epi32(dots[t], pairs);
                }
            }
            let load = |rows: &[f32; ROWS]| load_f256(&rows.as_chunks().0[half_panel]);
            for t in 0..T {
                let meta = &meta[t][index];
                let mut dot = _mm256_mul_ps(_mm256_cvtepi32_ps(low[t]), load(&block.scales[0]));
                if HALVES {
                    let high = _mm256_cvtepi32_ps(high[t]);
                    dot = _mm256_fmadd_ps(high, load(&block.scales[1]), dot);
                }
                let mut sum = _mm256_fmadd_ps(dot, _mm256_set1_ps(meta.d), sums[t]);
                let minimums = &block.minimums;
                if MINIMUM && HALVES {
                    let half_sums = meta.half_sums.map(|sum| _mm256_set1_ps(sum));
                    sum = _mm256_fmadd_ps(load(&minimums[0]), half_sums[0], sum);
                    sum = _mm256_fmadd_ps(load(&minimums[1]), half_sums[1], sum);
                } else if MINIMUM {
                    sum = _mm256_fmadd_ps(load(&minimums[0]), _mm256_set1_ps(meta.sum), sum);
                }
                sums[t] = _mm256_fmadd_ps(load(&block.sums), _mm256_set1_ps(meta.m), sum);
            }
        }
        for t in 0..T {
            out[t].as_chunks_mut().0[half_panel] = store_f256(sums[t]);
        }
    }
    out
}
