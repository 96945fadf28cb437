//! AVX2 with VNNI on 256 bits: what [`super::avx512`] does, on half a panel at a time.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::x86_64::*;

use super::half_panel::half_panel_tiles;
use super::{PARTS, Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::isa::AvxVnni;
use crate::kernels::panel::{BLOCKS, PanelBlock, ROWS};
use crate::kernels::quantize::{Large, Small};

half_panel_tiles!(AvxVnni, "avx2,fma,f16c,avxvnni", dots);

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
fn dots<F: Format, const T: usize, const FROM: usize, const TO: usize>(
    block: &PanelBlock,
    half_panel: usize,
    q: [&[[u8; 4]; 8]; T],
) -> [__m256i; T] {
    let half = if FROM == 0 { 0 } else { 1 };
    let starts = &block.starts[half][8 * half_panel..][..8];
    // SAFETY: the slice holds 8 numbers, and no alignment is asked for.
    let mut dots = [unsafe { _mm256_loadu_si256(starts.as_ptr().cast()) }; T];
    for column in FROM..TO {
        let weights = bytes(&block.quads[column], half_panel);
        for t in 0..T {
            let q = _mm256_set1_epi32(i32::from_le_bytes(q[t][column]));
            dots[t] = _mm256_dpbusd_avx_epi32(dots[t], q, weights);
        }
    }
    dots
}
