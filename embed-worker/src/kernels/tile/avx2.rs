//! AVX2: 8 rows of weights in one register, two registers a panel.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs with *saturation* at 16 bits. The
//! weights' magnitudes are the unsigned side, and their signs move over to the activations: |w| is at
//! most 128 and |q| at most 127, so a pair is at most 32,512, below 32,767 even for a hostile -128.
//! The fewer bits a format has, the more such pairs fit into 16 bits before they must be widened.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;

use super::half_panel::half_panel_tiles;
use super::{PARTS, Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::isa::Avx2;
use crate::kernels::panel::{BLOCKS, PanelBlock, ROWS};
use crate::kernels::quantize::{Large, Small};

half_panel_tiles!(Avx2, "avx2,fma,f16c", dots);

/// Quads whose pairs of products are summed up in 16 bits: 1, 2, 4 or 8.
const fn run(magnitude: u8) -> usize {
    let fit = i16::MAX as usize / (2 * 127 * magnitude as usize);
    if fit >= 8 { 8 } else { 1 << fit.ilog2() }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dots<F: Format, const T: usize, const FROM: usize, const TO: usize>(
    block: &PanelBlock,
    half_panel: usize,
    q: [&[[u8; 4]; 8]; T],
) -> [__m256i; T] {
    let run = const { run(F::MAGNITUDE) }.min(TO - FROM);
    let ones = _mm256_set1_epi16(1);
    let mut dots = [_mm256_setzero_si256(); T];
    for first in (FROM..TO).step_by(run) {
        let mut sums = [_mm256_setzero_si256(); T];
        for column in first..first + run {
            let weights = bytes(&block.quads[column], half_panel);
            let magnitudes = if F::SIGNED { _mm256_abs_epi8(weights) } else { weights };
            for t in 0..T {
                let q = _mm256_set1_epi32(i32::from_le_bytes(q[t][column]));
                let q = if F::SIGNED { _mm256_sign_epi8(q, weights) } else { q };
                let pairs = _mm256_maddubs_epi16(magnitudes, q);
                sums[t] = if column == first { pairs } else { _mm256_add_epi16(sums[t], pairs) };
            }
        }
        for t in 0..T {
            dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(sums[t], ones));
        }
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::run;

    #[test]
    fn no_run_leaves_sixteen_bits() {
        for magnitude in 1..=128 {
            let largest = run(magnitude) * 2 * 127 * usize::from(magnitude);
            assert!(largest <= 32_767, "{magnitude}: {largest}");
        }
        assert_eq!([128, 127, 32, 31, 16, 15].map(run), [1, 1, 4, 4, 8, 8]);
    }
}
