//! NEON with dots of bytes: four products of signed bytes are added to each 32-bit lane at once.
//!
//! A register takes 16 activations of a token, four quads; the instruction names the one that meets
//! all of its rows, so that nothing need be broadcast.
#![expect(unsafe_code, reason = "instructions that the token's existence vouches for")]

use std::arch::aarch64::*;
use std::arch::asm;

use super::quarter_panel::{Pair, quarter_panel_tiles};
use super::{PARTS, Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::isa::NeonDot;
use crate::kernels::panel::{BLOCKS, PanelBlock, ROWS};
use crate::kernels::quantize::{Large, Small};

quarter_panel_tiles!(NeonDot, "neon,dotprod", dots);

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dots<F: Format, const T: usize, const FROM: usize, const TO: usize>(
    block: &PanelBlock,
    half_panel: usize,
    q: [&[[u8; 4]; 8]; T],
) -> [Pair<int32x4_t>; T] {
    let mut dots = [[vdupq_n_s32(0); 2]; T];
    for half in FROM / 4..TO / 4 {
        let mut activations = [vdupq_n_s8(0); T];
        for t in 0..T {
            let four = q[t][4 * half..][..4].as_flattened();
            // SAFETY: the slice holds 16 bytes, and no alignment is asked for.
            activations[t] = unsafe { vld1q_s8(four.as_ptr().cast()) };
        }
        let quads = &block.quads[4 * half..][..4];
        dots = quad::<T, 0>(dots, bytes(&quads[0], half_panel), activations);
        dots = quad::<T, 1>(dots, bytes(&quads[1], half_panel), activations);
        dots = quad::<T, 2>(dots, bytes(&quads[2], half_panel), activations);
        dots = quad::<T, 3>(dots, bytes(&quads[3], half_panel), activations);
    }
    dots
}

/// Adds the products of one quad of columns, which is number `LANE` of the activations'.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn quad<const T: usize, const LANE: i32>(
    mut dots: [Pair<int32x4_t>; T],
    weights: Pair<int8x16_t>,
    q: [int8x16_t; T],
) -> [Pair<int32x4_t>; T] {
    for t in 0..T {
        for r in 0..2 {
            dots[t][r] = sdot::<LANE>(dots[t][r], weights[r], q[t]);
        }
    }
    dots
}

/// What `vdotq_laneq_s32` will be when the compiler lets it out.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: i32>(mut sums: int32x4_t, weights: int8x16_t, q: int8x16_t) -> int32x4_t {
    // SAFETY: one instruction on registers, which this function's features switch on.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {weights:v}.16b, {q:v}.4b[{lane}]",
            sums = inout(vreg) sums,
            weights = in(vreg) weights,
            q = in(vreg) q,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
