//! NEON without dots of bytes: products of 16 bits, added up there and then by pairs to 32.
//!
//! Both sides are signed: |w| is at most 128 and |q| at most 127, so two products are at most 32,512,
//! below 32,767 even for a hostile -128. The fewer bits a format has, the more products fit into 16
//! bits before they must be widened.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::aarch64::*;

use super::quarter_panel::{Pair, quarter_panel_tiles};
use super::{PARTS, Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::isa::Neon;
use crate::kernels::panel::{BLOCKS, PanelBlock, ROWS};
use crate::kernels::quantize::{Large, Small};

quarter_panel_tiles!(Neon, "neon", dots);

/// Quads whose products are summed up in 16 bits: 2, 4 or 8.
const fn run(magnitude: u8) -> usize {
    let fit = i16::MAX as usize / (127 * magnitude as usize);
    if fit >= 8 { 8 } else { 1 << fit.ilog2() }
}

#[inline]
#[target_feature(enable = "neon")]
fn dots<F: Format, const T: usize, const FROM: usize, const TO: usize>(
    block: &PanelBlock,
    half_panel: usize,
    q: [&[[u8; 4]; 8]; T],
) -> [Pair<int32x4_t>; T] {
    let run = const { run(F::MAGNITUDE) }.min(TO - FROM);
    let mut dots = [[vdupq_n_s32(0); 2]; T];
    for t in 0..T {
        // Two registers of products for each register of weights: of its lower rows, and of its
        // upper ones.
        let mut wide = [[vdupq_n_s32(0); 2]; 2];
        for first in (FROM..TO).step_by(run) {
            let mut sums = [[vdupq_n_s16(0); 2]; 2];
            for column in first..first + run {
                let weights = bytes(&block.quads[column], half_panel);
                let q = vdupq_n_u32(u32::from_le_bytes(q[t][column]));
                let q = vreinterpretq_s8_u32(q);
                for r in 0..2 {
                    let (low_weights, low_q) = (vget_low_s8(weights[r]), vget_low_s8(q));
                    sums[r] = if column == first {
                        [vmull_s8(low_weights, low_q), vmull_high_s8(weights[r], q)]
                    } else {
                        [
                            vmlal_s8(sums[r][0], low_weights, low_q),
                            vmlal_high_s8(sums[r][1], weights[r], q),
                        ]
                    };
                }
            }
            for r in 0..2 {
                for rows in 0..2 {
                    wide[r][rows] = vpadalq_s16(wide[r][rows], sums[r][rows]);
                }
            }
        }
        for r in 0..2 {
            dots[t][r] = vpaddq_s32(wide[r][0], wide[r][1]);
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
            let largest = run(magnitude) * 127 * usize::from(magnitude);
            assert!(largest <= 32_767, "{magnitude}: {largest}");
        }
        assert_eq!([128, 127, 64, 32, 31, 16].map(run), [2, 2, 4, 8, 8, 8]);
    }
}
