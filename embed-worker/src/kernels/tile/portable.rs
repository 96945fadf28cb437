//! The law: what a product is, in plain Rust, one screen long.
//!
//! Every instruction set must give the same bits, so nothing here may be reordered:
//! for each block of 32 columns, the exact integer dot times the weight's scale, then by fused
//! multiply-adds times the activation's step, the minimum's part, the middle's part.

use std::marker::PhantomData;

use super::{Rows, Tile};
use crate::kernels::block::Format;
use crate::kernels::panel::{PanelBlock, QUAD, ROWS};
use crate::kernels::quantize::Meta;
use crate::kernels::simd::Portable;

/// Each panel by each row of activations.
pub(super) fn tile<F: Format, const P: usize, const T: usize>(
    _: Portable,
    panels: [&[PanelBlock]; P],
    _: PhantomData<F>,
    rows: &Rows<'_, T>,
) -> Tile<P, T> {
    panels.map(|panel| {
        let mut out = [[0.0; ROWS]; T];
        for (out, (q, meta)) in out.iter_mut().zip(rows.q.iter().zip(rows.meta)) {
            for ((block, q), meta) in panel.iter().zip(*q).zip(meta) {
                add_block::<F>(block, q, meta, out);
            }
        }
        out
    })
}

/// Adds the products of one block to `out`.
fn add_block<F: Format>(
    block: &PanelBlock,
    q: &[[u8; QUAD]; 8],
    meta: &Meta,
    out: &mut [f32; ROWS],
) {
    for (row, out) in out.iter_mut().enumerate() {
        let mut dots = [0_i32; 2];
        for (column, q) in q.iter().enumerate() {
            let values = &block.quads[column][QUAD * row..][..QUAD];
            for (value, q) in values.iter().zip(q) {
                dots[column / 4] += i32::from(*value) * i32::from(q.cast_signed());
            }
        }
        let scales = [block.scales[0][row], block.scales[1][row]];
        let dot = if F::HALVES {
            (dots[1] as f32).mul_add(scales[1], dots[0] as f32 * scales[0])
        } else {
            (dots[0] + dots[1]) as f32 * scales[0]
        };
        *out = dot.mul_add(meta.d, *out);
        if F::MINIMUM && F::HALVES {
            *out = block.minimums[0][row].mul_add(meta.half_sums[0], *out);
            *out = block.minimums[1][row].mul_add(meta.half_sums[1], *out);
        } else if F::MINIMUM {
            *out = block.minimums[0][row].mul_add(meta.sum, *out);
        }
        *out = block.sums[row].mul_add(meta.m, *out);
    }
}
