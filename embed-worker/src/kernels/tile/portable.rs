//! The law: what a product is, in plain Rust, one screen long.
//!
//! Every instruction set must give the same bits, so nothing here may be reordered:
//! for each block of 32 columns, the exact integer dot times the weight's scale, then by fused
//! multiply-adds times the activation's step, the minimum's part, the middle's part.

use std::marker::PhantomData;

use super::Rows;
use crate::kernels::block::Format;
use crate::kernels::panel::{PanelBlock, QUAD, ROWS};
use crate::kernels::simd::Portable;

/// 16 rows of weights by `T` rows of activations: `out[t][row]`.
pub(in crate::kernels) fn tile<F: Format, const T: usize>(
    _: Portable,
    panel: &[PanelBlock],
    _: PhantomData<F>,
    rows: &Rows<'_, T>,
) -> [[f32; ROWS]; T] {
    let mut out = [[0.0_f32; ROWS]; T];
    for (t, out) in out.iter_mut().enumerate() {
        for ((block, q), meta) in panel.iter().zip(rows.q[t]).zip(rows.meta[t]) {
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
    }
    out
}
